//! What a worker does besides deliveries: tells the queues' depths and how long they take to drain, ends retention,
//! finishes interrupted redrives, empties the payloads of erased people's opt-outs that have ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_broker::QueueDepth;
use hookline_common::names::{Destination, HandlerName, Queue};
use hookline_common::time::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::background::{dead_letters, pace};
use crate::delivery::consume::Context;

const HISTORY: Queue = Queue::Work(HandlerName::RecordHistory);
const DEPTHS_EVERY: Duration = Duration::from_secs(5);
/// Counting a million rows takes more than half a second of a reader: never more than this share of its time.
const DEPTHS_SHARE: u32 = 20;
const REDRIVES_EVERY: Duration = Duration::from_secs(30);
const ERASED_EVERY: Duration = Duration::from_secs(5);
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);

/// Runs until `shutdown`. A store or broker that is away is told by the consumers; here it is only tried again.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let ticker = |every| {
        let mut ticker = tokio::time::interval(every);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticker
    };
    let (mut depths, mut redrives, mut erased) = (ticker(DEPTHS_EVERY), ticker(REDRIVES_EVERY), ticker(ERASED_EVERY));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = depths.tick() => {
                let clock = Instant::now();
                report_depths(&context).await;
                depths.reset_after(DEPTHS_EVERY.max(clock.elapsed() * DEPTHS_SHARE));
            }
            _ = redrives.tick() => resume_redrives(&context).await,
            _ = erased.tick() => empty_erased(&context).await,
        }
    }
}

async fn report_depths(context: &Context) {
    let Ok(queues) = context.broker.queues().await else { return };
    let metrics = &context.metrics.worker;
    for depth in &queues {
        metrics.queue_messages(&depth.queue.name(), depth.messages);
    }
    for other in context.broker.other_queues().await.unwrap_or_default() {
        metrics.queue_messages(&other.name, other.messages);
    }
    report_history_age(context, &queues).await;
    // What the store has to be asked for stays as it was while it is away: what is late must not look as if it were not.
    let (Ok(waiting), Ok(gates)) = (context.store.waiting().await, context.store.gates().await) else { return };
    let now = Timestamp::now();
    for handler in HandlerName::ALL.iter().filter(|handler| **handler != HandlerName::RecordHistory) {
        let of_handler = waiting.iter().find(|waiting| waiting.handler == *handler);
        let untouched = of_handler.and_then(|waiting| waiting.oldest_untouched);
        metrics.untouched_oldest(*handler, untouched.map(|received| now.since(received)));
    }
    // The embedded broker's own counts are exact.
    let waiting = if queues.iter().any(pace::counts_only_ready) { waiting } else { Vec::new() };
    for depth in queues.iter().filter(|depth| depth.queue != HISTORY) {
        metrics.queue_oldest(depth.queue, pace::oldest(depth, &waiting).map(|oldest| now.since(oldest)));
    }
    let known: Vec<_> = waiting.iter().map(|of| (of.handler, of.deliveries)).collect();
    let backlog = pace::backlog(&queues, &known);
    // As `hookline status` tells it.
    for destination in [Destination::TextUs, Destination::SystemOfRecord] {
        metrics.to_drain(destination, pace::to_drain(&context.settings, &gates, &backlog, destination));
    }
}

/// Without the store: that it is away is what the history waits for most of the time.
async fn report_history_age(context: &Context, queues: &[QueueDepth]) {
    let Some(depth) = queues.iter().find(|depth| depth.queue == HISTORY) else { return };
    let now = Timestamp::now();
    let oldest = if pace::counts_only_ready(depth) {
        context.history_lag.oldest(depth.messages + context.broker.held(HISTORY).await, now)
    } else {
        depth.oldest
    };
    context.metrics.worker.queue_oldest(HISTORY, oldest.map(|oldest| now.since(oldest)));
}

/// A redrive that the command line began and could not end would wait for nobody.
async fn resume_redrives(context: &Context) {
    match dead_letters::resume(&context.store, context.broker.as_ref()).await {
        Ok(0) => {}
        Ok(resumed) => tracing::info!(resumed, "redrive.resumed: a redrive had been interrupted"),
        Err(error) => tracing::warn!(error = %error, "redrive.not_resumed: trying again in half a minute"),
    }
}

/// Erasing left them to their opt-outs, which were not sent yet.
async fn empty_erased(context: &Context) {
    match context.store.empty_ended().await {
        Ok(0) => {}
        Ok(payloads) => tracing::info!(payloads, "erased.emptied: the opt-outs that needed these payloads have ended"),
        Err(error) => tracing::debug!(error = %error, "erased.not_emptied: trying again in a moment"),
    }
}

/// Ends retention each hour until `shutdown`; apart from the rest, because a long clean-up must hold nothing up.
pub(crate) async fn run_retention(context: Arc<Context>, shutdown: CancellationToken) {
    let mut hourly = tokio::time::interval(EXPIRE_EVERY);
    hourly.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let cleaning = async {
        loop {
            hourly.tick().await;
            end_retention(&context).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = cleaning => {}
    }
}

async fn end_retention(context: &Context) {
    match context.store.expire(context.settings.store.retention, Timestamp::now()).await {
        Ok(expired) if expired.payloads > 0 => {
            tracing::info!(payloads = expired.payloads, attempts = expired.attempts, "retention.ended");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(error = %error, "retention.failed: trying again within the hour"),
    }
}
