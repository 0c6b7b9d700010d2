//! What goes into the store and comes out of it. Times are [`Timestamp`]s (milliseconds), phones E.164.

use std::time::Duration;

use hookline_broker::{Again, DeadLetterInfo, Resumed};
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::names::{
    DeadReason, DeliveryState, Destination, HandlerName, OperationClass, SkipReason, Verdict,
};
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::deliveries::waiting::Waiting;
pub use crate::effects::completed::Made;

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
    pub unbegun: Duration,
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

/// An opt-out that was received and is not PUT to every account that it is to be PUT to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    pub event_id: EventId,
    pub source_event_id: Option<String>,
    pub received_at: Timestamp,
    /// Never later than received; with account and phone, `None` where no worker has handled it.
    pub event_time: Option<Timestamp>,
    pub account: Option<String>,
    pub phone: Option<String>,
    pub missing_accounts: Vec<String>,
    pub why: UnsentWhy,
    /// Of the last call that was made for it.
    pub last_status: Option<u16>,
}

/// What keeps an opt-out from being sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnsentWhy {
    DeadLetter {
        /// `None`: a newer version's.
        reason: Option<DeadReason>,
        status: Option<u16>,
    },
    /// Nobody has begun it.
    NotBegun,
    UnderWay {
        attempt: u32,
    },
    Waiting {
        attempt: u32,
        until: Timestamp,
    },
    Paused {
        destination: String,
    },
    /// It was due, and nothing brings it back.
    Lost,
}

/// All of them, as the metrics tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnsentSum {
    pub opt_outs: u64,
    /// Dead letters and lost ones: they do not come right by themselves.
    pub stuck: u64,
    pub oldest: Option<Timestamp>,
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

/// Who asks for an effect, and which one.
#[derive(Clone, Debug)]
pub struct ClaimRequest<'a> {
    pub handler: HandlerName,
    /// The account or object that the effect is written to.
    pub target: &'a str,
    /// What the fact is: a message id, an account and phone, an event id.
    pub effect_key: &'a str,
    pub event_id: &'a EventId,
    /// This delivery of this process: a claim belongs to it until it is finished, released or expired.
    pub owner: &'a str,
    /// At least three call time-outs.
    pub lease: Duration,
    /// One call time-out: how long after a claim's end an unknown outcome may still come true.
    pub settle_after: Duration,
}

/// Fencing token of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimToken {
    pub handler: HandlerName,
    pub target: String,
    pub effect_key: String,
    pub owner: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Ours, and nobody tried before: go ahead.
    Fresh(ClaimToken),
    /// Ours, but an earlier call may have taken effect: look before writing. `event_id` is whose call that was, this
    /// event's or another's. `write_again` is set where a person decided (`dead-letters resolve --write-again`) that
    /// it has not.
    AfterUnknown { token: ClaimToken, write_again: bool, event_id: EventId },
    /// Made before, by this event or another; where an effect was found that was in doubt, by the event that was.
    Done { event_id: EventId, remote_id: Option<String> },
    /// Another delivery holds it, or an unknown outcome is too young to look at: come back then, no attempt spent.
    Wait { until: Timestamp },
}

/// An event as the ledger of opt-outs sees it.
#[derive(Clone, Debug)]
pub struct OptEvent<'a> {
    pub event_id: &'a EventId,
    pub source_event_id: Option<&'a str>,
    /// The account that raised it.
    pub account: &'a str,
    pub phone: &'a Phone,
    pub opted_out: bool,
    /// As the sender stated; `None` where that cannot be read.
    pub event_time: Option<Timestamp>,
    pub received_at: Timestamp,
    pub method: OptMethod,
    /// The accounts that an opt-out is to be PUT to, as configured now: kept with its first record.
    pub targets: &'a [String],
}

/// How an event tells of an opt-out or opt-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptMethod {
    /// As its own kind of webhook.
    Webhook,
    /// As a text that is a stop word alone.
    Keyword,
}

impl OptMethod {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Keyword => "keyword",
        }
    }
}

/// What an opt event is, by event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptStanding {
    Current,
    /// Of an opt-out: an opt-in of this account and phone undoes it. Of an opt-in: it does not undo every opt-out of
    /// this account and phone, or its time cannot be read.
    Stale,
}

