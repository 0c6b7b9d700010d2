//! The promises that every broker must keep, as tests that run against any broker. Each test takes a [`Harness`] and
//! panics if the broker breaks a promise.

mod queues;
mod settlements;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

pub use self::queues::*;
pub use self::settlements::*;

use hookline_common::event::Event;
use hookline_common::names::{HandlerName, Queue};

use super::{Broker, Deliveries, Delivery, QueueDepth, Settled, Settlement};
use crate::topology::{self};

/// The longest that an expected thing may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long we wait to conclude that nothing comes. Longer than a broker needs to hand something out.
const SILENCE: Duration = Duration::from_millis(400);

const NOTES: Queue = Queue::Work(HandlerName::LogNote);
const DEAD_NOTES: Queue = Queue::Dead(HandlerName::LogNote);
const HISTORY: Queue = Queue::Work(HandlerName::RecordHistory);

/// Opens brokers, one at a time, on the same durable state, with every handler enabled.
#[async_trait]
pub trait Harness: Send + Sync {
    async fn open(&self) -> Arc<dyn Broker>;

    /// Ends the broker as a crash of its process would: nothing is given back, and nothing more is settled.
    async fn crash(&self, broker: Arc<dyn Broker>);
}

async fn consume(broker: &Arc<dyn Broker>, queue: Queue, prefetch: u16) -> Deliveries {
    broker.consume(queue, prefetch).await.expect("the owner consumes")
}

/// Waits for the next delivery, within the deadline.
pub async fn next(deliveries: &mut Deliveries) -> Delivery {
    within_deadline(deliveries.next()).await.expect("the stream goes on")
}

/// Settles a delivery and asserts that the settlement took effect.
pub async fn settle(delivery: Delivery, settlement: Settlement) {
    assert_eq!(delivery.settle(settlement).await.expect("settled"), Settled::Confirmed);
}

/// Asserts that nothing is handed out for a while.
pub async fn nothing_comes(deliveries: &mut Deliveries) {
    if let Ok(Some(delivery)) = timeout(SILENCE, deliveries.next()).await {
        panic!("{:?} was handed out: {:?}", delivery.queue, delivery.event);
    }
}

async fn within_deadline<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it happens within the deadline")
}

async fn depth_becomes(broker: &Arc<dyn Broker>, queue: Queue, is: impl Fn(&QueueDepth) -> bool) {
    let reached = async {
        loop {
            let depths = broker.queues().await.expect("asked");
            let depth = depths.iter().find(|depth| depth.queue == queue).expect("every queue is listed");
            if is(depth) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within_deadline(reached).await;
}

fn routed(event: &Event) -> Vec<HandlerName> {
    HandlerName::ALL.iter().copied().filter(|handler| topology::takes(*handler, &event.event_type)).collect()
}
