//! Sets or clears the opt-out flag on the person's record: the newest state by event time, whatever arrives when.

use std::sync::Arc;

use async_trait::async_trait;
use hookline_common::names::{HandlerName, OperationClass, SkipReason};
use hookline_common::time::Timestamp;
use hookline_store::Store;

use super::Clients;
use super::record_opt_out::{opt_event, opt_out_payload};
use crate::gate::Gate;
use crate::handler::{Attempt, Handler, HandlerError, Outcome};
use crate::records::SystemOfRecord;

pub(super) struct FlagOptOut {
    store: Store,
    records: Arc<dyn SystemOfRecord>,
}

impl FlagOptOut {
    pub(super) fn new(clients: &Clients) -> Self {
        Self { store: clients.store.clone(), records: Arc::clone(&clients.records) }
    }
}

#[async_trait]
impl Handler for FlagOptOut {
    fn name(&self) -> HandlerName {
        HandlerName::FlagOptOut
    }

    fn gates(&self) -> Vec<(Arc<Gate>, &'static [OperationClass])> {
        Vec::new()
    }

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, HandlerError> {
        let payload = opt_out_payload(attempt)?;
        // An opt-in whose time cannot be read proves nothing about now; an opt-out counts from its arrival.
        let own_time = match (payload.event_time, payload.opted_out) {
            (Some(at), _) => at,
            (None, true) => attempt.event.received_at,
            (None, false) => Timestamp::EPOCH,
        };
        let own = (payload.opted_out, own_time);
        // First, and whoever else does it as well: who makes the person's record after this finds the state, and who
        // made it before is found below. Otherwise a flag could fall between the two.
        self.store.record_opt_event(&opt_event(attempt, &payload)).await?;
        let newest = match self.store.newest_state(&payload.phone).await? {
            Some(known) => newer(known, own),
            None => own,
        };

        let people = self.records.find_people(attempt, None, Some(&payload.phone)).await?;
        if people.is_empty() {
            return Ok(Outcome::Skipped(SkipReason::UnknownContact));
        }
        let mut changed = false;
        // The phone was opted out, not one of the people who share it.
        for person in &people {
            changed |= self.records.set_opt_out(attempt, person, &payload.phone, newest.0, newest.1).await?;
        }

        Ok(match (changed, newest.0 == own.0) {
            (true, _) => Outcome::Done,
            (false, true) => Outcome::Skipped(SkipReason::Unchanged),
            (false, false) => Outcome::Skipped(SkipReason::Stale),
        })
    }
}

/// The newer of two states; a tie stays opted out.
fn newer(a: (bool, Timestamp), b: (bool, Timestamp)) -> (bool, Timestamp) {
    match a.1.cmp(&b.1) {
        std::cmp::Ordering::Greater => a,
        std::cmp::Ordering::Less => b,
        std::cmp::Ordering::Equal => (a.0 || b.0, a.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_state_counts_and_a_tie_stays_opted_out() {
        let at = Timestamp::from_millis;
        assert_eq!(newer((true, at(1)), (false, at(2))), (false, at(2)));
        assert_eq!(newer((false, at(2)), (true, at(1))), (false, at(2)));
        assert_eq!(newer((false, at(2)), (true, at(2))), (true, at(2)));
    }
}
