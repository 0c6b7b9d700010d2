//! Arguments and results about opt-outs and the ledger. Times are in milliseconds, phones in E.164.

use hookline_common::event::EventId;
use hookline_common::names::DeadReason;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use serde::Serialize;

/// An opt-out that was received but not yet PUT to every account it must be PUT to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    pub event_id: EventId,
    pub source_event_id: Option<String>,
    pub received_at: Timestamp,
    /// Never later than the receipt. `None`, like account and phone, if no worker has handled the event.
    pub event_time: Option<Timestamp>,
    pub account: Option<String>,
    pub phone: Option<String>,
    pub missing_accounts: Vec<String>,
    pub why: UnsentWhy,
    /// The status of the last call for this opt-out.
    pub last_status: Option<u16>,
}

/// Why an opt-out is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnsentWhy {
    DeadLetter {
        /// `None`: a newer version's reason.
        reason: Option<DeadReason>,
        status: Option<u16>,
    },
    /// No worker has begun the delivery.
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
    /// The delivery was due, and nothing brings it back.
    Lost,
}

/// The sum of all unsent opt-outs, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnsentSum {
    pub opt_outs: u64,
    /// Dead letters and lost deliveries, which do not recover by themselves.
    pub stuck: u64,
    pub oldest: Option<Timestamp>,
}

/// What was confirmed of an opt-out flag on one record of the system of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfirmedFlag {
    /// The system of record, with its instance.
    pub system: String,
    /// The person's id there; empty where the system has no people of its own.
    pub record_id: String,
    /// The state of the number. The flag of a person with another number may differ.
    pub opted_out: bool,
    /// The time of the newest news.
    pub since: Timestamp,
    pub confirmation: FlagConfirmation,
}

/// How a flag was confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagConfirmation {
    /// The flag was written and then, where the system allows it, read back.
    Written,
    /// The record was read and had it already.
    Found,
    /// The record was read and has newer news, which stay.
    Newer,
}

impl FlagConfirmation {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Found => "found",
            Self::Newer => "newer",
        }
    }

    /// Reads the name that [`FlagConfirmation::as_str`] returns.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Written, Self::Found, Self::Newer].into_iter().find(|known| known.as_str() == text)
    }
}

/// A confirmed flag as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagRow {
    pub flag: ConfirmedFlag,
    pub confirmed_at: Timestamp,
}

/// An event as the opt-out ledger sees it.
#[derive(Clone, Debug)]
pub struct OptEvent<'a> {
    pub event_id: &'a EventId,
    pub source_event_id: Option<&'a str>,
    /// The account that raised the event.
    pub account: &'a str,
    pub phone: &'a Phone,
    pub opted_out: bool,
    /// The event time as the sender stated it; `None` if unreadable.
    pub event_time: Option<Timestamp>,
    pub received_at: Timestamp,
    pub method: OptMethod,
    /// The accounts that an opt-out must be PUT to, as configured now. The store keeps them with the event's first
    /// record.
    pub targets: &'a [String],
}

/// How an event states an opt-out or opt-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptMethod {
    /// A webhook of its own type.
    Webhook,
    /// A text that consists of a stop word alone.
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

/// The standing of an opt-out or opt-in by event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptStanding {
    Current,
    /// For an opt-out: an opt-in of this account and phone, or for a stop word a START text, undoes it. For an opt-in:
    /// it does not undo every opt-out of this account and phone, or its time cannot be read.
    Stale,
}

/// The opt-outs that are newer than an opt-in or START text and were decided before it was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overtaking {
    /// Settled opt-outs that need a PUT after all. They are waiting again.
    pub reopened: Vec<EventId>,
    /// As `reopened`, but their payloads were erased, so nothing can be published.
    pub erased: Vec<EventId>,
    /// When the attempts under way for other newer opt-outs have ended at the latest; `None` if none is under way.
    pub in_hand_until: Option<Timestamp>,
}

/// What to do about one target account of an opt-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutDecision {
    /// Make the call. The same transaction has written `put_sent` to the ledger.
    Put,
    /// The ledger shows a PUT of this phone to this account that makes another needless, and the account itself raised
    /// this event, which may be the echo of that PUT.
    Echo,
    /// This event's own effect on this target is done.
    Duplicate,
    /// As `Echo`, but a person's text or another account raised this event.
    AlreadyDone,
    /// An opt-in or START text that undoes this opt-out was recorded after this event.
    Stale,
    /// Another event's PUT of this phone to this account is in flight. Ask again at `until`, when it may have ended.
    Wait { until: Timestamp },
}

/// How a PUT ended, for the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutAnswer {
    /// An answer with this status. A 2xx showed the opt-out or had no body: proof.
    Status(u16),
    /// A 2xx whose body does not show this opt-out: no proof.
    Unproven(u16),
    /// The answer was 409, 422, or a 2xx that was no proof, and a GET then showed the opt-out: proof.
    ReadBack(u16),
    /// No answer: the PUT may have taken effect.
    NoAnswer,
    /// The call was never sent, so it certainly had no effect.
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
    /// The event time as the sender stated it.
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

/// The result of verifying the chain and comparing the state derived from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerCheck {
    pub entries: u64,
    /// `None`: all is whole. Otherwise the entry or state that is wrong, and how.
    pub broken: Option<String>,
    /// The hash of the last entry.
    pub head: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptOutRow {
    pub account: String,
    pub phone: String,
    pub opted_out: bool,
    pub event_time: Timestamp,
    pub source_event_id: Option<String>,
    /// The status of the last answered PUT for this phone.
    pub put_status: Option<u16>,
}
