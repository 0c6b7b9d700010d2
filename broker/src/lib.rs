//! The broker, as ingest and the workers see it: [`Publish`] stores events durably, [`Consume`] hands out deliveries
//! and settles them, [`QueueAdmin`] inspects and repairs queues. Two implementations pass one test suite,
//! `conformance`.
//!
//! Every implementation promises (docs/guarantees.md, 1 and 2):
//! - [`Publish::publish`] returns `Ok` only when the event is durable for every handler that takes it.
//! - A delivery that was not settled (process gone, lease lost) is delivered again, at least once.
//! - A settlement is durable before [`Delivery::settle`] returns `Ok(Settled::Confirmed)`.
//! - Releasing a delivery ([`Settlement::Release`]) and parking it never count towards the delivery limit.

mod delivery;
mod delivery_buffer;
pub mod embedded;
pub mod metrics;
pub mod rabbitmq;
pub mod topology;

#[cfg(feature = "testing")]
pub mod conformance;

pub use delivery::{DeadLetterInfo, Delivery, DeliveryParts, LastFailure, Settled, Settlement, Settler, Spends};
pub use delivery_buffer::Deliveries;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use hookline_common::event::{Event, EventId};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::time::Timestamp;

/// The event is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The same event id was stored before. The embedded broker knows exactly; RabbitMQ answers as well as it can.
    pub duplicate: bool,
}

/// Why an event was not stored. The cause is always on our side, never the sender's.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The broker refused the event or is unreachable: the event is not stored.
    #[error("the broker did not store the event: {0}")]
    Unavailable(String),
    /// The broker did not answer in time: the event may or may not be stored.
    #[error("the broker did not answer in time; whether it stored the event is unknown")]
    Unknown,
    /// No place to store it became free in time: the event is not stored.
    #[error("too many events are waiting to be stored")]
    Overloaded,
    /// The disk failed to keep data that it was told to keep. The process must accept no more events.
    #[error("durable storage failed: {0}")]
    Fatal(String),
}

/// Why a request to the broker failed.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another process consumes from this data directory.
    #[error("{0}")]
    Owned(String),
    #[error("cannot open {path}: {cause}")]
    Open { path: String, cause: String },
    #[error("the broker is not available: {0}")]
    Unavailable(String),
}

/// Whether the broker can store an event, and consumes its queues, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerState {
    Ready,
    /// The text is the reason, for `/readyz`.
    NotReady(String),
    /// Storage failed permanently: the process must end.
    Failed(String),
}

/// Why a handler gets an event again after its first publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    /// Sent again from a dead letter; the attempt restarts at 1.
    Redrive,
    /// Sent again from the history; done effects stay done.
    Replay,
}

/// The point from which a delivery that is published anew continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    pub attempt: u32,
    /// `None` if no attempt was made.
    pub first_attempt_at: Option<Timestamp>,
    /// Distinguishes this copy from earlier ones; see [`DeliveryParts::copy`].
    pub copy: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    pub queue: Queue,
    /// On the embedded broker: every delivery that is not settled, whether ready, parked or handed out. RabbitMQ
    /// reports only ready messages.
    pub messages: u64,
    /// When the oldest of these messages was received; `None` on RabbitMQ, which does not report it.
    pub oldest: Option<Timestamp>,
    /// How many consumers the queue has; `None` on the embedded broker, which does not report it.
    pub consumers: Option<u32>,
}

/// A queue that is shared by all handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherQueue {
    pub name: String,
    pub messages: u64,
}

/// Stores events durably. Ingest needs nothing else from a broker.
#[async_trait]
pub trait Publish: Send + Sync + 'static {
    /// Stores the event for every handler that takes its type; returns when the event is durable.
    async fn publish(&self, event: &Event) -> Result<Stored, PublishError>;

    /// Like [`Publish::publish`], for callers that can wait longer than a webhook's sender. On a link that is slow but
    /// works, giving up would only send everything again.
    async fn publish_patiently(&self, event: &Event) -> Result<Stored, PublishError>;

    /// Whether the broker can store an event now.
    fn state(&self) -> watch::Receiver<BrokerState>;

    /// What cannot be stored now although other events can, and what else an operator should know; empty if all is well.
    fn degraded(&self) -> Vec<String>;

    /// Stops handing out deliveries, completes the settlements that wait, and closes. Must be the last call.
    async fn close(&self);
}

/// Hands out deliveries from queues.
#[async_trait]
pub trait Consume: Send + Sync + 'static {
    /// Consumes a queue, with at most `prefetch` unsettled deliveries handed out at a time. On the embedded broker the
    /// process must be the owner.
    async fn consume(&self, queue: Queue, prefetch: u16) -> Result<Deliveries, BrokerError>;

    /// How many unsettled deliveries of a queue this process holds, if the broker's own counts leave them out
    /// (RabbitMQ); otherwise 0. A delivery that was given back counts until it is in its queue again.
    async fn held(&self, queue: Queue) -> u64;
}

/// Inspects and repairs queues from outside.
#[async_trait]
pub trait QueueAdmin: Send + Sync + 'static {
    /// Puts an event on one handler's work queue, at attempt 1, whether or not it was there before. If the event still
    /// waits there, nothing changes.
    async fn publish_again(&self, handler: HandlerName, event: &Event, why: Again) -> Result<(), PublishError>;

    /// Puts a delivery that is lost, or must wait no longer, on its handler's work queue, where it continues from
    /// `from`. If the delivery is still parked there, it becomes due at once.
    async fn publish_anew(&self, handler: HandlerName, event: &Event, from: Resumed) -> Result<(), PublishError>;

    /// The depth of every queue of this configuration, including empty ones.
    async fn queues(&self) -> Result<Vec<QueueDepth>, BrokerError>;

    /// Queues other than the handlers' own: the delay queues, and the queue of unrouted messages. The embedded broker
    /// has none.
    async fn other_queues(&self) -> Result<Vec<OtherQueue>, BrokerError>;

    /// Removes what a queue still holds of one event for one handler (erasure); `true` if something was removed.
    /// RabbitMQ cannot take a message out of the middle of a queue: there the message stays until its handler gets it,
    /// finds in the store that the event was erased, and drops it.
    async fn remove(&self, event_id: &EventId, handler: HandlerName) -> Result<bool, BrokerError>;
}

/// Durable queues between ingest and workers: all three traits, for programs that work on both sides.
pub trait Broker: Publish + Consume + QueueAdmin {}

impl<T: Publish + Consume + QueueAdmin> Broker for T {}
