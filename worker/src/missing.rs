//! Publishes anew what the history knows and nobody began, with nothing in its handler's queue: a message that the
//! broker lost, or stored in some of its queues only (it died while it did, or a binding was missing).
//!
//! A copy too many is harmless: what was begun meanwhile is met by it, and what is in a worker's hand is ahead of it.

use std::sync::Arc;
use std::time::Duration;

use hookline_common::broker::QueueDepth;
use hookline_common::event::EventId;
use hookline_common::names::HandlerName;
use hookline_common::topology::Queue;
use hookline_store::model::Payload;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::consumer::Context;

/// What was published anew and still not begun waits so long for another time: it is in somebody's hand, most likely.
const AGAIN_AFTER: u32 = 5;
/// Of a handler at a time; the rest when its queue is empty again.
const MOST: u32 = 100;

/// Looks for them until `shutdown`.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let every = (context.settings.broker.missing_after / 4).clamp(Duration::from_secs(1), Duration::from_secs(30));
    let mut ticker = tokio::time::interval(every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticker.tick() => {}
        }
        if let Err(error) = look(&context).await {
            tracing::debug!(error = %format!("{error:#}"), "missing.not_looked_for: trying again");
        }
    }
}

async fn look(context: &Context) -> anyhow::Result<()> {
    let queues = context.broker.queues().await?;
    for handler in context.settings.handlers.enabled() {
        if handler != HandlerName::RecordHistory && is_idle(&queues, handler) {
            publish_missing(context, handler).await?;
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

async fn publish_missing(context: &Context, handler: HandlerName) -> anyhow::Result<()> {
    let quiet = context.settings.broker.missing_after;
    let missing = context.store.take_unbegun(handler, quiet, quiet * AGAIN_AFTER, MOST).await?;
    for event_id in &missing {
        publish(context, handler, event_id).await?;
    }
    if !missing.is_empty() {
        tracing::warn!(handler = %handler, deliveries = missing.len(),
            "delivery.missing: nobody began them, and nothing is in their queue: they are published anew from the history");
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
