//! Threads of text messages and what was written of them to a system of record.

use std::time::Duration;

use hookline_common::event::EventId;
use hookline_common::note_text::{Media, MessageOutcome, NoteMessage, NoteThread};
use hookline_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What the messages of one thread have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadFacts {
    pub account: String,
    /// The contact's number in E.164.
    pub phone: Option<String>,
    /// `/contacts/…`; part of the key only where there is no number.
    pub contact_id: Option<String>,
    pub business_number: Option<String>,
    /// The local date of the message: `2026-11-02`.
    pub day: String,
    /// The message, where each one has a note of its own.
    pub only_message: Option<String>,
}

impl ThreadFacts {
    /// Returns the hash of what the thread is known by.
    pub(crate) fn key(&self) -> String {
        let whose = if self.phone.is_some() { &None } else { &self.contact_id };
        let parts = (&self.account, &self.phone, whose, &self.business_number, &self.day, &self.only_message);
        // JSON keeps the parts apart, whatever is in them.
        let parts = serde_json::to_vec(&parts).unwrap_or_default();
        hex::encode(&Sha256::digest(parts)[..16])
    }
}

/// One message of a thread.
#[derive(Clone, PartialEq, Eq)]
pub struct ThreadMessage {
    /// `/messages/…`, as TextUs sends it.
    pub message_id: String,
    pub event_id: EventId,
    /// The event's time. Of differing copies of one message the one with the later time counts.
    pub event_time: Timestamp,
    pub is_inbound: bool,
    pub outcome: MessageOutcome,
    pub body: String,
    /// The TextUs user who wrote an outbound text: a name or, if there is only a link, a path.
    pub author: Option<String>,
    pub author_email: Option<String>,
    pub media: Vec<Media>,
    pub is_stop: bool,
    pub occurred_at: Timestamp,
}

impl ThreadMessage {
    /// Orders the copies of one message: what was delivered counts before what failed, then the later event, then the
    /// greater event id. The order does not depend on which copy came first.
    #[must_use]
    pub fn rank(&self) -> (bool, Timestamp, &str) {
        (self.outcome != MessageOutcome::Failed, self.event_time, self.event_id.as_str())
    }
}

/// A thread and its messages, ordered by time and id.
#[derive(Clone, PartialEq, Eq)]
pub struct Thread {
    /// `thread_…`, unique and the same for ever.
    pub thread_id: String,
    pub account: String,
    pub phone: Option<String>,
    pub contact_id: Option<String>,
    pub business_number: Option<String>,
    pub day: String,
    pub messages: Vec<ThreadMessage>,
}

impl Thread {
    /// Returns what the text of the thread's note is made from.
    #[must_use]
    pub fn note(&self) -> NoteThread {
        let message = |message: &ThreadMessage| NoteMessage {
            occurred_at: message.occurred_at,
            is_inbound: message.is_inbound,
            outcome: message.outcome,
            body: message.body.clone(),
            // A path of the API names nobody whom a reader knows.
            author: message.author.clone().filter(|author| !author.starts_with('/')),
            media: message.media.clone(),
            is_stop: message.is_stop,
        };
        NoteThread {
            account: self.account.clone(),
            contact_number: self.phone.clone(),
            business_number: self.business_number.clone(),
            day: self.day.clone(),
            messages: self.messages.iter().map(message).collect(),
        }
    }
}

/// A message that has to be in the note of its thread.
#[derive(Clone)]
pub struct JoinThread {
    pub facts: ThreadFacts,
    pub message: ThreadMessage,
    /// The system of record, with its instance.
    pub system: String,
    pub owner: String,
    pub lease: Duration,
    pub update_every: Duration,
}

/// What has to be done for a message to be in its thread's note.
pub enum ThreadTurn {
    /// A write that contains the message was answered.
    Written { thread_id: String },
    /// The thread was written a moment ago. Come back at `until`; no attempt is spent.
    Wait { until: Timestamp },
    /// Another delivery writes the thread, which may end long before its lease does. Come back soon, and at `until` at the
    /// latest; no attempt is spent.
    Busy { until: Timestamp },
    /// The caller holds the thread's lease and must write it.
    Write(Box<ThreadWrite>),
}

/// A thread to write under its lease.
pub struct ThreadWrite {
    pub thread: Thread,
    pub version: i64,
    /// The person whose record has the note.
    pub person_id: Option<String>,
    /// The notes that are there, in order.
    pub parts: Vec<WrittenPart>,
    pub doubt: Option<Doubt>,
}

impl ThreadWrite {
    /// Returns the note of a part, if one is known.
    #[must_use]
    pub fn note_of(&self, part: usize) -> Option<&WrittenPart> {
        self.parts.get(part).filter(|part| part.is_there())
    }
}

/// A thread as it is, and what one system of record has of it.
pub struct ThreadStand {
    pub thread: Thread,
    /// Whether a message has expired, so that the thread cannot be written whole any more.
    pub is_closed: bool,
    /// The notes that are there, in order.
    pub parts: Vec<WrittenPart>,
}

/// One note of a thread that the system of record has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenPart {
    pub id: String,
    /// The hash of the text.
    pub hash: String,
}

impl WrittenPart {
    /// Returns the place of a note that somebody deleted, until there is a new one.
    #[must_use]
    pub const fn gone() -> Self {
        Self { id: String::new(), hash: String::new() }
    }

    #[must_use]
    pub const fn is_there(&self) -> bool {
        !self.id.is_empty()
    }
}

/// A note that a call without an answer may have created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Which part, from 0.
    pub part: usize,
    pub since: Timestamp,
}

/// The lease of one thread in one system of record.
#[derive(Clone, Debug)]
pub struct ThreadLease {
    pub thread_id: String,
    pub system: String,
    pub owner: String,
}

impl ThreadLease {
    pub(crate) fn write_id(&self) -> String {
        write_id(&self.thread_id, &self.system)
    }
}

pub(crate) fn write_id(thread_id: &str, system: &str) -> String {
    format!("{thread_id} {system}")
}

/// What was written of a thread.
#[derive(Clone)]
pub struct ThreadWritten {
    pub version: i64,
    pub person_id: String,
    pub parts: Vec<WrittenPart>,
    /// The texts of all parts.
    pub text: String,
}

/// A thread as lists show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ThreadRow {
    pub thread_id: String,
    /// The person in the system of record; `None` before the first write.
    pub record_id: Option<String>,
    pub business_number: Option<String>,
    pub day: String,
    pub message_ids: Vec<String>,
    /// The text as it was last written; `None` before the first write, and once it has expired.
    pub text: Option<String>,
    pub remote_id: Option<String>,
    pub written_at: Option<Timestamp>,
}
