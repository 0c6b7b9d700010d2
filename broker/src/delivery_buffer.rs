//! The buffer between a broker and one consumer: deliveries that the broker has handed over and the consumer has not
//! taken yet.
//!
//! The broker puts deliveries in, and only the broker gives them back. A consumer that stops cancels
//! [`DeliveryBuffer::stopped`]; deliveries left in the buffer then do not count as handed out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Delivery;

/// The broker's side.
#[derive(Default)]
pub(crate) struct DeliveryBuffer {
    state: Mutex<State>,
    changed: Notify,
    stopped: CancellationToken,
}

#[derive(Default)]
struct State {
    buffered: VecDeque<Buffered>,
    /// The broker puts in no more deliveries.
    has_ended: bool,
    /// The consumer dropped its side.
    is_abandoned: bool,
}

struct Buffered {
    delivery: Delivery,
    /// A moment before the lease runs out: after that, the broker may have handed the delivery to another consumer.
    until: Option<Instant>,
}

impl Buffered {
    fn has_expired(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl DeliveryBuffer {
    /// Adds a delivery that can no longer be taken from `until` on.
    pub(crate) fn put(&self, delivery: Delivery, until: Option<Instant>) {
        self.state().buffered.push_back(Buffered { delivery, until });
        self.changed.notify_one();
    }

    /// Cancelled when the consumer wants no more deliveries.
    pub(crate) const fn stopped(&self) -> &CancellationToken {
        &self.stopped
    }

    /// Ends the stream: no more deliveries come. The rest stays for the consumer, unless `gives_back` or the consumer
    /// is gone.
    pub(crate) async fn end(&self, gives_back: bool) {
        if gives_back {
            self.give_back().await;
        }
        self.state().has_ended = true;
        self.changed.notify_one();
        // We check after setting `has_ended`: a consumer that leaves later has seen the end, and takes the rest itself.
        if self.state().is_abandoned {
            self.give_back().await;
        }
    }

    /// Gives back the deliveries whose time to be taken is over.
    pub(crate) async fn give_back_expired(&self) {
        let now = Instant::now();
        let expired = {
            let mut state = self.state();
            let buffered = std::mem::take(&mut state.buffered);
            let (expired, waiting): (VecDeque<_>, _) = buffered.into_iter().partition(|one| one.has_expired(now));
            state.buffered = waiting;
            expired
        };
        give_back(expired).await;
    }

    /// Drops the buffered deliveries, when the broker hands them out again by itself.
    pub(crate) fn forget(&self) {
        drop(std::mem::take(&mut self.state().buffered));
    }

    async fn give_back(&self) {
        let buffered = std::mem::take(&mut self.state().buffered);
        give_back(buffered).await;
    }

    fn take(&self) -> Option<Delivery> {
        let now = Instant::now();
        let mut state = self.state();
        // An expired delivery stays in the buffer until the broker gives it back.
        let first = state.buffered.iter().position(|one| !one.has_expired(now))?;
        state.buffered.remove(first).map(|one| one.delivery)
    }

    async fn ended(&self) {
        while !self.state().has_ended {
            self.changed.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that runs under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn give_back(buffered: VecDeque<Buffered>) {
    futures::future::join_all(buffered.into_iter().map(|one| one.delivery.give_back())).await;
}

/// The consumer's side: a stream of deliveries of one queue, which ends when the broker is closed. Dropping the stream
/// gives back the deliveries that were not taken.
pub struct Deliveries {
    buffer: Arc<DeliveryBuffer>,
}

impl Deliveries {
    pub(crate) const fn new(buffer: Arc<DeliveryBuffer>) -> Self {
        Self { buffer }
    }

    /// Waits for the next delivery; `None` when the broker hands out no more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            // We read this before taking, so that we don't miss the last delivery.
            let has_ended = self.buffer.state().has_ended;
            if let Some(delivery) = self.buffer.take() {
                return Some(delivery);
            }
            if has_ended {
                return None;
            }
            self.buffer.changed.notified().await;
        }
    }

    /// Takes the deliveries that are buffered now, at most `most`, without waiting.
    pub fn take_waiting(&mut self, most: usize) -> Vec<Delivery> {
        std::iter::from_fn(|| self.buffer.take()).take(most).collect()
    }

    /// Ends the stream and returns the deliveries that were handed out and not taken, so that the caller can release
    /// them.
    pub async fn drain(mut self) -> Vec<Delivery> {
        self.buffer.stopped.cancel();
        self.buffer.ended().await;
        self.take_waiting(usize::MAX)
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.buffer.state().is_abandoned = true;
        self.buffer.stopped.cancel();
    }
}
