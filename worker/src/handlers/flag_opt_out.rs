//! Sets or clears the opt-out flag on the person's record. The newest state by event time wins, in whatever order
//! events arrive.

use std::sync::Arc;

use async_trait::async_trait;
use hookline_common::event::Keyword;
use hookline_common::names::{HandlerName, OperationClass, SkipReason};
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::Store;

use super::opt_out_event::{self, OptOutEvents};
use super::{Clients, people};
use crate::delivery::handler::{Attempt, Failure, Handler, Outcome};
use crate::gate::Gate;
use crate::records::SystemOfRecord;

pub(super) struct FlagOptOut {
    store: Store,
    events: OptOutEvents,
    records: Arc<dyn SystemOfRecord>,
    /// The accounts that `record_opt_out` PUTs to. Whichever of the two handlers sees an opt-out first stores them with
    /// its record.
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

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, Failure> {
        let Some(payload) = self.events.read(attempt.event)? else { return Ok(opt_out_event::nobody()) };
        if payload.keyword == Some(Keyword::Start) {
            // A START changes no state.
            return Ok(Outcome::skipped(SkipReason::NoAction));
        }
        // Record the event first, even if another handler records it too. A person's record that is created later then
        // picks up the state, and one created earlier is found below. Otherwise a flag could get lost between the two.
        self.store.record_opt_event(&self.events.opt_event(attempt.event, &payload, &self.targets)).await?;
        // Only an opt-in whose time can't be read leaves no state; it proves nothing about now.
        let newest = self.store.newest_state(&payload.phone).await?;
        let (opted_out, since) = newest.unwrap_or((payload.opted_out, Timestamp::EPOCH));

        let people = self.records.find_people(attempt, None, Some(&payload.phone)).await?;
        let mut flagged = Vec::new();
        // The phone was opted out, not one of the people who share it.
        for person in &people {
            let whose = (&person.id, &payload.phone);
            flagged.extend(people::flag(self.records.as_ref(), attempt, whose, opted_out, since).await?);
        }

        let outcome = match (flagged.is_empty(), opted_out == payload.opted_out) {
            _ if people.is_empty() => Outcome::skipped(SkipReason::UnknownContact),
            (false, _) => Outcome::done(),
            (true, true) => Outcome::skipped(SkipReason::Unchanged),
            (true, false) => Outcome::skipped(SkipReason::Stale),
        };
        Ok(outcome.with_remarks(opt_out_event::remark_on_date(attempt.event, &payload)).with_remarks(flagged))
    }
}
