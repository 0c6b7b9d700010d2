//! Estimates how long the oldest event that isn't in the history yet may have waited.

use std::sync::atomic::{AtomicI64, Ordering};

use hookline_common::event::Event;
use hookline_common::time::Timestamp;

/// Estimates the age of the history's backlog on a broker that doesn't report it. The oldest waiting event arrived no
/// earlier than the queue was last seen empty, and no earlier than the last event that was recorded.
pub(crate) struct HistoryLag {
    seen_empty_ms: AtomicI64,
    recorded_ms: AtomicI64,
}

impl Default for HistoryLag {
    fn default() -> Self {
        Self { seen_empty_ms: AtomicI64::new(Timestamp::now().as_millis()), recorded_ms: AtomicI64::new(0) }
    }
}

impl HistoryLag {
    /// Returns the earliest time at which the oldest of `waiting` events can have arrived; `None` if none waits.
    pub(crate) fn oldest(&self, waiting: u64, now: Timestamp) -> Option<Timestamp> {
        if waiting == 0 {
            self.seen_empty_ms.store(now.as_millis(), Ordering::Relaxed);
            return None;
        }
        let since = self.seen_empty_ms.load(Ordering::Relaxed).max(self.recorded_ms.load(Ordering::Relaxed));
        Some(Timestamp::from_millis(since))
    }

    pub(crate) fn recorded(&self, event: &Event) {
        self.recorded_ms.store(event.received_at.as_millis(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use hookline_common::testing::events::an_opt_out;

    use super::*;

    #[test]
    fn what_waits_for_the_history_has_waited_since_it_was_last_empty_or_last_recorded() {
        let lag = HistoryLag::default();
        let at = |seconds: i64| Timestamp::from_millis(4_000_000_000_000 + seconds * 1000);
        assert_eq!(lag.oldest(0, at(0)), None);
        assert_eq!(lag.oldest(3, at(60)), Some(at(0)));
        // Events flow, though the queue is never seen empty.
        lag.recorded(&Event { received_at: at(100), ..an_opt_out() });
        assert_eq!(lag.oldest(3, at(101)), Some(at(100)));
        assert_eq!(lag.oldest(3, at(500)), Some(at(100)), "nothing was recorded since");
        assert_eq!(lag.oldest(0, at(600)), None);
        assert_eq!(lag.oldest(1, at(900)), Some(at(600)));
    }
}
