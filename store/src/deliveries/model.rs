//! Arguments and results about deliveries. Times are in milliseconds, phones in E.164.

use hookline_broker::{Again, DeadLetterInfo, Resumed};
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::names::{DeadReason, DeliveryState, Destination, HandlerName, SkipReason, Verdict};
use hookline_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One HTTP request of an attempt. Phone numbers in `path` are masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    pub method: String,
    pub path: String,
    /// `None`: no answer came.
    pub status: Option<u16>,
    pub duration_ms: u64,
}

/// One attempt as `events show` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    pub event_id: EventId,
    pub handler: HandlerName,
    pub attempt: u32,
    pub started_at: Timestamp,
    pub duration: Duration,
    pub verdict: Verdict,
    /// The skip reason, the dead-letter reason, or what the retry waits for; redacted.
    pub detail: Option<String>,
    pub requests: Vec<RequestRecord>,
}

/// One copy of a delivery, as the broker delivered it.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// Counts from 1.
    pub attempt: u32,
    pub again: Option<Again>,
    /// When this copy was republished; see `Delivery::copy`.
    pub copy: Option<Timestamp>,
}

/// A delivery that waits in the broker, and how it comes back.
#[derive(Clone, Debug)]
pub struct Parked {
    pub event_id: EventId,
    pub handler: HandlerName,
    pub until: Timestamp,
    /// The attempt that the delivery comes back for.
    pub attempt: u32,
    pub first_attempt_at: Option<Timestamp>,
    /// The paused destination that the delivery waits for.
    pub held_by: Option<Destination>,
}

/// How late a delivery must be to count as lost.
#[derive(Clone, Copy, Debug)]
pub struct Overdue {
    /// Time since the delivery was routed, if nobody has begun it.
    pub not_begun: Duration,
    /// Time since the delivery was due.
    pub due: Duration,
    /// Time since the delivery was last republished.
    pub again: Duration,
}

/// A delivery to republish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    pub event_id: EventId,
    pub handler: HandlerName,
    pub from: Resumed,
}

/// The store's answer before an attempt starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The delivery is not settled: go ahead. The attempt is counted.
    Go,
    /// As `Go`, but with the event from the history: since the broker got its copy, an erased person's number was
    /// masked in the event's text.
    GoMasked,
    /// The delivery is already settled: acknowledge this copy and do nothing.
    AlreadySettled(DeliveryState),
    /// A later attempt of this delivery has begun. A crash between "retry confirmed" and "ack" left this copy.
    StaleCopy,
}

/// How a delivery ended for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    Skipped(SkipReason),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerCounts {
    pub handler: HandlerName,
    pub accepted: u64,
    pub done: u64,
    pub skipped: u64,
    pub dead_lettered: u64,
    pub discarded: u64,
    pub waiting: u64,
}

impl HandlerCounts {
    /// The counts of a handler that has begun nothing.
    #[must_use]
    pub const fn none(handler: HandlerName) -> Self {
        Self { handler, accepted: 0, done: 0, skipped: 0, dead_lettered: 0, discarded: 0, waiting: 0 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    pub handler: HandlerName,
    pub state: DeliveryState,
    pub reason: Option<String>,
    pub attempts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    pub event_id: EventId,
    pub source: SourceName,
    pub source_event_id: Option<String>,
    pub event_type: EventType,
    pub received_at: Timestamp,
    /// `false` once retention or erasure has removed the payload.
    pub has_payload: bool,
    pub deliveries: Vec<DeliveryRow>,
}

/// What the history still has of an event's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The history has no such event.
    Unknown,
    /// Retention or erasure removed the payload.
    Gone,
    /// The event, with the sender's exact bytes.
    Here(Event),
}

/// The number of rows that one run of `expire` removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub payloads: u64,
    pub attempts: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterRow {
    pub id: String,
    pub event_id: EventId,
    pub handler: HandlerName,
    pub info: DeadLetterInfo,
}

#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub event_type: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    pub handler: Option<HandlerName>,
    pub reason: Option<DeadReason>,
    pub since: Option<Timestamp>,
    pub destination: Option<Destination>,
}
