//! Opt-outs and the ledger, as they go into the store and come out of it. Times are in milliseconds, phones in E.164.

use hookline_common::event::EventId;
use hookline_common::names::DeadReason;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use serde::Serialize;

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
