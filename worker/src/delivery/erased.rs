//! Drops the broker's copies of erased deliveries while a closed gate keeps their handler from taking work: they must not
//! lie in the queue until it opens. With open gates each is dropped when its turn comes.
//!
//! RabbitMQ takes nothing out of the middle of a queue, so the whole queue is passed once, and what is not erased is given
//! back. Copies that are parked are looked for when they are due.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use hookline_broker::{Deliveries, Delivery};
use hookline_common::names::{HandlerName, Queue};
use hookline_store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::delivery::consume::{self, Context};
use crate::delivery::settle;

/// Between two looks into the store.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A copy that was not in the queue is looked for ever more seldom.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_mins(10);
/// Looked at together.
const BATCH: u16 = 256;
/// A queue that hands out nothing for so long is at its end.
const AT_ITS_END: Duration = Duration::from_secs(3);

/// When one handler's queue is passed next.
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
    /// Whether there is something to look for now; asks the store at most once a second.
    pub(crate) async fn are_due(&mut self, context: &Context, handler: HandlerName) -> bool {
        if Instant::now() < self.next {
            return false;
        }
        self.next = Instant::now() + LOOK_EVERY;
        // While the store is away nothing is known to be erased.
        context.store.has_erased_copies(handler).await.unwrap_or(false)
    }

    /// The next question is asked at once.
    pub(crate) fn now(&mut self) {
        self.next = Instant::now();
    }

    /// Passes the queue. Nobody else of this process consumes it meanwhile.
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

/// The embedded broker takes them out one by one. A command that was cut off between the store and the queues left them.
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
        // What was given back is at the queue's end: who comes again shows that all of it has passed.
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
        // Last on purpose: what is told to be gone is gone.
        context.store.copies_gone(&gone).await?;
        if once_round || !context.store.has_erased_copies(handler).await? {
            return Ok(dropped);
        }
    }
}
