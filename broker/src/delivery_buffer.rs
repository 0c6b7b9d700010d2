//! What lies between a broker and one consumer: deliveries that the broker has handed over and nobody has taken yet.
//!
//! The broker puts them in, and only the broker gives them back. A consumer that goes says so ([`DeliveryBuffer::stopped`]);
//! what nobody took then was not handed out, and does not count as such.

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
    /// The broker puts nothing more in.
    has_ended: bool,
    /// The consumer's side is gone.
    is_abandoned: bool,
}

struct Buffered {
    delivery: Delivery,
    /// Before its lease runs out: later the broker may have handed it to another consumer.
    until: Option<Instant>,
}

impl Buffered {
    fn has_expired(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl DeliveryBuffer {
    /// Adds a delivery, which nobody may take from `until` on.
    pub(crate) fn put(&self, delivery: Delivery, until: Option<Instant>) {
        self.state().buffered.push_back(Buffered { delivery, until });
        self.changed.notify_one();
    }

    /// Cancelled when the consumer wants no more.
    pub(crate) const fn stopped(&self) -> &CancellationToken {
        &self.stopped
    }

    /// Nothing more is put in. What is here stays for the consumer, unless it is gone or `gives_back`.
    pub(crate) async fn end(&self, gives_back: bool) {
        if gives_back {
            self.give_back().await;
        }
        self.state().has_ended = true;
        self.changed.notify_one();
        // A consumer that goes from now on has seen the end: nobody but itself takes what is here.
        if self.state().is_abandoned {
            self.give_back().await;
        }
    }

    /// Gives back what nobody took in its time.
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

    /// Drops what is here: the broker hands it out again by itself.
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
        // One that has expired stays until the broker gives it back.
        let first = state.buffered.iter().position(|one| !one.has_expired(now))?;
        state.buffered.remove(first).map(|one| one.delivery)
    }

    async fn ended(&self) {
        while !self.state().has_ended {
            self.changed.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn give_back(buffered: VecDeque<Buffered>) {
    futures::future::join_all(buffered.into_iter().map(|one| one.delivery.give_back())).await;
}

/// The consumer's side: a stream of deliveries of one queue; ends when the broker is closed. Dropping it gives back what
/// was not taken.
pub struct Deliveries {
    buffer: Arc<DeliveryBuffer>,
}

impl Deliveries {
    pub(crate) const fn new(buffer: Arc<DeliveryBuffer>) -> Self {
        Self { buffer }
    }

    /// The next delivery; `None` when the broker hands out no more. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            // Before the look, so that the last one is not missed.
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

    /// What is there now without waiting, at most `most`.
    pub fn take_waiting(&mut self, most: usize) -> Vec<Delivery> {
        std::iter::from_fn(|| self.buffer.take()).take(most).collect()
    }

    /// Ends the stream and returns what was handed out and not taken, so that it can be released.
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
