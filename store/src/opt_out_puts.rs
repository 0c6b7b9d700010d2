//! Whether an opt-out is still to be PUT, and how the PUT ended.
//!
//! State alone never decides about a PUT: the ledger does, in one order for all processes, because deciding and
//! writing `put_sent` are one transaction on the ledger's head row. The call itself is made after it.

use hookline_common::event::EventId;
use hookline_common::phone::Phone;

use crate::Store;
use crate::earlier_puts::Earlier;
use crate::error::StoreError;
use crate::ledger::Entry;
use crate::model::{LedgerKind, OptEvent, OptStanding, PutAnswer, PutDecision};
use crate::opt_asks::{Changes, Known, OptAsk};
use crate::opt_outs::{Opt, effective_time, standing};

impl Store {
    /// Whether this opt-out is still to be PUT to `target`. On [`PutDecision::Put`] the ledger holds `put_sent`
    /// when this returns; a retry by the same event is `Put` again until its answer is in.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn decide_put(&self, event: &OptEvent<'_>, target: &str) -> Result<PutDecision, StoreError> {
        self.opt_asks.ask(OptAsk::Decide(Opt::from(event), target.to_owned())).await?.decision()
    }

    /// Records the opt-out as [`Store::record_opt_event`] does and, where it is current, decides as
    /// [`Store::decide_put`] does, in one transaction. `None` where it is stale.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn record_and_decide(
        &self,
        event: &OptEvent<'_>,
        target: &str,
    ) -> Result<Option<PutDecision>, StoreError> {
        self.opt_asks.ask(OptAsk::RecordAndDecide(Opt::from(event), target.to_owned())).await?.recorded()
    }

    /// How the PUT ended.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_answered(
        &self,
        event_id: &EventId,
        phone: &Phone,
        target: &str,
        answer: PutAnswer,
    ) -> Result<(), StoreError> {
        let put = Put {
            event_id: event_id.as_str().to_owned(),
            phone: phone.as_e164().to_owned(),
            target: target.to_owned(),
        };
        self.opt_asks.ask(OptAsk::Answered(put, answer)).await.map(drop)
    }
}

/// A PUT that was made.
#[derive(Clone)]
pub(crate) struct Put {
    pub(crate) event_id: String,
    pub(crate) phone: String,
    target: String,
}

/// Whether to PUT, by what was recorded and by what was PUT before.
pub(crate) fn decide(opt: &Opt, target: &str, known: &Known, earlier: &Earlier, changes: &mut Changes) -> PutDecision {
    if let Some(made) = earlier.explains() {
        return made;
    }
    let time = known.recorded.unwrap_or_else(|| effective_time(opt, None));
    // An opt-in may have been recorded since this event was: our own echo, overtaken by it between the two, would
    // otherwise opt the person out again.
    if standing(opt.opted_out, time, known.newest_out, known.newest_in) == OptStanding::Stale {
        return PutDecision::Stale;
    }
    let mut entry = Entry::new(LedgerKind::PutSent, &opt.event_id, target, &opt.phone);
    entry.event_time_ms = time;
    changes.entries.push(entry);
    PutDecision::Put
}

pub(crate) fn answered(put: &Put, answer: PutAnswer, changes: &mut Changes) {
    let Put { event_id, phone, target } = put;
    let (status, read_back) = match answer {
        PutAnswer::Status(status) => (Some(i64::from(status)), false),
        PutAnswer::ReadBack(status) => (Some(i64::from(status)), true),
        PutAnswer::NoAnswer | PutAnswer::NotSent => (None, false),
    };
    let mut entry = Entry::new(LedgerKind::PutAnswered, event_id, target, phone);
    entry.status = status;
    entry.reason = (answer == PutAnswer::NotSent).then(|| NOT_SENT.to_owned());
    changes.entries.push(entry);
    if read_back {
        let mut entry = Entry::new(LedgerKind::ReadBack, event_id, target, phone);
        // The GET that showed the opt-out.
        entry.status = Some(200);
        changes.entries.push(entry);
    }
}

/// Reason of a `put_answered` row whose call never left this machine.
pub(crate) const NOT_SENT: &str = "not_sent";
