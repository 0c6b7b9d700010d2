//! The broker as both sides see it: publish until durable, consume, settle. Two implementations, one conformance
//! suite (`conformance`) that both must pass.
//!
//! What every implementation promises (docs/guarantees.md, 1 and 2):
//! - [`Broker::publish`] returns `Ok` only when the event is durable for every handler that takes it.
//! - A delivery that was not settled (process gone, lease lost) is delivered again, at least once.
//! - A settlement is durable before [`Delivery::settle`] returns `Ok(Settled::Confirmed)`.
//! - Giving a delivery back ([`Settlement::Release`]) and parking it never count towards the delivery limit.

pub mod embedded;
pub mod metrics;
pub mod rabbitmq;
pub mod topology;

#[cfg(feature = "testing")]
pub mod conformance;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use hookline_common::event::{Event, EventType};
use hookline_common::names::{DeadReason, Destination, HandlerName, Queue};
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
    /// Tells this copy from those before it; see [`Delivery::copy`].
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

/// Durable queues between ingest and workers.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Stores the event for every handler that takes its type; returns when it is durable.
    async fn publish(&self, event: &Event) -> Result<Stored, PublishError>;

    /// As [`Broker::publish`], for who can wait longer than a webhook's sender: on a link that is slow and works, giving
    /// up would only send everything again.
    async fn publish_patiently(&self, event: &Event) -> Result<Stored, PublishError> {
        self.publish(event).await
    }

    /// Puts an event on one handler's work queue, at attempt 1, whether or not it was there before. Where it is still
    /// waiting there, nothing changes.
    async fn publish_again(&self, handler: HandlerName, event: &Event, why: Again) -> Result<(), PublishError>;

    /// Puts a delivery that is lost, or must wait no longer, on its handler's work queue, to go on where it was. One that
    /// is parked there still is due at once.
    async fn publish_anew(&self, handler: HandlerName, event: &Event, from: Resumed) -> Result<(), PublishError>;

    /// Consumes a queue. At most `prefetch` deliveries are out and not settled. Needs the owner's role on the
    /// embedded broker.
    async fn consume(&self, queue: Queue, prefetch: u16) -> Result<Deliveries, BrokerError>;

    /// Every queue of this configuration, from zero.
    async fn queues(&self) -> Result<Vec<QueueDepth>, BrokerError>;

    /// Queues beside the handlers' own: what waits for a delay to pass, and what no queue took. None on the embedded
    /// broker.
    async fn other_queues(&self) -> Result<Vec<OtherQueue>, BrokerError> {
        Ok(Vec::new())
    }

    /// How many deliveries of a queue this process was handed and has not settled, where the broker's own counts leave
    /// them out (RabbitMQ); 0 where they don't. What was given back counts until it is back in its queue.
    async fn held(&self, _queue: Queue) -> u64 {
        0
    }

    /// Removes what a queue still holds of one event and handler (erasure); `true` where something was removed.
    /// RabbitMQ cannot take a message out of the middle of a queue: there it stays until its handler gets it, finds in
    /// the store that it was erased, and drops it.
    async fn remove(
        &self,
        event_id: &hookline_common::event::EventId,
        handler: HandlerName,
    ) -> Result<bool, BrokerError>;

    fn state(&self) -> watch::Receiver<BrokerState>;

    /// Stops handing out deliveries, settles what settlements wait, closes. Called last.
    async fn close(&self);
}

/// Implementation side of [`Deliveries`]. Dropping it gives back what was not handed out.
#[async_trait]
pub trait DeliverySource: Send {
    /// The next delivery; `None` when there will be no more. Cancelling it loses nothing.
    async fn next(&mut self) -> Option<Delivery>;

    /// The next delivery if it is there already.
    fn next_waiting(&mut self) -> Option<Delivery>;

    /// Nothing more comes in; what is there stays to be taken.
    async fn stop(&mut self);
}

#[async_trait]
impl DeliverySource for mpsc::Receiver<Delivery> {
    async fn next(&mut self) -> Option<Delivery> {
        self.recv().await
    }

    fn next_waiting(&mut self) -> Option<Delivery> {
        self.try_recv().ok()
    }

    async fn stop(&mut self) {
        self.close();
    }
}

/// A stream of deliveries of one queue; ends when the broker is closed.
pub struct Deliveries {
    source: Box<dyn DeliverySource>,
}

impl Deliveries {
    #[must_use]
    pub fn new(receiver: mpsc::Receiver<Delivery>) -> Self {
        Self::from_source(Box::new(receiver))
    }

    #[must_use]
    pub fn from_source(source: Box<dyn DeliverySource>) -> Self {
        Self { source }
    }

