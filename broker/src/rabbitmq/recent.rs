//! Ids of events that were stored lately, to recognise a sender's repeats. Best effort: a replica of ingest knows only
//! its own events, and forgets. A miss costs only a label in a metric, because effects are keyed by the fact.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use hookline_common::event::EventId;

/// Ids per generation; two generations are kept. They take about 3 MiB when full.
const GENERATION: usize = 32_768;

#[derive(Default)]
pub(super) struct Recent(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashSet<u128>,
    old: HashSet<u128>,
}

impl Recent {
    pub(super) fn holds(&self, id: &EventId) -> bool {
        let Some(key) = key(id) else { return false };
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.contains(&key) || generations.old.contains(&key)
    }

    pub(super) fn add(&self, id: &EventId) {
        let Some(key) = key(id) else { return };
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= GENERATION {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key);
    }
}

/// The 128 bits in an event id.
fn key(id: &EventId) -> Option<u128> {
    u128::from_str_radix(id.as_str().strip_prefix("evt_")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookline_common::event::SourceName;

    #[test]
    fn the_last_ids_are_known_and_old_ones_are_forgotten() {
        let source = SourceName::new("textus").expect("a name");
        let id = |number: usize| EventId::derive(&source, Some(&number.to_string()), b"");
        let recent = Recent::default();
        for number in 0..3 * GENERATION {
            recent.add(&id(number));
        }

        assert!(recent.holds(&id(3 * GENERATION - 1)));
        assert!(recent.holds(&id(2 * GENERATION)));
        assert!(!recent.holds(&id(0)));
        assert!(!recent.holds(&id(3 * GENERATION)));
    }
}
