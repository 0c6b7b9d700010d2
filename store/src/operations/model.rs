//! Gates, workers and erasures. Times are in milliseconds, phones in E.164.

use hookline_common::event::EventId;
use hookline_common::names::{Destination, HandlerName, OperationClass};
use hookline_common::time::Timestamp;
use serde::Serialize;

/// Whether calls to a destination may be made; shared by all processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateRow {
    pub destination: Destination,
    pub paused: bool,
    pub reason: Option<String>,
    pub closed_until: Option<Timestamp>,
    pub standing: GateStanding,
    /// What workers on one database share of its quota and breakers, as JSON that only they read.
    pub policy: Option<String>,
}

/// What is known of a destination's pace, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateStanding {
    /// Calls per window, as it said last.
    pub limit: Option<i64>,
    /// Calls left in that window.
    pub remaining: Option<i64>,
    /// Calls that it takes.
    pub per_minute: Option<i64>,
    /// Classes whose breaker is open: one probe at a time is let through.
    pub failing: Vec<OperationClass>,
}

/// What a command asks all workers at once: have you looked at the store since? A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question(pub(crate) i64);

impl Question {
    /// The one before the first: every worker has answered it.
    pub const NONE: Self = Self(0);
}

/// A worker process that has said it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerAnswer {
    pub worker_id: String,
    /// When it was last heard from, by this machine's clock.
    pub heartbeat_at: Timestamp,
    /// Whether it has answered the question, or a newer one.
    pub answered: bool,
    /// How many deliveries of `record_history` it held when it last answered: handed out and not settled.
    pub held_history: i64,
}

/// What `erase` removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Numbers of the person, all of which were erased.
    pub numbers: u64,
    pub payloads: u64,
    /// Payloads of opt-outs that are not sent yet: each goes by itself once its opt-out has ended.
    pub payloads_kept: u64,
    pub notes: u64,
    pub persons: u64,
    pub contact_links: u64,
    pub dead_letters: u64,
    /// Texts of others in which a number was masked.
    pub masked: u64,
    /// Events whose payload went; the queues may hold them still.
    #[serde(skip)]
    pub event_ids: Vec<EventId>,
    /// Deliveries that waited and were given up: the caller removes them from the queues.
    #[serde(skip)]
    pub discarded: Vec<(EventId, HandlerName)>,
    /// Deliveries of these events that still wait: opt-outs, which must be worked off, and `record_history`, which
    /// brings the payload back: ask again after it.
    #[serde(skip)]
    pub still_waiting: Vec<(EventId, HandlerName)>,
    /// Readers kept the write-ahead log from being emptied: until it is, the disk holds what was erased.
    pub log_kept: bool,
}
