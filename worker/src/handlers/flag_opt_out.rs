//! Sets or clears the opt-out flag on the person's record: the newest state by event time, whatever arrives when.

use std::sync::Arc;

use async_trait::async_trait;
use hookline_common::event::Keyword;
use hookline_common::names::{HandlerName, OperationClass, SkipReason};
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::Store;

use super::Clients;
use super::opt_out_event::OptOutEvents;
use crate::delivery::handler::{Attempt, Handler, HandlerError, Outcome};
use crate::gate::Gate;
use crate::records::SystemOfRecord;

pub(super) struct FlagOptOut {
    store: Store,
    events: OptOutEvents,
    records: Arc<dyn SystemOfRecord>,
    /// Where `record_opt_out` PUTs: whichever of the two sees an opt-out first keeps them with its record.
    targets: Vec<String>,
}

impl FlagOptOut {
    pub(super) fn new(settings: &Settings, clients: &Clients) -> Self {
        let record = &settings.handlers.record_opt_out;
        let targets = if record.basics.enabled { record.accounts.clone() } else { Vec::new() };
        Self {
            store: clients.store.clone(),
            events: OptOutEvents::new(settings),
            records: Arc::clone(&clients.records),
            targets,
        }
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
        let payload = match self.events.read(attempt)? {
            Some(payload) if payload.keyword != Some(Keyword::Start) => payload,
            // It changes no state.
            Some(_) | None => return Ok(Outcome::Skipped(SkipReason::NoAction)),
        };
        // First, and whoever else does it as well: who makes the person's record after this finds the state, and who
        // made it before is found below. Otherwise a flag could fall between the two.
        self.store.record_opt_event(&self.events.opt_event(attempt, &payload, &self.targets)).await?;
        // Nothing but an opt-in whose time cannot be read leaves no state; it proves nothing about now.
        let newest = self.store.newest_state(&payload.phone).await?;
        let (opted_out, since) = newest.unwrap_or((payload.opted_out, Timestamp::EPOCH));

        let people = self.records.find_people(attempt, None, Some(&payload.phone)).await?;
        if people.is_empty() {
            return Ok(Outcome::Skipped(SkipReason::UnknownContact));
        }
        let mut changed = false;
        // The phone was opted out, not one of the people who share it.
        for person in &people {
            changed |= self.records.set_opt_out(attempt, &person.id, &payload.phone, opted_out, since).await?;
        }

        Ok(match (changed, opted_out == payload.opted_out) {
            (true, _) => Outcome::Done,
            (false, true) => Outcome::Skipped(SkipReason::Unchanged),
            (false, false) => Outcome::Skipped(SkipReason::Stale),
        })
    }
}
