//! The broker as both sides see it: publish until durable ([`Publish`]), consume and settle ([`Consume`]), administer
//! ([`QueueAdmin`]). Two implementations, one conformance suite (`conformance`) that both must pass.
//!
//! What every implementation promises (docs/guarantees.md, 1 and 2):
//! - [`Publish::publish`] returns `Ok` only when the event is durable for every handler that takes it.
//! - A delivery that was not settled (process gone, lease lost) is delivered again, at least once.
//! - A settlement is durable before [`Delivery::settle`] returns `Ok(Settled::Confirmed)`.
//! - Giving a delivery back ([`Settlement::Release`]) and parking it never count towards the delivery limit.

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
    /// The same event id was stored before: exact on the embedded broker, best effort on RabbitMQ.
    pub duplicate: bool,
}

/// Why an event was not stored. All of them are ours, none the sender's.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The broker said no, or could not be reached: the event is not stored.
    #[error("the broker did not store the event: {0}")]
    Unavailable(String),
    /// No answer in time: the event may be stored or not.
    #[error("the broker did not answer in time; whether it stored the event is unknown")]
    Unknown,
    /// Too many publishes in flight.
    #[error("too many events are waiting to be stored")]
    Overloaded,
    /// The disk failed to keep what it was told to keep: nothing may be accepted any more.
    #[error("durable storage failed: {0}")]
    Fatal(String),
}

/// Why the broker could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another process owns consuming on this data directory.
    #[error("{0}")]
    Owned(String),
    #[error("cannot open {path}: {cause}")]
    Open { path: String, cause: String },
    #[error("the broker is not available: {0}")]
    Unavailable(String),
}

/// Whether an event could be made durable, and queues are consumed, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerState {
    Ready,
    /// With the reason, for `/readyz`.
    NotReady(String),
    /// Storage failed for good: the process must end.
    Failed(String),
}

/// Why a handler gets an event besides its first publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    /// From a dead letter, attempt reset to 1.
    Redrive,
    /// From the history: done effects stay done.
    Replay,
}

/// Where a delivery that is published anew goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    pub attempt: u32,
    /// `None`: none was made.
    pub first_attempt_at: Option<Timestamp>,
    /// Tells this copy from those before it; see [`DeliveryParts::copy`].
    pub copy: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    pub queue: Queue,
    /// On the embedded broker everything that is not settled: ready, parked and handed out. RabbitMQ tells only what
    /// is ready.
    pub messages: u64,
    /// When the oldest of them was received; RabbitMQ does not tell.
    pub oldest: Option<Timestamp>,
    /// How many consumers the queue has; the embedded broker does not tell.
    pub consumers: Option<u32>,
}

/// A queue that holds deliveries of every handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherQueue {
    pub name: String,
    pub messages: u64,
}

/// Stores events durably: all that ingest needs of a broker.
#[async_trait]
pub trait Publish: Send + Sync + 'static {
    /// Stores the event for every handler that takes its type; returns when it is durable.
    async fn publish(&self, event: &Event) -> Result<Stored, PublishError>;

    /// As [`Publish::publish`], for who can wait longer than a webhook's sender: on a link that is slow and works, giving
    /// up would only send everything again.
    async fn publish_patiently(&self, event: &Event) -> Result<Stored, PublishError>;

    /// Whether an event could be made durable now.
    fn state(&self) -> watch::Receiver<BrokerState>;

    /// Stops handing out deliveries, settles what settlements wait, closes. Called last.
    async fn close(&self);
}

/// Hands out deliveries of queues.
#[async_trait]
pub trait Consume: Send + Sync + 'static {
    /// Consumes a queue. At most `prefetch` deliveries are out and not settled. Needs the owner's role on the
    /// embedded broker.
    async fn consume(&self, queue: Queue, prefetch: u16) -> Result<Deliveries, BrokerError>;

    /// How many deliveries of a queue this process was handed and has not settled, where the broker's own counts leave
    /// them out (RabbitMQ); 0 where they don't. What was given back counts until it is back in its queue.
    async fn held(&self, queue: Queue) -> u64;
}

/// What is done to queues from outside: look, put back, remove.
#[async_trait]
pub trait QueueAdmin: Send + Sync + 'static {
    /// Puts an event on one handler's work queue, at attempt 1, whether or not it was there before. Where it is still
    /// waiting there, nothing changes.
    async fn publish_again(&self, handler: HandlerName, event: &Event, why: Again) -> Result<(), PublishError>;

    /// Puts a delivery that is lost, or must wait no longer, on its handler's work queue, to go on where it was. One that
    /// is parked there still is due at once.
    async fn publish_anew(&self, handler: HandlerName, event: &Event, from: Resumed) -> Result<(), PublishError>;

    /// Every queue of this configuration, from zero.
    async fn queues(&self) -> Result<Vec<QueueDepth>, BrokerError>;

    /// Queues beside the handlers' own: what waits for a delay to pass, and what no queue took. None on the embedded
    /// broker.
    async fn other_queues(&self) -> Result<Vec<OtherQueue>, BrokerError>;

    /// Removes what a queue still holds of one event and handler (erasure); `true` where something was removed.
    /// RabbitMQ cannot take a message out of the middle of a queue: there it stays until its handler gets it, finds in
    /// the store that it was erased, and drops it.
    async fn remove(&self, event_id: &EventId, handler: HandlerName) -> Result<bool, BrokerError>;
}

/// Durable queues between ingest and workers: all three at once, for who works on both sides.
pub trait Broker: Publish + Consume + QueueAdmin {}

impl<T: Publish + Consume + QueueAdmin> Broker for T {}
