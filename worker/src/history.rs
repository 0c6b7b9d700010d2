//! `record_history`: every event into the store, in batches. Its effect is its record, so it settles itself: the rows
//! are written in one transaction, then the batch is acknowledged.

use std::sync::Arc;
use std::time::Instant;

use hookline_common::broker::Delivery;
use hookline_common::event::Event;
use hookline_common::names::{HandlerName, Verdict};
use hookline_common::telemetry::journey::Milestone;
use hookline_common::time::Timestamp;
use hookline_common::topology::Queue;
use tokio_util::sync::CancellationToken;

use crate::consumer::{self, Context};
use crate::settle;

const NAME: HandlerName = HandlerName::RecordHistory;
/// Rows of one batch; what waits, no timer.
const BATCH: usize = 256;

/// Records events until `shutdown`.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let prefetch = u16::try_from(BATCH * 2).unwrap_or(u16::MAX);
    while let Some(mut deliveries) = consumer::consume(&context, Queue::Work(NAME), prefetch, &shutdown).await {
        loop {
            let first = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                first = deliveries.next() => first,
            };
            let Some(first) = first else { break };
            let mut batch = vec![first];
            batch.extend(deliveries.take_waiting(BATCH - 1));
            record(&context, batch).await;
        }
        consumer::give_back(&context, deliveries).await;
        if shutdown.is_cancelled() {
            return;
        }
    }
}

async fn record(context: &Context, batch: Vec<Delivery>) {
    let clock = Instant::now();
    let in_flight = context.metrics.worker.in_flight(NAME);
    in_flight.set(i64::try_from(batch.len()).unwrap_or(i64::MAX));
    let events: Vec<(Event, Vec<HandlerName>)> =
        batch.iter().map(|delivery| (Event::clone(&delivery.event), delivery.routed_to.clone())).collect();
    match context.store.record_events(&events).await {
        Ok(()) => {
            let took = clock.elapsed();
            futures::future::join_all(batch.into_iter().map(|delivery| async move {
                context.metrics.worker.attempt(NAME, Verdict::Done, took);
                context.metrics.worker.settled(NAME, delivery.age(Timestamp::now()));
                tell(context, &delivery, took);
                settle::done(delivery).await;
            }))
            .await;
        }
        Err(error) => {
            tracing::warn!(handler = %NAME, events = batch.len(), error = %error, "delivery.held: the store is away");
            futures::future::join_all(batch.into_iter().map(|delivery| settle::hold(context, delivery))).await;
        }
    }
    in_flight.set(0);
}

fn tell(context: &Context, delivery: &Delivery, took: std::time::Duration) {
    if context.journey.is_watched() {
        context.journey.tell(Milestone::Settled {
            event_id: delivery.event.id.clone(),
            event_type: delivery.event.event_type.clone(),
            handler: NAME,
            verdict: Verdict::Done,
            reason: None,
            steps: Vec::new(),
            attempt: delivery.attempt,
            took,
        });
    }
}
