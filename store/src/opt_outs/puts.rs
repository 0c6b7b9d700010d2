//! Decides whether an opt-out must still be PUT, and records how the PUT ended.
//!
//! State alone never decides about a PUT. The ledger does, in one order for all processes, because one transaction on
//! the ledger's head row both decides and writes `put_sent`. The call itself comes after that transaction.

use hookline_common::event::EventId;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;

use crate::Store;
use crate::db::error::StoreError;
use crate::opt_outs::asks::{Changes, OptAsk};
use crate::opt_outs::earlier_puts::{self, Past};
use crate::opt_outs::ledger::Entry;
use crate::opt_outs::model::{LedgerKind, OptEvent, OptMethod, OptStanding, PutAnswer, PutDecision};
use crate::opt_outs::{Opt, standing, times};

impl Store {
    /// Decides whether this opt-out must still be PUT to `target`. On [`PutDecision::Put`] the ledger holds `put_sent`
    /// when this returns. A retry by the same event gets `Put` again until its answer is recorded.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn decide_put(&self, event: &OptEvent<'_>, target: &str) -> Result<PutDecision, StoreError> {
        let decision = self.opt_asks.ask(OptAsk::Decide(Opt::from(event), target.to_owned())).await?.decision()?;
        Ok(self.wait_by_our_clock(decision))
    }

    /// Records the opt-out like [`Store::record_opt_event`] and, if it is current, decides like [`Store::decide_put`],
    /// in one transaction. Returns `None` if the opt-out is stale.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn record_and_decide(
        &self,
        event: &OptEvent<'_>,
        target: &str,
    ) -> Result<Option<PutDecision>, StoreError> {
        let ask = OptAsk::RecordAndDecide(Opt::from(event), target.to_owned());
        Ok(self.opt_asks.ask(ask).await?.recorded()?.map(|decision| self.wait_by_our_clock(decision)))
    }

    fn wait_by_our_clock(&self, decision: PutDecision) -> PutDecision {
        match decision {
            PutDecision::Wait { until } => PutDecision::Wait { until: self.db.clock().here(until) },
            PutDecision::Put
            | PutDecision::Echo
            | PutDecision::Duplicate
            | PutDecision::AlreadyDone
            | PutDecision::Stale => decision,
        }
    }

    /// Records how the PUT ended.
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

/// Decides whether to PUT, from recorded events and earlier PUTs. `in_flight` is the end of another event's claim, if
/// that event has an unanswered PUT.
pub(crate) fn decide(
    opt: &Opt,
    target: &str,
    past: &Past,
    in_flight: Option<Timestamp>,
    changes: &mut Changes,
) -> PutDecision {
    // This event's own PUT takes precedence over other events' PUTs.
    if earlier_puts::own_is_proved(past, &opt.event_id, target) {
        return PutDecision::Duplicate;
    }
    // An opt-in may have been recorded since this event. If it overtook our own echo in between, a PUT would opt the
    // person out again.
    let Some(times) = times(opt, past).filter(|_| standing(opt, past) == OptStanding::Current) else {
        return PutDecision::Stale;
    };
    // The event's time is also capped by the clock that dates our PUTs. If that clock were far behind the one that
    // dates receipts, every echo would look like news, and we would PUT it and get the next echo.
    let by_our_clock = Timestamp::from_millis(times.cut).min(Timestamp::now());
    if earlier_puts::is_explained(past, &opt.event_id, times, by_our_clock, target) {
        // A person's text is no echo of our PUT.
        let may_be_echo = opt.account == target && opt.method == OptMethod::Webhook;
        return if may_be_echo { PutDecision::Echo } else { PutDecision::AlreadyDone };
    }
    if let Some(until) = in_flight {
        return PutDecision::Wait { until };
    }
    changes.entries.push(Entry::of(LedgerKind::PutSent, opt, target));
    PutDecision::Put
}

pub(crate) fn answered(put: &Put, answer: PutAnswer, changes: &mut Changes) {
    let Put { event_id, phone, target } = put;
    let entry = |kind, status: Option<u16>, reason: Option<&str>| Entry {
        status: status.map(i64::from),
        reason: reason.map(str::to_owned),
        ..Entry::new(kind, event_id, target, phone)
    };
    let unproven = |status: u16| (200..300).contains(&status).then_some(UNPROVEN);
    let (status, reason) = match answer {
        PutAnswer::Status(status) => (Some(status), None),
        PutAnswer::Unproven(status) | PutAnswer::ReadBack(status) => (Some(status), unproven(status)),
        PutAnswer::NoAnswer => (None, None),
        PutAnswer::NotSent => (None, Some(NOT_SENT)),
    };
    changes.entries.push(entry(LedgerKind::PutAnswered, status, reason));
    if matches!(answer, PutAnswer::ReadBack(_)) {
        // The GET that showed the opt-out.
        changes.entries.push(entry(LedgerKind::ReadBack, Some(200), None));
    }
}

/// The reason in a `put_answered` row whose call never left this machine.
const NOT_SENT: &str = "not_sent";
/// The reason in a `put_answered` row of a 2xx that did not show the opt-out: no proof.
const UNPROVEN: &str = "unproven";
