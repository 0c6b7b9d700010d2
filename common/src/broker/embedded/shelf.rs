//! Deliveries between the dispatcher and one consumer. What still lies here when the consumer goes or the broker
//! closes was not handed out, and doesn't count as such.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::settler::EmbeddedSettler;
use crate::broker::{Delivery, DeliveryParts, DeliverySource};

pub(super) struct Held {
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
        let Held { parts, settler } = self.0.stock().held.pop_front()?;
        Some(Delivery::new(parts, Box::new(settler)))
    }

    fn stop(&mut self) {
        self.0.stock().closed = true;
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.close();
    }
}
