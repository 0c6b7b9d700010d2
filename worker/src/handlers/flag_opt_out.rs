//! Sets or clears the opt-out flag on the person's record. The newest state by event time wins, in whatever order
//! events arrive.

use std::sync::Arc;

use async_trait::async_trait;
use hookline_common::event::Keyword;
use hookline_common::names::{HandlerName, OperationClass, SkipReason};
use hookline_common::phone::Phone;
use hookline_common::settings::Settings;
use hookline_store::Store;

use super::opt_out_event::{self, OptOutEvents};
use super::{Clients, people};
use crate::delivery::handler::{Attempt, Failure, Handler, HandlerError, Outcome};
use crate::gate::Gate;
use crate::records::{self, OptOutFlag, SystemOfRecord};
use crate::textus::payload::OptOutPayload;

pub(crate) struct FlagOptOut {
    store: Store,
    events: OptOutEvents,
    records: Arc<dyn SystemOfRecord>,
    /// The accounts that `record_opt_out` PUTs to. Whichever of the two handlers sees an opt-out first stores them with
    /// its record.
    targets: Vec<String>,
}

impl FlagOptOut {
    pub(crate) fn new(settings: &Settings, clients: &Clients) -> Self {
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

/// Whom a search found, and what was changed on their records.
pub(crate) struct Flagged {
    pub(crate) is_anybody: bool,
    /// The state that the records have now.
    opted_out: bool,
    /// One for each record that was changed.
    pub(crate) remarks: Vec<String>,
}

/// Flags everyone who has the number now.
async fn flag_everyone(
    store: &Store,
    records: &dyn SystemOfRecord,
    attempt: &Attempt<'_>,
    phone: &Phone,
    newest: OptOutFlag,
) -> Result<Flagged, HandlerError> {
    let people = records.find_people(attempt, None, Some(phone)).await?;
    let mut remarks = Vec::new();
    // The phone was opted out, not one of the people who share it.
    let mut failed: Option<HandlerError> = None;
    for person in &people {
        match people::flag(store, records, attempt, person, phone, newest).await {
            Ok(remark) => remarks.extend(remark),
            Err(error) if error.blocks_everything() => return Err(error),
            // One record that refuses keeps nobody else from being flagged. A failure that a retry can cure counts
            // before one that it can't.
            Err(error) if failed.as_ref().is_none_or(HandlerError::is_final) => failed = Some(error),
            Err(_another) => {}
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(Flagged { is_anybody: !people.is_empty(), opted_out: newest.opted_out, remarks })
}

/// Writes what is known of a number onto every record that has it. Returns `None` if nothing is known.
pub(crate) async fn flag_known(
    store: &Store,
    records: &dyn SystemOfRecord,
    attempt: &Attempt<'_>,
    phone: &Phone,
) -> Result<Option<Flagged>, HandlerError> {
    match people::newest_flag(store, phone).await? {
        Some(newest) => flag_everyone(store, records, attempt, phone, newest).await.map(Some),
        None => Ok(None),
    }
}

impl FlagOptOut {
    /// Flags everyone who has the number now.
    async fn flag_all(&self, attempt: &Attempt<'_>, payload: &OptOutPayload) -> Result<Flagged, HandlerError> {
        let newest = match people::newest_flag(&self.store, &payload.phone).await? {
            Some(newest) => newest,
            // Only an opt-in whose time can't be read leaves no state; it proves nothing about now.
            None => OptOutFlag::unproved(payload.opted_out),
        };
        flag_everyone(&self.store, self.records.as_ref(), attempt, &payload.phone, newest).await
    }

    /// Searches the people of an opt-out once more, and flags those whom the index did not have before.
    pub(crate) async fn search_again(&self, attempt: &Attempt<'_>) -> Result<Vec<String>, HandlerError> {
        let Some(payload) = self.events.read(attempt.event)? else { return Ok(Vec::new()) };
        Ok(self.flag_all(attempt, &payload).await?.remarks)
    }
}

#[async_trait]
impl Handler for FlagOptOut {
    fn name(&self) -> HandlerName {
        HandlerName::FlagOptOut
    }

    fn gates(&self) -> Vec<(Arc<Gate>, &'static [OperationClass])> {
        records::gates(self.records.as_ref(), &[OperationClass::OptOutWrites])
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
        if let Some(after) = self.records.search_again_after().first() {
            self.store.plan_flag_check(&attempt.event.id, *after).await?;
        }
        let Flagged { is_anybody, opted_out, remarks } = self.flag_all(attempt, &payload).await?;
        let outcome = match (remarks.is_empty(), opted_out == payload.opted_out) {
            _ if !is_anybody => Outcome::skipped(SkipReason::UnknownContact),
            (false, _) => Outcome::done(),
            (true, true) => Outcome::skipped(SkipReason::Unchanged),
            (true, false) => Outcome::skipped(SkipReason::Stale),
        };
        Ok(outcome.with_remarks(opt_out_event::remark_on_date(attempt.event, &payload)).with_remarks(remarks))
    }
}
