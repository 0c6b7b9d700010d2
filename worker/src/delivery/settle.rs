//! Carries out an attempt's verdict and answers the broker, once. No other module calls `Delivery::settle`.
//!
//! The order matters: the store's record comes first, the broker's answer last. A crash in between repeats the
//! delivery. The other order would lose it.

use std::time::Duration;

use hookline_broker::topology::Tier;
use hookline_broker::{DeadLetterInfo, Delivery, LastFailure, Settlement, Spends};
use hookline_common::names::{DeadReason, Destination, HandlerName, SkipReason, Verdict};
use hookline_common::service::telemetry::metrics::Suppressed;
use hookline_common::service::telemetry::progress::Milestone;
use hookline_common::settings::RetrySettings;
use hookline_common::testing::crash_point;
use hookline_common::time::Timestamp;
use hookline_store::StoreError;
use hookline_store::model::{AttemptRecord, CompletedEffect, Ending, Parked, RequestRecord};

use crate::delivery::consume::Context;
use crate::delivery::handler::{Failure, HandlerError, Outcome};
use crate::delivery::pauses;
use crate::delivery::retry::{self, Decision};
use crate::destinations::error::Disposition;
use crate::destinations::redact::cut;

/// How long a delivery waits while the store is away. The wait is jittered, so that a backlog doesn't come back at
/// once.
const STORE_AWAY: Duration = Duration::from_secs(5);
/// Most bytes of a failure's words in a message header.
const MAX_WORDS_BYTES: usize = 512;

/// The settlement that an attempt calls for, before it is carried out.
#[derive(Debug)]
enum Plan {
    End(Ending),
    Park { until: Timestamp, spends: Spends, why: String, status: Option<u16> },
    Dead { reason: DeadReason, destination: Option<Destination>, status: Option<u16>, detail: String },
}

/// Facts about an attempt that has ended.
pub(crate) struct Ended {
    pub(crate) started_at: Timestamp,
    pub(crate) took: Duration,
    pub(crate) requests: Vec<RequestRecord>,
    pub(crate) result: Result<Outcome, Failure>,
}

/// Settles a delivery according to how its attempt ended.
pub(crate) async fn settle(context: &Context, handler: HandlerName, delivery: Delivery, ended: Ended) {
    let retry = &context.settings.handlers.basics(handler).retry;
    let (mut plan, held_by, cause, effects, remarks) = match ended.result {
        Ok(Outcome { ending, effects, remarks }) => (Plan::End(ending), None, "", effects, remarks),
        Err(Failure { error, effects }) => {
            let plan = plan_after(retry, &delivery, &error);
            (plan, error.paused_destination(), error.kind(), effects, Vec::new())
        }
    };
    if let (Some(_), Plan::Park { until, spends: spends @ Spends::Age, .. }) = (held_by, &mut plan) {
        // A pause may last longer than a delivery is retried, so it must not age the delivery.
        *spends = Spends::Nothing;
        *until = pauses::look_again(delivery.event.received_at, Timestamp::now()).max(*until);
    }
    let record = AttemptRecord {
        event_id: delivery.event.id.clone(),
        handler,
        attempt: delivery.attempt,
        started_at: ended.started_at,
        duration: ended.took,
        verdict: plan.verdict(),
        detail: plan.detail(),
        requests: ended.requests,
    };
    let parked = parked(&plan, handler, &delivery, held_by);
    if let Err(error) = write_down(context, &plan, parked, &record, &effects).await {
        // Never settle what the store doesn't know.
        tracing::warn!(handler = %handler, event.id = %record.event_id, error = %error, "delivery.held: the store is away");
        if !error.is_away() {
            for effect in effects {
                // Whatever blocked the full write may not block this one. If it does, the claim ends with its lease.
                let _ = context.store.note_completed(effect).await;
            }
        }
        hold(context, delivery).await;
        return;
    }
    report(context, &delivery, &plan, &record, remarks, (held_by, cause));
    carry_out(delivery, plan).await;
}

/// Acknowledges a copy that has nothing left to do.
pub(crate) async fn drop_copy(context: &Context, handler: HandlerName, delivery: Delivery) {
    context.metrics.worker.suppressed(handler, Suppressed::Duplicate);
    answer(delivery, Settlement::Done).await;
}

