//! Republishes deliveries that the history knows and the broker lost, once their handler's queue is empty. A broker may
//! have lost the message, or stored it in only some of its queues because it died meanwhile or a binding was missing. A
//! delay queue may have been deleted or purged while the message waited there.
//!
//! A surplus copy never repeats an effect: it finds the delivery begun, or both copies meet at the effect's claim. Two
//! copies don't go on side by side either: once a delivery has begun, its older copies are dropped when they come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_broker::{PublishError, QueueDepth};
use hookline_common::names::{HandlerName, Queue};
use hookline_store::model::{Overdue, Payload, Undelivered};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::delivery::consume::Context;

/// Multiple of `missing_after` before a republished delivery that still hasn't begun is published again: most likely a
/// worker already holds it.
const AGAIN_AFTER: u32 = 5;
/// How many deliveries are republished at a time.
pub(crate) const MOST: u32 = 100;
/// Longest time between two looks. One look may pass before the queue is first seen empty, and another before its wait
/// is seen to be over. Both, together with the wait for an opt-out, take less than a minute.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How late an opt-out that hasn't begun may be, whatever `missing_after` is.
const OPT_OUT_MISSING_AFTER: Duration = Duration::from_secs(45);
/// How overdue a parked delivery may be: a broker moves it within seconds.
const DUE_FOR: Duration = Duration::from_mins(1);

/// Looks for missing deliveries until `shutdown`.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let every = (context.settings.broker.missing_after / 4).clamp(Duration::from_secs(1), LOOK_EVERY);
    let mut ticker = tokio::time::interval(every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        let mut idle_since = BTreeMap::new();
        loop {
            ticker.tick().await;
            if let Err(error) = look(&context, &mut idle_since).await {
                tracing::debug!(error = %format!("{error:#}"), "missing.not_looked_for: trying again");
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = looking => {}
    }
}

/// Republishes what is missing. `idle_since` holds when each idle handler's queues were first seen empty.
async fn look(context: &Context, idle_since: &mut BTreeMap<HandlerName, Instant>) -> anyhow::Result<()> {
    let queues = context.broker.queues().await?;
    let missing_after = context.settings.broker.missing_after;
    for handler in context.settings.handlers.enabled() {
        let overdue = overdue(handler, missing_after);
        if !is_idle(&queues, handler) {
            idle_since.remove(&handler);
        } else if idle_since.entry(handler).or_insert_with(Instant::now).elapsed() >= overdue.not_begun
            && handler != HandlerName::RecordHistory
        {
            // A delivery that can't be published must not block those of other handlers.
            if let Err(error) = publish_missing(context, handler, overdue).await {
                tracing::warn!(handler = %handler, error = %format!("{error:#}"),
                    "missing.not_published: what is in no queue is looked for again later");
            }
        }
    }
    Ok(())
}

fn overdue(handler: HandlerName, missing_after: Duration) -> Overdue {
    let not_begun = match handler {
        HandlerName::RecordOptOut | HandlerName::FlagOptOut => missing_after.min(OPT_OUT_MISSING_AFTER),
        HandlerName::LogNote | HandlerName::CreateContact | HandlerName::SyncContact | HandlerName::RecordHistory => {
            missing_after
        }
    };
    Overdue { not_begun, due: missing_after.min(DUE_FOR), again: missing_after * AGAIN_AFTER }
}

/// Returns whether the handler's queues are empty and consumed. A missing queue counts as not consumed.
fn is_idle(queues: &[QueueDepth], handler: HandlerName) -> bool {
    [Queue::Work(handler), Queue::Dead(handler)].into_iter().all(|queue| {
        queues.iter().any(|depth| depth.queue == queue && depth.messages == 0 && depth.consumers != Some(0))
    })
}

async fn publish_missing(context: &Context, handler: HandlerName, overdue: Overdue) -> anyhow::Result<()> {
    let clock = Instant::now();
    // The loop must end within this time: otherwise the store would return the first deliveries again while their
    // copies still wait in the queue.
    while clock.elapsed() < overdue.not_begun {
        let missing = context.store.take_undelivered(handler, overdue, MOST).await?;
        let outcome = publish_anew(context, &missing).await;
        context.metrics.worker.republished(handler, outcome.published);
        if outcome.published > 0 {
            tracing::warn!(handler = %handler, deliveries = outcome.published,
                "delivery.missing: they are late, and nothing is in their queue: published anew from the history");
        }
        if let Some(why) = outcome.why {
            context.store.put_back(&outcome.not_stored, None).await?;
            return Err(why);
        }
        if missing.len() < usize::try_from(MOST).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok(())
}

/// The outcome of republishing a batch of deliveries.
#[derive(Default)]
pub(crate) struct Republished {
    pub(crate) published: u64,
    /// Deliveries that may be published again later. Other failed ones may have been stored, or can't be read; they
    /// wait for their time.
    pub(crate) not_stored: Vec<Undelivered>,
    /// Why some deliveries were not published, or may not have been.
    pub(crate) why: Option<anyhow::Error>,
}

/// Publishes deliveries from the history concurrently.
pub(crate) async fn publish_anew(context: &Context, given: &[Undelivered]) -> Republished {
    let publishing = given.iter().map(async |given| (given, publish(context, given).await));
    let mut outcome = Republished::default();
    for (given, published) in futures::future::join_all(publishing).await {
        let Err(error) = published else {
            outcome.published += 1;
            continue;
        };
        if matches!(error.downcast_ref(), Some(PublishError::Unavailable(_) | PublishError::Overloaded)) {
            outcome.not_stored.push(given.clone());
        }
        outcome.why = Some(error);
    }
    outcome
}

async fn publish(context: &Context, given: &Undelivered) -> anyhow::Result<()> {
    // The event was erased or its retention ended after it was taken, so there is nothing to publish.
    let Payload::Here(event) = context.store.event_payload(&given.event_id).await? else { return Ok(()) };
    Ok(context.broker.publish_anew(given.handler, &event, given.from).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_idle_when_both_of_its_queues_are_empty_and_consumed() {
        let depth = |queue, messages, consumers| QueueDepth { queue, messages, oldest: None, consumers };
        let (work, dead) = (Queue::Work(HandlerName::LogNote), Queue::Dead(HandlerName::LogNote));
        let empty = depth(dead, 0, Some(1));
        let cases = [
            (true, vec![depth(work, 0, Some(2)), empty.clone()]),
            (true, vec![depth(work, 0, None), depth(dead, 0, None)]),
            (false, vec![depth(work, 1, Some(2)), empty.clone()]),
            (false, vec![depth(work, 0, Some(2)), depth(dead, 1, Some(1))]),
            (false, vec![depth(work, 0, Some(0)), empty.clone()]),
            (false, vec![depth(Queue::Work(HandlerName::SyncContact), 0, Some(2)), empty]),
        ];
        for (expected, queues) in cases {
            assert_eq!(is_idle(&queues, HandlerName::LogNote), expected, "{queues:?}");
        }
    }

    #[test]
    fn a_missing_opt_out_is_published_anew_within_a_minute() {
        for missing_after in [1, 30, 120, 3600].map(Duration::from_secs) {
            let overdue = overdue(HandlerName::RecordOptOut, missing_after);
            assert!(overdue.not_begun + 2 * LOOK_EVERY < Duration::from_mins(1) && overdue.not_begun <= missing_after);
            assert!(overdue.due <= Duration::from_mins(1));
        }
    }
}
