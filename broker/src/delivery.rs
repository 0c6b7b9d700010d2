//! One event on its way through one handler, and how it ends its stay with this worker.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use hookline_common::event::{Event, EventType};
use hookline_common::names::{DeadReason, Destination, HandlerName, Queue};
use hookline_common::time::Timestamp;

use crate::{Again, BrokerError};

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
    /// Its next state is recorded elsewhere: the broker forgets it.
    Done,
    /// The broker hands it out again, not before `until`.
    Park { until: Timestamp, spends: Spends, last: Option<LastFailure> },
    /// The broker moves it to the handler's dead queue.
    DeadLetter(DeadLetterInfo),
    /// The broker hands it out again, to whoever is there, as if it had not been handed out.
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
    /// The lease had passed to another delivery of the same message, or the connection was gone: the broker hands the
    /// delivery out again, unless its answer came through just before.
    Lost,
}

/// Implementation side of [`Delivery::settle`].
#[async_trait]
pub trait Settler: Send {
    async fn settle(self: Box<Self>, settlement: Settlement) -> Result<Settled, BrokerError>;
    /// The delivery was never handed out: the broker hands it out again, and does not count this time. Returns when the
    /// broker will do so, whatever becomes of this process's other work.
    async fn give_back(self: Box<Self>);
    /// The delivery was dropped without a verdict (a panic): it must be delivered again, and it counts towards
    /// the delivery limit.
    fn abandon(self: Box<Self>);
}

/// What a broker knows of a delivery.
#[derive(Clone, Debug)]
pub struct DeliveryParts {
    pub event: Arc<Event>,
    pub queue: Queue,
    /// Counted from 1; a retry is 2 and up.
    pub attempt: u32,
    /// When attempt 1 was first handed out or, where it was not yet, now: retries are limited by age.
    pub first_attempt_at: Timestamp,
    /// How often it was handed out and came back without a settlement.
    pub redeliveries: u32,
    pub again: Option<Again>,
    /// Where several copies of one delivery may be on their way, when this one was published anew: nothing is expected any
    /// more of an older one. Zero where it never was; `None` where the broker holds one copy at most.
    pub copy: Option<Timestamp>,
    /// What the attempt before ran into.
    pub last: Option<LastFailure>,
    /// On a dead queue: why it is there.
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

/// One event on its way through one handler: its parts, to be read, and the one chance to settle it.
pub struct Delivery {
    parts: DeliveryParts,
    /// `None` once it is settled.
    settler: Option<Box<dyn Settler>>,
}

impl Delivery {
    #[must_use]
    pub fn new(parts: DeliveryParts, settler: Box<dyn Settler>) -> Self {
        Self { parts, settler: Some(settler) }
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

    /// For a delivery that nobody took out of its buffer.
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