/// Parks a delivery while the store is away, without spending an attempt.
pub(crate) async fn hold(context: &Context, delivery: Delivery) {
    context.metrics.worker.attempt(delivery.queue.handler(), Verdict::Parked, Duration::ZERO);
    let until = Timestamp::now().plus(STORE_AWAY.mul_f64(0.5 + rand::random::<f64>()));
    answer(delivery, Settlement::Park { until, spends: Spends::Nothing, last: None }).await;
}

/// Gives back a delivery that was handed out and has not begun.
pub(crate) async fn release(context: &Context, delivery: Delivery) {
    context.metrics.worker.attempt(delivery.queue.handler(), Verdict::Released, Duration::ZERO);
    answer(delivery, Settlement::Release).await;
}

/// Acknowledges a delivery whose next state is recorded.
pub(crate) async fn done(delivery: Delivery) {
    answer(delivery, Settlement::Done).await;
}

fn plan_after(retry: &RetrySettings, delivery: &Delivery, error: &HandlerError) -> Plan {
    let now = Timestamp::now();
    match error {
        HandlerError::Destination { destination, error } => match error.disposition() {
            Disposition::Hold { until, why } => {
                let until = back_by(delivery.queue.handler(), now, until);
                Plan::Park { until, spends: Spends::Age, why, status: error.status() }
            }
            // The delivery still ages.
            Disposition::RetryAfterProbe { until } => {
                match try_again(retry, delivery, Some(*destination), error.status(), error.detail(), None) {
                    Plan::Park { why, status, .. } => Plan::Park { until, spends: Spends::Age, why, status },
                    too_old @ (Plan::Dead { reason: DeadReason::TooOld, .. } | Plan::End(_)) => too_old,
                    // Attempts were already exhausted, and a probe doesn't count as one.
                    Plan::Dead { status, detail, .. } => Plan::Park { until, spends: Spends::Age, why: detail, status },
                }
            }
            Disposition::Retry { after } => {
                try_again(retry, delivery, Some(*destination), error.status(), error.detail(), after)
            }
            Disposition::DeadLetter { reason } => {
                Plan::Dead { reason, destination: Some(*destination), status: error.status(), detail: error.detail() }
            }
        },
        HandlerError::Store(error) if error.is_unavailable() => Plan::Park {
            until: now.plus(STORE_AWAY.mul_f64(0.5 + rand::random::<f64>())),
            spends: Spends::Nothing,
            why: format!("the store is not available: {error}"),
            status: None,
        },
        // Waiting doesn't fix a row that can't be read; retries end in a dead letter, where a person sees it.
        HandlerError::Store(error) => {
            try_again(retry, delivery, Some(Destination::Store), None, format!("the store refused: {error}"), None)
        }
        HandlerError::Wait { until, why } => {
            Plan::Park { until: *until, spends: Spends::Age, why: (*why).to_owned(), status: None }
        }
        HandlerError::TryAgain { after, destination, why } => {
            try_again(retry, delivery, Some(*destination), None, (*why).to_owned(), Some(*after))
        }
        HandlerError::GiveUp { reason, destination, status, detail } => {
            Plan::Dead { reason: *reason, destination: *destination, status: *status, detail: detail.clone() }
        }
    }
}

/// Returns when a delivery comes back whose call is held until `until`. A delay queue may be late by several times the
/// requested wait, and notes would spend the new window meanwhile. So an opt-out comes back early and waits for the
/// rest in hand.
fn back_by(handler: HandlerName, now: Timestamp, until: Timestamp) -> Timestamp {
    match handler {
        HandlerName::RecordOptOut => until.min(now.plus(Tier::within(until.since(now)).time())),
        HandlerName::FlagOptOut
        | HandlerName::LogNote
        | HandlerName::CreateContact
        | HandlerName::SyncContact
        | HandlerName::RecordHistory => until,
    }
}

