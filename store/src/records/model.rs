//! Types of the built-in system of record and of contacts at TextUs. Times are in milliseconds, phones in E.164.

use hookline_common::event::EventId;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;

/// What we know about a person's contact in one TextUs account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactLink {
    pub account: String,
    pub phone: Phone,
    pub contact_id: Option<String>,
    pub person_id: Option<String>,
    pub created_by_us: bool,
}

/// Whether the caller may write for one account and phone now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhoneLock {
    /// The caller holds the lock until the lease ends. Holds what is known of the contact.
    Mine(ContactLink),
    /// Another delivery holds the lock. Come back at `until`; no attempt is spent.
    Wait { until: Timestamp },
}

/// What a TextUs contact says about a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonFacts {
    /// `/contacts/…`, as TextUs sends it.
    pub contact_id: Option<String>,
    /// The phones in the contact's order.
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

/// A note to write, keyed by its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNote {
    /// `/messages/…`, as TextUs sends it.
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
    /// The thread whose note shows the message; `None` for a note from before there were threads.
    pub thread_id: Option<String>,
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
