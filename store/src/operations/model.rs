//! Types of gates, workers and erasures. Times are in milliseconds, phones in E.164.

use hookline_common::event::EventId;
use hookline_common::names::{Destination, HandlerName, OperationClass};
use hookline_common::time::Timestamp;
use serde::Serialize;

/// Whether calls to a destination may be made; all processes share this row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateRow {
    pub destination: Destination,
    pub paused: bool,
    pub reason: Option<String>,
    pub closed_until: Option<Timestamp>,
    pub standing: GateStanding,
    /// What workers on one database share about the destination's quota and breakers, as JSON that only they read.
    pub policy: Option<String>,
}

/// What is known of a destination's rate, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateStanding {
    /// Calls per window, as the destination last stated.
    pub limit: Option<i64>,
    /// Calls left in that window.
    pub remaining: Option<i64>,
    /// Calls per minute that the destination accepts.
    pub per_minute: Option<i64>,
    /// Classes whose breaker is open: the gate lets through one probe at a time.
    pub failing: Vec<OperationClass>,
}

/// A command's question to all workers: have you read the store since? Later questions are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question(pub(crate) i64);

impl Question {
    /// The question before the first one, which every worker has answered.
    pub const NONE: Self = Self(0);
}

/// A running worker process, as `hookline status` shows it. `None`: the worker is of a version that does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerProcess {
    pub id: String,
    /// `worker`, or `run` where ingest is in the same process.
    pub kind: Option<String>,
    pub version: Option<String>,
    pub since: Option<Timestamp>,
    /// The worker's last sign of life, by this machine's clock.
    pub heartbeat_at: Timestamp,
}

/// A worker process that has sent a heartbeat or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerAnswer {
    pub worker_id: String,
    /// The worker's last sign of life, by this machine's clock.
    pub heartbeat_at: Timestamp,
    /// Whether the worker has answered the question, or a newer one.
    pub answered: bool,
    /// How many unsettled deliveries of `record_history` the worker held when it last answered.
    pub held_history: i64,
}

/// A note in a system of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteNote {
    /// Kind and instance of the system.
    pub system: String,
    /// The note's id there.
    pub id: String,
}

/// What `erase` removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// The person's numbers, all of which were erased.
    pub numbers: u64,
    pub payloads: u64,
    /// Payloads of opt-outs that are not sent yet: each goes by itself once its opt-out has ended.
    pub payloads_kept: u64,
    pub notes: u64,
    pub persons: u64,
    pub contact_links: u64,
    /// Notes that a system of record other than the built-in one has. The caller deletes them there.
    #[serde(skip)]
    pub remote_notes: Vec<RemoteNote>,
    pub dead_letters: u64,
    /// Other people's texts in which a number was masked.
    pub masked: u64,
    /// Events whose payload was erased; the queues may still hold copies.
    #[serde(skip)]
    pub event_ids: Vec<EventId>,
    /// Waiting deliveries that were given up; the caller removes them from the queues.
    #[serde(skip)]
    pub discarded: Vec<(EventId, HandlerName)>,
    /// Deliveries of these events that still wait: opt-outs, which must be completed, and `record_history`, which
    /// brings the payload back. Erase again after they are settled.
    #[serde(skip)]
    pub still_waiting: Vec<(EventId, HandlerName)>,
    /// Readers kept the write-ahead log from being emptied. Until it is empty, the disk holds the erased data.
    pub log_kept: bool,
}