fn try_again(
    retry: &RetrySettings,
    delivery: &Delivery,
    destination: Option<Destination>,
    status: Option<u16>,
    why: String,
    at_least: Option<Duration>,
) -> Plan {
    let now = Timestamp::now();
    // Age counts from the first attempt, not from arrival: a redriven delivery of an old event gets its full time
    // again.
    match retry::decide(retry, delivery.attempt, now.since(delivery.first_attempt_at), at_least) {
        Decision::Again(delay) => Plan::Park { until: now.plus(delay), spends: Spends::Attempt, why, status },
        Decision::GiveUp(reason) => Plan::Dead { reason, destination, status, detail: why },
    }
}

impl Plan {
    fn verdict(&self) -> Verdict {
        match self {
            Self::End(Ending::Done) => Verdict::Done,
            Self::End(Ending::Skipped(_)) => Verdict::Skipped,
            Self::Park { .. } => Verdict::Parked,
            Self::Dead { .. } => Verdict::DeadLettered,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::End(Ending::Done) => None,
            Self::End(Ending::Skipped(reason)) => Some(reason.as_str().to_owned()),
            Self::Park { why, .. } => Some(why.clone()),
            Self::Dead { reason, .. } => Some(reason.as_str().to_owned()),
        }
    }
}

/// Describes how the delivery comes back; `None` if the plan isn't to park it.
fn parked(plan: &Plan, handler: HandlerName, delivery: &Delivery, held_by: Option<Destination>) -> Option<Parked> {
    let Plan::Park { until, spends, .. } = *plan else { return None };
    let first_attempt_at = match (spends, delivery.attempt) {
        (Spends::Attempt | Spends::Age, _) => Some(delivery.first_attempt_at),
        (Spends::Nothing, 1) => None,
        (Spends::Nothing, _) => Some(delivery.first_attempt_at.plus(until.since(Timestamp::now()))),
    };
    let is_next = u32::from(spends == Spends::Attempt);
    let (event_id, attempt) = (delivery.event.id.clone(), delivery.attempt.saturating_add(is_next));
    Some(Parked { event_id, handler, until, attempt, first_attempt_at, held_by })
}

async fn write_down(
    context: &Context,
    plan: &Plan,
    parked: Option<Parked>,
    record: &AttemptRecord,
    effects: &[CompletedEffect],
) -> Result<(), StoreError> {
    let Some(parked) = parked else {
        return match plan {
            Plan::End(ending) => context.store.finish(record, *ending, effects).await,
            Plan::Dead { .. } | Plan::Park { .. } => context.store.log_attempt(record, effects).await,
        };
    };
    // A hold without a call isn't an attempt: a closed gate must not fill the log.
    let is_hold = matches!(plan, Plan::Park { spends: Spends::Age | Spends::Nothing, .. });
    let is_attempt = !is_hold || !record.requests.is_empty() || !effects.is_empty();
    context.store.park(&parked, is_attempt.then_some(record), effects).await
}