/// What to do about one target account of an opt-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutDecision {
    /// `put_sent` was written to the ledger in the same transaction: make the call.
    Put,
    /// Our ledger shows a PUT of this phone to this account that makes another needless, and the account raised this
    /// event: it may be the echo of that PUT.
    Echo,
    /// This event's own effect on this target is done.
    Duplicate,
    /// As `Echo`, where another account raised this event.
    AlreadyDone,
    /// An opt-in that undoes this opt-out was recorded since the event was.
    Stale,
    /// Another event's PUT of this phone to this account is in flight: ask again when it may have ended.
    Wait { until: Timestamp },
}

/// How a PUT ended, for the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutAnswer {
    /// Answered with this status; a 2xx with the opt-out itself, or with no body: proof.
    Status(u16),
    /// A 2xx whose body is not this opt-out: no proof.
    Unproven(u16),
    /// 409, 422, or a 2xx that was no proof came, and a GET then showed the opt-out: proof.
    ReadBack(u16),
    /// No answer: it may have taken effect.
    NoAnswer,
    /// The call was never sent: surely no effect.
    NotSent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerKind {
    Received,
    PutSent,
    PutAnswered,
    ReadBack,
    OptedIn,
    Skipped,
}

/// One row of the ledger, as `opt-outs prove` prints it. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerEntry {
    pub seq: i64,
    pub kind: LedgerKind,
    pub at: String,
    pub event_id: String,
    pub account: String,
    pub status: Option<u16>,
    /// As the sender stated it.
    pub event_time: Option<String>,
    pub received_at: Option<String>,
    pub reason: Option<String>,
    pub method: Option<String>,
    pub source_event_id: Option<String>,
    pub hash_version: i64,
    pub hash: String,
    pub previous_hash: String,
}

/// One row of the ledger, as `opt-outs export` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportedEntry {
    pub phone: String,
    #[serde(flatten)]
    pub entry: LedgerEntry,
}

/// Outcome of walking the chain and of comparing the state that follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerCheck {
    pub entries: u64,
    /// `None`: whole. Otherwise which entry or state is wrong, and how.
    pub broken: Option<String>,
    /// Hash of the last entry.
    pub head: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptOutRow {
    pub account: String,
    pub phone: String,
    pub opted_out: bool,
    pub event_time: Timestamp,
    pub source_event_id: Option<String>,
    /// Status of the last PUT answered for this phone.
    pub put_status: Option<u16>,
}

/// What we know about a person's contact in one TextUs account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactLink {
    pub account: String,
    pub phone: Phone,
    pub contact_id: Option<String>,
    pub person_id: Option<String>,
    pub created_by_us: bool,
}

/// Whether the writes for one account and phone are ours to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhoneLock {
    /// Ours until the lease ends; with what is known of the contact.
    Mine(ContactLink),
    /// Another delivery has it: come back then, no attempt spent.
    Wait { until: Timestamp },
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

/// A page of a list; `next` is the cursor of the page after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub next: Option<String>,
}

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

/// What a contact in TextUs tells us of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonFacts {
    /// `/contacts/…` as TextUs sends it.
    pub contact_id: Option<String>,
    /// In the contact's order.
    pub phones: Vec<Phone>,
    pub name: Option<String>,
}

/// A person in the built-in system of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonRow {
    pub record_id: String,
    pub contact_id: Option<String>,
    /// The first of `phones`.
    pub phone: Option<String>,
    pub phones: Vec<String>,
    pub name: Option<String>,
    pub created_at: Timestamp,
}

/// A note as it is written, keyed by the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNote {
    /// `/messages/…` as TextUs sends it.
    pub message_id: String,
    pub event_id: EventId,
    pub contact_id: Option<String>,
    pub phone: Option<String>,
    /// `in` or `out`.
    pub direction: String,
    pub body: String,
    pub occurred_at: Timestamp,
    pub business_number: Option<String>,
    pub user: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteRow {
    pub note_id: String,
    pub person_id: String,
    pub note: NewNote,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptFlagRow {
    pub phone: String,
    pub opted_out: bool,
    pub event_time: Timestamp,
}

/// What `erase` removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Numbers of the person, all of which were erased.
    pub numbers: u64,
    pub payloads: u64,
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
