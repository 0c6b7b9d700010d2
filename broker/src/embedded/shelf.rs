//! Deliveries between the dispatcher and one consumer. What still lies here when the consumer goes or the broker
//! closes was not handed out, and doesn't count as such.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::settler::EmbeddedSettler;
use crate::{Delivery, DeliveryParts, DeliverySource};

pub(super) struct Held {
    /// Before the lease runs out: later it may already be leased anew.
    pub(super) until: Instant,
    pub(super) parts: DeliveryParts,
    pub(super) settler: EmbeddedSettler,
}

#[derive(Default)]
pub(super) struct Shelf {
    stock: Mutex<Stock>,
    changed: Notify,
}

#[derive(Default)]
struct Stock {
    held: VecDeque<Held>,
    closed: bool,
}

impl Shelf {
    /// Gives it back at once where nobody consumes any more.
    pub(super) fn put(&self, held: Held) {
        let mut stock = self.stock();
        if stock.closed {
            drop(stock);
            return held.settler.release();
        }
        stock.held.push_back(held);
        drop(stock);
        self.changed.notify_one();
    }

    /// Gives back what nobody took in its time.
    pub(super) fn give_back_expired(&self) {
        let now = Instant::now();
        let mut stock = self.stock();
        let (expired, held): (VecDeque<_>, _) =
            std::mem::take(&mut stock.held).into_iter().partition(|held| held.until <= now);
        stock.held = held;
        drop(stock);
        expired.into_iter().for_each(|held| held.settler.release());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.stock().closed
    }

    /// Hands out no more and gives back what lies here.
    pub(super) fn close(&self) {
        let mut stock = self.stock();
        stock.closed = true;
        let held = std::mem::take(&mut stock.held);
        drop(stock);
        held.into_iter().for_each(|held| held.settler.release());
        self.changed.notify_one();
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        // Nothing under this lock can panic half-way.
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The consumer's end.
pub(super) struct Counter(pub(super) Arc<Shelf>);

#[async_trait]
impl DeliverySource for Counter {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            if let Some(delivery) = self.next_waiting() {
                return Some(delivery);
            }
            if self.0.is_closed() {
                return None;
            }
            self.0.changed.notified().await;
        }
    }

    fn next_waiting(&mut self) -> Option<Delivery> {
        loop {
            let Held { until, parts, settler } = self.0.stock().held.pop_front()?;
            if Instant::now() < until {
                return Some(Delivery::new(parts, Box::new(settler)));
            }
            // It was never handed out. Where its lease has passed on already, this changes nothing.
            settler.release();
        }
    }

    async fn stop(&mut self) {
        self.0.stock().closed = true;
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.close();
    }
}
