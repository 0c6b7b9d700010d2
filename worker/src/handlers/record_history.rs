//! Runs `record_history`, which writes every event to the store in batches. Recording is its only effect, so it settles
//! its own deliveries: it writes the rows in one transaction, then acknowledges the batch. While the store is away, the
//! batch stays in hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_broker::{Deliveries, Delivery};
use hookline_common::event::{Event, EventId};
use hookline_common::names::{DeadReason, HandlerName, Queue, Verdict};
use hookline_common::service::telemetry::progress::Milestone;
use hookline_common::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::delivery::consume::{self, Context};
use crate::delivery::patience::{Patience, store_is_back};
use crate::delivery::settle;

const NAME: HandlerName = HandlerName::RecordHistory;
/// Most rows in one batch. A batch takes what is waiting and never waits for more.
const BATCH: usize = 256;
/// Bodies that are in hand at most, however long each is. A batch is held twice while it is written.
const IN_HAND_BYTES: usize = 64 << 20;
/// So many are in hand even if each body has the greatest size.
const LEAST_IN_HAND: usize = 8;

/// Records events until `shutdown`, then records the deliveries that it was handed until then.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    // RabbitMQ counts messages, not bytes.
    let in_hand = IN_HAND_BYTES / context.settings.ingest.max_body_bytes.max(1);
    let prefetch = u16::try_from(in_hand.clamp(LEAST_IN_HAND, BATCH * 2)).unwrap_or(u16::MAX);
    while let Some(mut deliveries) = consume::consume(&context, Queue::Work(NAME), prefetch, &shutdown).await {
        let store_is_away = record_all(&context, &mut deliveries, &shutdown).await;
        record_rest(&context, deliveries.drain().await, store_is_away, &shutdown).await;
        if shutdown.is_cancelled() {
            return;
        }
        store_is_back(&context, &shutdown).await;
    }
}

/// Records deliveries until there are no more or `shutdown` comes (`false`), or until the store stays away (`true`).
async fn record_all(context: &Context, deliveries: &mut Deliveries, shutdown: &CancellationToken) -> bool {
    loop {
        let first = tokio::select! {
            biased;
            () = shutdown.cancelled() => return false,
            first = deliveries.next() => first,
        };
        let Some(first) = first else { return false };
        let mut batch = vec![first];
        batch.extend(deliveries.take_waiting(BATCH - 1));
        if !record(context, batch, shutdown).await {
            return true;
        }
    }
}

/// Records the deliveries that were handed out and have not begun, as long as the store answers.
async fn record_rest(
    context: &Context,
    mut rest: Vec<Delivery>,
    mut store_is_away: bool,
    shutdown: &CancellationToken,
) {
    while !rest.is_empty() {
        let batch = rest.split_off(rest.len().saturating_sub(BATCH));
        if store_is_away {
            give_back(context, batch).await;
        } else {
            store_is_away = !record(context, batch, shutdown).await;
        }
    }
}

/// Records a batch. Returns `false` if the store stayed away and the batch was given back.
async fn record(context: &Context, batch: Vec<Delivery>, shutdown: &CancellationToken) -> bool {
    let clock = Instant::now();
    let in_flight = context.metrics.worker.in_flight(NAME);
    in_flight.set(i64::try_from(batch.len()).unwrap_or(i64::MAX));
    let events: Vec<(Event, Vec<HandlerName>)> =
        batch.iter().map(|delivery| (Event::clone(&delivery.event), delivery.routed_to.clone())).collect();
    let patience = Patience::new(context, shutdown);
    let recorded = loop {
        match context.store.record_events(&events).await {
            Err(error) if patience.again(&error).await => {}
            outcome => break outcome,
        }
    };
    let is_away = match recorded {
        Ok(given_up) => {
            done(context, batch, &given_up, clock.elapsed()).await;
            false
        }
        Err(error) if error.is_unavailable() => {
            tracing::warn!(handler = %NAME, events = batch.len(), error = %error, "delivery.given_back: the store is away");
            give_back(context, batch).await;
            true
        }
        Err(error) => {
            tracing::error!(handler = %NAME, events = batch.len(), error = %error,
                "delivery.not_recorded: the store refuses one of them; each is tried by itself; please report this");
            one_by_one(context, batch, &events).await;
            false
        }
    };
    in_flight.set(0);
    !is_away
}

/// Records each event by itself, so that one that the store refuses doesn't keep the others from being recorded.
async fn one_by_one(context: &Context, batch: Vec<Delivery>, events: &[(Event, Vec<HandlerName>)]) {
    for (delivery, event) in batch.into_iter().zip(events) {
        let clock = Instant::now();
        match context.store.record_events(std::slice::from_ref(event)).await {
            Ok(given_up) => done(context, vec![delivery], &given_up, clock.elapsed()).await,
            Err(error) => {
                tracing::warn!(handler = %NAME, event.id = %delivery.event.id, error = %error, "delivery.held");
                settle::hold(context, delivery).await;
            }
        }
    }
}

/// Acknowledges a recorded batch. `given_up` are the events that became dead letters in the same transaction.
async fn done(context: &Context, batch: Vec<Delivery>, given_up: &[EventId], took: Duration) {
    if let Some(last) = batch.last() {
        context.history_lag.recorded(&last.event);
    }
    futures::future::join_all(batch.into_iter().map(|delivery| async move {
        let is_unparsed = delivery.event.event_type.is_unparsed();
        let verdict = if is_unparsed { Verdict::DeadLettered } else { Verdict::Done };
        if given_up.contains(&delivery.event.id) {
            context.metrics.worker.dead_letter(NAME, DeadReason::Unreadable);
            tracing::warn!(handler = %NAME, event.id = %delivery.event.id, reason = %DeadReason::Unreadable,
                "delivery.dead_lettered: `hookline dead-letters list` tells more");
        }
        context.metrics.worker.attempt(NAME, verdict, took);
        context.metrics.worker.settled(NAME, delivery.age(Timestamp::now()));
        report(context, &delivery, verdict, took);
        settle::done(delivery).await;
    }))
    .await;
}

async fn give_back(context: &Context, batch: Vec<Delivery>) {
    futures::future::join_all(batch.into_iter().map(|delivery| settle::release(context, delivery))).await;
}

fn report(context: &Context, delivery: &Delivery, verdict: Verdict, took: Duration) {
    if context.progress.is_watched() {
        context.progress.record(Milestone::Settled {
            event_id: delivery.event.id.clone(),
            event_type: delivery.event.event_type.clone(),
            handler: NAME,
            verdict,
            reason: (verdict == Verdict::DeadLettered)
                .then(|| format!("{}: no type can be read", DeadReason::Unreadable)),
            steps: Vec::new(),
            attempt: delivery.attempt,
            took,
        });
    }
}