/// Updates the metrics, writes one log line and feeds the progress feed. `held_by` is the paused destination, `cause` the kind
/// of the failure.
fn report(
    context: &Context,
    delivery: &Delivery,
    plan: &Plan,
    record: &AttemptRecord,
    remarks: Vec<String>,
    (held_by, cause): (Option<Destination>, &'static str),
) {
    let handler = record.handler;
    let metrics = &context.metrics.worker;
    metrics.attempt(handler, record.verdict, record.duration);
    if let Plan::End(ending) = plan {
        metrics.settled(handler, delivery.age(Timestamp::now()));
        if let Ending::Skipped(reason) = ending {
            count_suppressed(context, handler, *reason);
        }
    }
    let event = &delivery.event;
    let took_ms = u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX);
    let detail = record.detail.as_deref().unwrap_or_default();
    match plan {
        Plan::End(_) => {
            tracing::debug!(event.id = %event.id, event.r#type = event.event_type.log_label(), handler = %handler,
                attempt = record.attempt, verdict = %record.verdict, detail, duration_ms = took_ms, "delivery.settled");
        }
        // Logging each delivery would repeat for days that the pause goes on.
        Plan::Park { spends: Spends::Nothing, until, .. } if let Some(destination) = held_by => {
            if let Some(deliveries) = context.pauses.holds(handler) {
                tracing::info!(handler = %handler, destination = %destination, deliveries, until = %until,
                    "delivery.held: the destination is paused; what waits for it looks again ever more seldom");
            }
        }
        // `events show` and `dead-letters show` print the destination's own words. The log doesn't: even redacted, text
        // that others wrote doesn't belong there.
        Plan::Park { until, spends, status, .. } => {
            tracing::info!(event.id = %event.id, event.r#type = event.event_type.log_label(), handler = %handler,
                attempt = record.attempt, verdict = %record.verdict, cause, status, attempt_spent = *spends == Spends::Attempt,
                duration_ms = took_ms, until = %until, "delivery.parked");
        }
        Plan::Dead { status, destination, .. } => {
            tracing::warn!(event.id = %event.id, event.r#type = event.event_type.log_label(), handler = %handler,
                attempt = record.attempt, verdict = %record.verdict, reason = detail, status,
                destination = destination.map(hookline_common::names::Destination::as_str), duration_ms = took_ms,
                "delivery.dead_lettered: `hookline dead-letters list` tells more");
        }
    }
    if context.progress.is_watched() {
        let reason = match plan {
            Plan::End(_) => record.detail.clone(),
            Plan::Park { until, why, spends, .. } => {
                let wait = until.since(Timestamp::now());
                let word = if *spends == Spends::Attempt { "failed" } else { "waits" };
                Some(format!("{word}: {why}; again in {:.1} s", wait.as_secs_f64()))
            }
            Plan::Dead { reason, detail, .. } => Some(format!("{reason}: {detail}")),
        };
        let calls = record.requests.iter().map(|request| {
            let answer = request.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            format!("{} {} → {answer}", request.method, request.path)
        });
        context.progress.record(Milestone::Settled {
            event_id: event.id.clone(),
            event_type: event.event_type.clone(),
            handler,
            verdict: record.verdict,
            reason,
            steps: calls.chain(remarks).collect(),
            attempt: record.attempt,
            took: record.duration,
        });
    }
}

fn count_suppressed(context: &Context, handler: HandlerName, reason: SkipReason) {
    let why = match reason {
        SkipReason::Duplicate | SkipReason::AlreadyDone => Suppressed::Duplicate,
        SkipReason::Echo => Suppressed::Echo,
        SkipReason::Stale => Suppressed::Stale,
        SkipReason::Unchanged | SkipReason::UnknownContact | SkipReason::OptIn | SkipReason::NoAction => return,
    };
    context.metrics.worker.suppressed(handler, why);
}

async fn carry_out(delivery: Delivery, plan: Plan) {
    let settlement = match plan {
        Plan::End(_) => Settlement::Done,
        Plan::Park { until, spends, why, status } => {
            Settlement::Park { until, spends, last: Some(LastFailure { status, detail: cut(why, MAX_WORDS_BYTES) }) }
        }
        Plan::Dead { reason, destination, status, detail } => Settlement::DeadLetter(DeadLetterInfo {
            reason,
            destination,
            status,
            detail: cut(detail, MAX_WORDS_BYTES),
            attempts: delivery.attempt,
            dead_lettered_at: Timestamp::now(),
        }),
    };
    answer(delivery, settlement).await;
}

async fn answer(delivery: Delivery, settlement: Settlement) {
    crash_point("ack.before");
    let event_id = delivery.event.id.clone();
    let handler = delivery.queue.handler();
    match delivery.settle(settlement).await {
        Ok(hookline_broker::Settled::Confirmed) => {}
        Ok(hookline_broker::Settled::Lost) => {
            tracing::info!(event.id = %event_id, handler = %handler, "delivery.lease_lost: it is handed out again");
        }
        Err(error) => {
            tracing::warn!(event.id = %event_id, handler = %handler, error = %error,
                "delivery.not_settled: it is handed out again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opt_out_leaves_its_delay_queue_before_its_call_may_be_made() {
        let now = Timestamp::now();
        for wait in (1..900).map(Duration::from_secs) {
            let held = |handler| back_by(handler, now, now.plus(wait)).since(now);
            let delay = Tier::for_delay(held(HandlerName::RecordOptOut)).time();
            assert!(delay <= wait, "{delay:?} for {wait:?}");
            // The opt-out must get there after a few rounds.
            assert!(wait - delay <= wait.mul_f64(0.8), "{delay:?} for {wait:?}");
            assert_eq!(held(HandlerName::LogNote), wait);
        }
    }
}
