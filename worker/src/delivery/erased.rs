//! Drops the broker's copies of erased deliveries while a closed gate keeps their handler from taking work, so that
//! they don't stay in the queue until the gate opens. With open gates, each copy is dropped when its turn comes.
//!
//! RabbitMQ can't remove a message from the middle of a queue. So a sweep takes the whole queue once and gives back
//! whatever isn't erased. Parked copies are looked for when they are due.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use hookline_broker::{Deliveries, Delivery};
use hookline_common::names::{HandlerName, Queue};
use hookline_store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::delivery::consume::{self, Context};
use crate::delivery::settle;

/// Least time between two queries of the store.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest time between two sweeps: each sweep that finds nothing doubles the wait up to this bound.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_mins(10);
/// How many deliveries a sweep inspects together.
const BATCH: u16 = 256;
/// A queue that hands out nothing for this long counts as fully swept.
const AT_ITS_END: Duration = Duration::from_secs(3);

/// When one handler's queue is swept next.
pub(crate) struct Sweeps {
    next: Instant,
    pause: Duration,
}

impl Default for Sweeps {
    fn default() -> Self {
        Self { next: Instant::now(), pause: LOOK_EVERY }
    }
}

impl Sweeps {
    /// Returns whether the queue should be swept now. Queries the store at most once a second.
    pub(crate) async fn are_due(&mut self, context: &Context, handler: HandlerName) -> bool {
        if Instant::now() < self.next {
            return false;
        }
        self.next = Instant::now() + LOOK_EVERY;
        // While the store is away, no delivery is known to be erased.
        context.store.has_erased_copies(handler).await.unwrap_or(false)
    }

    /// Lets the next [`Sweeps::are_due`] query the store at once.
    pub(crate) fn now(&mut self) {
        self.next = Instant::now();
    }

    /// Sweeps the queue. No other consumer of this process may use it meanwhile.
    pub(crate) async fn sweep(&mut self, context: &Context, handler: HandlerName, shutdown: &CancellationToken) {
        let outcome = if context.settings.broker.url.is_empty() {
            remove(context, handler).await
        } else {
            pass(context, handler, shutdown).await
        };
        let dropped = outcome.unwrap_or_else(|error| {
            tracing::warn!(handler = %handler, error = %error, "erased.not_dropped: trying again later");
            0
        });
        if dropped > 0 {
            tracing::info!(handler = %handler, deliveries = dropped, "erased.dropped: no copy of them is in the queue");
        }
        self.pause = if dropped > 0 { LOOK_EVERY } else { (self.pause * 2).min(LOOK_AT_LEAST_EVERY) };
        self.next = Instant::now() + self.pause;
    }
}

/// Removes erased copies one by one, which the embedded broker can do. They are there if an erasing command was cut off
/// between the store and the queues.
async fn remove(context: &Context, handler: HandlerName) -> Result<usize, StoreError> {
    let copies: Vec<_> = context.store.erased_copies_of(handler, BATCH).await?;
    let mut gone = Vec::with_capacity(copies.len());
    for event_id in copies {
        match context.broker.remove(&event_id, handler).await {
            Ok(_) => gone.push((event_id, handler)),
            Err(error) => tracing::debug!(event.id = %event_id, error = %error, "erased.not_removed"),
        }
    }
    context.store.copies_gone(&gone).await?;
    Ok(gone.len())
}

async fn pass(context: &Context, handler: HandlerName, shutdown: &CancellationToken) -> Result<usize, StoreError> {
    let Some(mut deliveries) = consume::consume(context, Queue::Work(handler), BATCH, shutdown).await else {
        return Ok(0);
    };
    let outcome = drop_erased(context, handler, &mut deliveries, shutdown).await;
    consume::give_back(context, deliveries).await;
    outcome
}

async fn drop_erased(
    context: &Context,
    handler: HandlerName,
    deliveries: &mut Deliveries,
    shutdown: &CancellationToken,
) -> Result<usize, StoreError> {
    let (mut seen, mut dropped) = (HashSet::new(), 0);
    loop {
        let first = tokio::select! {
            () = shutdown.cancelled() => return Ok(dropped),
            first = tokio::time::timeout(AT_ITS_END, deliveries.next()) => first,
        };
        let Ok(Some(first)) = first else { return Ok(dropped) };
        let batch: Vec<Delivery> =
            std::iter::once(first).chain(deliveries.take_waiting(usize::from(BATCH) - 1)).collect();
        // Deliveries that were given back go to the queue's end. Seeing one twice means the whole queue has passed.
        let mut once_round = false;
        for delivery in &batch {
            once_round |= !seen.insert(delivery.event.id.clone());
        }
        let ids: Vec<_> = batch.iter().map(|delivery| delivery.event.id.clone()).collect();
        let erased = context.store.erased_among(handler, &ids).await;
        let (gone, others): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|delivery| erased.as_ref().is_ok_and(|erased| erased.contains(&delivery.event.id)));
        futures::future::join_all(others.into_iter().map(|delivery| settle::release(context, delivery))).await;
        dropped += gone.len();
        futures::future::join_all(gone.into_iter().map(|delivery| settle::drop_copy(context, handler, delivery))).await;
        let gone: Vec<_> = erased?.into_iter().map(|event_id| (event_id, handler)).collect();
        // Comes last, so that only copies that are really gone are recorded as gone.
        context.store.copies_gone(&gone).await?;
        if once_round || !context.store.has_erased_copies(handler).await? {
            return Ok(dropped);
        }
    }
}