    /// The next delivery; `None` when the broker hands out no more. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.source.next().await
    }

    /// What is there now without waiting, at most `most`.
    pub fn take_waiting(&mut self, most: usize) -> Vec<Delivery> {
        std::iter::from_fn(|| self.source.next_waiting()).take(most).collect()
    }

    /// Ends the stream and returns what was handed out and not taken, so that it can be released.
    pub async fn drain(mut self) -> Vec<Delivery> {
        self.source.stop().await;
        std::iter::from_fn(|| self.source.next_waiting()).collect()
    }
}

/// What a failed attempt leaves for the next: shown with the delivery, redacted by whoever made it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    pub status: Option<u16>,
    /// At most 512 bytes; never a payload, a phone number or a secret.
    pub detail: String,
}

/// Why and where a delivery was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterInfo {
    pub reason: DeadReason,
    pub destination: Option<Destination>,
    pub status: Option<u16>,
    /// In words, redacted: what happened and what to do.
    pub detail: String,
    pub attempts: u32,
    pub dead_lettered_at: Timestamp,
}

/// How a delivery ends its stay with this worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Its next state is recorded elsewhere: forget it.
    Done,
    /// Hand it out again not before `until`.
    Park { until: Timestamp, spends: Spends, last: Option<LastFailure> },
    /// Move it to the handler's dead queue.
    DeadLetter(DeadLetterInfo),
    /// Hand it out again, to whoever is there, as if it had not been handed out.
    Release,
}

/// What the time costs a delivery that is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spends {
    /// The delivery comes back with its next attempt, and ages.
    Attempt,
    /// The delivery comes back with the same attempt, and ages: its time is counted from its first attempt.
    Age,
    /// Neither: nothing was wrong with the destination.
    Nothing,
}

/// Whether the settlement counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Durable.
    Confirmed,
    /// The lease had passed to another delivery of the same message, or the connection was gone: it is handed out again,
    /// unless its answer came through just before.
    Lost,
}

/// Implementation side of [`Delivery::settle`].
#[async_trait]
pub trait Settler: Send {
    async fn settle(self: Box<Self>, settlement: Settlement) -> Result<Settled, BrokerError>;
    /// The delivery was dropped without a verdict (a panic): it must be delivered again, and it counts towards
    /// the delivery limit.
    fn abandon(self: Box<Self>);
}

/// One event on its way through one handler.
pub struct Delivery {
    pub event: Arc<Event>,
    pub queue: Queue,
    /// Counted from 1; a retry is 2 and up.
    pub attempt: u32,
    /// When attempt 1 was first handed out or, where it was not yet, now: retries are limited by age.
    pub first_attempt_at: Timestamp,
    /// How often it was handed out and came back without a settlement.
    pub redeliveries: u32,
    pub again: Option<Again>,
    /// Where several copies of one delivery may be on their way, when this one was published anew: of an older one nothing
    /// is expected any more. Zero where it never was; `None` where the broker holds one copy at most.
    pub copy: Option<Timestamp>,
    /// What the attempt before ran into.
    pub last: Option<LastFailure>,
    /// On a dead queue: why it is there.
    pub dead: Option<DeadLetterInfo>,
    /// The handlers whose queues took this event when it was published.
    pub routed_to: Vec<HandlerName>,
    settler: Option<Box<dyn Settler>>,
}

/// What a broker knows of a delivery; see [`Delivery`] for the fields.
pub struct DeliveryParts {
    pub event: Arc<Event>,
    pub queue: Queue,
    pub attempt: u32,
    pub first_attempt_at: Timestamp,
    pub redeliveries: u32,
    pub again: Option<Again>,
    pub copy: Option<Timestamp>,
    pub last: Option<LastFailure>,
    pub dead: Option<DeadLetterInfo>,
    pub routed_to: Vec<HandlerName>,
}

impl Delivery {
    #[must_use]
    pub fn new(parts: DeliveryParts, settler: Box<dyn Settler>) -> Self {
        let DeliveryParts { event, queue, attempt, first_attempt_at, redeliveries, again, copy, last, dead, routed_to } =
            parts;
        Self {
            event,
            queue,
            attempt,
            first_attempt_at,
            redeliveries,
            again,
            copy,
            last,
            dead,
            routed_to,
            settler: Some(settler),
        }
    }

    #[must_use]
    pub fn event_type(&self) -> &EventType {
        &self.event.event_type
    }

    /// Time since the event was received.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.event.received_at)
    }

    /// Carries out the verdict; durable when it returns `Confirmed`. Only `worker::settle` calls this.
    ///
    /// # Errors
    /// Where the broker cannot be asked: the delivery will be handed out again.
    pub async fn settle(mut self, settlement: Settlement) -> Result<Settled, BrokerError> {
        match self.settler.take() {
            Some(settler) => settler.settle(settlement).await,
            None => Ok(Settled::Lost),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settler) = self.settler.take() {
            settler.abandon();
        }
    }
}
