//! Deliveries, as they go into the store and come out of it. Times are in milliseconds, phones in E.164.

use hookline_broker::{Again, DeadLetterInfo, Resumed};
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::names::{DeadReason, DeliveryState, Destination, HandlerName, SkipReason, Verdict};
use hookline_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One HTTP request of an attempt; `path` has phone numbers masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    pub method: String,
    pub path: String,
    /// `None`: no answer came.
    pub status: Option<u16>,
    pub duration_ms: u64,
}

/// One attempt as `events show` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    pub event_id: EventId,
    pub handler: HandlerName,
    pub attempt: u32,
    pub started_at: Timestamp,
    pub duration: Duration,
    pub verdict: Verdict,
    /// Skip reason, dead-letter reason, or what the retry waits for; redacted.
    pub detail: Option<String>,
    pub requests: Vec<RequestRecord>,
}

/// One copy of a delivery, as the broker handed it out.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// From 1.
    pub attempt: u32,
    pub again: Option<Again>,
    /// When it was published anew; see `Delivery::copy`.
    pub copy: Option<Timestamp>,
}

/// A delivery that waits in the broker, and how it comes back.
#[derive(Clone, Debug)]
pub struct Parked {
    pub event_id: EventId,
    pub handler: HandlerName,
    pub until: Timestamp,
    /// The attempt that it comes back for.
    pub attempt: u32,
    pub first_attempt_at: Option<Timestamp>,
    /// The paused destination that it waits for.
    pub held_by: Option<Destination>,
}

/// For how long something must be late before a delivery counts as lost.
#[derive(Clone, Copy, Debug)]
pub struct Overdue {
    /// Since it was routed, where nobody has begun it.
    pub not_begun: Duration,
    /// Since it was due.
    pub due: Duration,
    /// Since it was published anew the last time.
    pub again: Duration,
}

/// A delivery to publish anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    pub event_id: EventId,
    pub handler: HandlerName,
    pub from: Resumed,
}

/// What the store says before an attempt starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Not settled: go ahead. The attempt is counted.
    Go,
    /// As `Go`, with the event as the history has it: an erased person's number was masked in its text since the broker
    /// got its copy.
    GoMasked,
    /// Settled before: acknowledge this copy and do nothing.
    AlreadySettled(DeliveryState),
    /// A later attempt of this delivery has begun: this copy was left by a crash between "retry confirmed" and "ack".
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
    /// Of a handler that has begun nothing.
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
    /// `false` once retention or erasure took the payload.
    pub has_payload: bool,
    pub deliveries: Vec<DeliveryRow>,
}

/// What the history still has of an event's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// No such event in the history.
    Unknown,
    /// Retention or erasure took the bytes.
    Gone,
    /// The event, with the sender's exact bytes.
    Here(Event),
}

/// What one run of `expire` removed.
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
