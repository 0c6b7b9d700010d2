//! Publishes anew what the history knows and nobody began, with nothing in its handler's queue: a message that the
//! broker lost, or stored in some of its queues only (it died while it did, or a binding was missing).
//!
//! A copy too many makes no effect twice: what was begun meanwhile is met by it, or both meet at the effect's claim.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_common::broker::{PublishError, QueueDepth};
use hookline_common::event::EventId;
use hookline_common::names::HandlerName;
use hookline_common::topology::Queue;
use hookline_store::model::Payload;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::consumer::Context;

/// What was published anew and still not begun waits so many times longer: it is in somebody's hand, most likely.
const AGAIN_AFTER: u32 = 5;
/// Published at a time.
const MOST: u32 = 100;

/// Looks for them until `shutdown`.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let every = (context.settings.broker.missing_after / 4).clamp(Duration::from_secs(1), Duration::from_secs(30));
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

/// `idle_since`: when each handler that has nothing in its queues was first seen so.
async fn look(context: &Context, idle_since: &mut BTreeMap<HandlerName, Instant>) -> anyhow::Result<()> {
    let queues = context.broker.queues().await?;
    let quiet = context.settings.broker.missing_after;
    for handler in context.settings.handlers.enabled() {
        if !is_idle(&queues, handler) {
            idle_since.remove(&handler);
        } else if idle_since.entry(handler).or_insert_with(Instant::now).elapsed() >= quiet
            && handler != HandlerName::RecordHistory
        {
            // One that cannot be published must not keep those of other handlers.
            if let Err(error) = publish_missing(context, handler, quiet).await {
                tracing::warn!(handler = %handler, error = %format!("{error:#}"),
                    "missing.not_published: what nobody began is looked for again later");
            }
        }
    }
    Ok(())
}

/// Nothing waits in its queues, and somebody consumes them. A queue that is not there looks as if nobody did.
fn is_idle(queues: &[QueueDepth], handler: HandlerName) -> bool {
    [Queue::Work(handler), Queue::Dead(handler)].into_iter().all(|queue| {
        queues.iter().any(|depth| depth.queue == queue && depth.messages == 0 && depth.consumers != Some(0))
    })
}

async fn publish_missing(context: &Context, handler: HandlerName, quiet: Duration) -> anyhow::Result<()> {
    let clock = Instant::now();
    // No longer than that: what was given first would be given again while its copy waits.
    while clock.elapsed() < quiet {
        let missing = context.store.take_unbegun(handler, quiet, quiet * AGAIN_AFTER, MOST).await?;
        let publish = missing.iter().map(async |event_id| (event_id, publish(context, handler, event_id).await));
        let (mut published, mut not_stored, mut why) = (0, Vec::new(), None);
        for (event_id, outcome) in futures::future::join_all(publish).await {
            let Err(error) = outcome else {
                published += 1;
                continue;
            };
            // The others may be stored, or are what cannot be read: they have their time.
            if matches!(error.downcast_ref(), Some(PublishError::Unavailable(_) | PublishError::Overloaded)) {
                not_stored.push(event_id.clone());
            }
            why = Some(error);
        }
        if published > 0 {
            tracing::warn!(handler = %handler, deliveries = published,
                "delivery.missing: nobody began them, and nothing is in their queue: published anew from the history");
        }
        if let Some(why) = why {
            context.store.put_back_unbegun(handler, &not_stored).await?;
            return Err(why);
        }
        if missing.len() < usize::try_from(MOST).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok(())
}

async fn publish(context: &Context, handler: HandlerName, event_id: &EventId) -> anyhow::Result<()> {
    // Erased, or at the end of its retention, since it was taken: there is nothing to publish.
    let Payload::Here(event) = context.store.event_payload(event_id).await? else { return Ok(()) };
    context.broker.publish_again(handler, &event, None).await?;
    context.metrics.worker.republished(handler);
    Ok(())
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
}
