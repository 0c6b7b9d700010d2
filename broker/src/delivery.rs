//! One event on its way through one handler, and how a worker settles it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use hookline_common::event::{Event, EventType};
use hookline_common::names::{DeadReason, Destination, HandlerName, Queue};
use hookline_common::time::Timestamp;

use crate::topology::DELIVERY_LIMIT;
use crate::{Again, BrokerError};

/// What a failed attempt records for the next one. It is shown with the delivery; the code that makes it redacts it.
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
    /// Says in words what happened and what to do; redacted.
    pub detail: String,
    pub attempts: u32,
    pub dead_lettered_at: Timestamp,
}

impl DeadLetterInfo {
    /// The reason for a delivery that was handed out too often without being settled.
    pub(crate) fn delivery_limit(attempts: u32) -> Self {
        Self {
            reason: DeadReason::DeliveryLimit,
            destination: None,
            status: None,
            detail: format!(
                "handed out {DELIVERY_LIMIT} times and never settled: it probably ends the process that handles it; look at \
                 the payload before a redrive"
            ),
            attempts,
            dead_lettered_at: Timestamp::now(),
        }
    }
}

/// How this worker finishes with a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The delivery's next state is recorded elsewhere: the broker forgets the delivery.
    Done,
    /// The broker hands the delivery out again, not before `until`.
    Park { until: Timestamp, spends: Spends, last: Option<LastFailure> },
    /// The broker moves the delivery to the handler's dead queue.
    DeadLetter(DeadLetterInfo),
    /// The broker hands the delivery out again, to any consumer, as if it had not been handed out.
    Release,
}

/// What being parked costs a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spends {
    /// The delivery comes back with its next attempt, and ages.
    Attempt,
    /// The delivery comes back with the same attempt, and ages: its age is counted from its first attempt.
    Age,
    /// The delivery spends neither attempt nor age, because nothing was wrong with the destination.
    Nothing,
}

/// Whether the settlement took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The settlement is durable.
    Confirmed,
    /// The lease had passed to another delivery of the same message, or the connection was gone. The broker hands the
    /// delivery out again, unless its answer arrived just before.
    Lost,
}

/// The broker's side of [`Delivery::settle`].
#[async_trait]
pub trait Settler: Send {
    async fn settle(self: Box<Self>, settlement: Settlement) -> Result<Settled, BrokerError>;
    /// Gives back a delivery that no consumer took: the broker hands it out again and does not count this time. Returns
    /// when the broker is certain to do so, whatever becomes of this process's other work.
    async fn give_back(self: Box<Self>);
    /// Called for a delivery that was dropped without a settlement (a panic): the broker must deliver it again, and
    /// counts it towards the delivery limit.
    fn abandon(self: Box<Self>);
}

/// What a broker knows about a delivery.
#[derive(Clone, Debug)]
pub struct DeliveryParts {
    pub event: Arc<Event>,
    pub queue: Queue,
    /// Counted from 1; a retry is 2 or more.
    pub attempt: u32,
    /// When attempt 1 was first handed out, or now if this is the first time. The age limit on retries counts from
    /// here.
    pub first_attempt_at: Timestamp,
    /// How often the delivery was handed out and came back without a settlement.
    pub redeliveries: u32,
    pub again: Option<Again>,
    /// When this copy was published anew, if the broker can hold several copies of one delivery; work on an older copy
    /// is obsolete. Zero if the delivery was never published anew; `None` if the broker holds at most one copy.
    pub copy: Option<Timestamp>,
    /// Why the previous attempt failed.
    pub last: Option<LastFailure>,
    /// On a dead queue: why the delivery is there.
    pub dead: Option<DeadLetterInfo>,
    /// The handlers whose queues took this event when it was published.
    pub routed_to: Vec<HandlerName>,
}

impl DeliveryParts {
    #[must_use]
    pub fn event_type(&self) -> &EventType {
        &self.event.event_type
    }

    /// Time since the event was received.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.event.received_at)
    }
}

/// One event on its way through one handler: its parts, which can be read, and one chance to settle it.
pub struct Delivery {
    parts: DeliveryParts,
    /// `None` once the delivery is settled.
    settler: Option<Box<dyn Settler>>,
}

impl Delivery {
    #[must_use]
    pub fn new(parts: DeliveryParts, settler: Box<dyn Settler>) -> Self {
        Self { parts, settler: Some(settler) }
    }

    /// Settles the delivery; the settlement is durable when this returns `Confirmed`. Only `worker::settle` calls this.
    ///
    /// # Errors
    /// If the broker is not available: it hands the delivery out again.
    pub async fn settle(mut self, settlement: Settlement) -> Result<Settled, BrokerError> {
        match self.settler.take() {
            Some(settler) => settler.settle(settlement).await,
            None => Ok(Settled::Lost),
        }
    }

    /// Gives back a delivery that no consumer took out of its buffer.
    pub(crate) async fn give_back(mut self) {
        if let Some(settler) = self.settler.take() {
            settler.give_back().await;
        }
    }
}

impl Deref for Delivery {
    type Target = DeliveryParts;

    fn deref(&self) -> &DeliveryParts {
        &self.parts
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settler) = self.settler.take() {
            settler.abandon();
        }
    }
}
