//! Systems of record: where people and notes live. One is configured; each says in its module what idempotency it
//! can give.

pub mod builtin;

use std::time::Duration;

use async_trait::async_trait;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::model::{NewNote, PersonFacts};

use crate::delivery::handler::{Attempt, HandlerError};

/// A person's id at the system of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonId(pub String);

/// Somebody whom the system of record knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    pub id: PersonId,
    /// Their TextUs contact, where the system of record keeps it.
    pub contact_id: Option<String>,
    /// All their numbers.
    pub phones: Vec<Phone>,
}

/// How an upsert ended.
#[derive(Clone, PartialEq, Eq)]
pub struct Upserted {
    /// With all their numbers, those from before too.
    pub person: Person,
    pub created: bool,
    /// The person was created, or something about them is new.
    pub changed: bool,
}

/// The note of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedNote {
    pub id: String,
    /// `false` where the note was there.
    pub created: bool,
}

#[async_trait]
pub trait SystemOfRecord: Send + Sync + 'static {
    /// How long after a call without an answer its effect may still appear.
    fn settle_after(&self) -> Duration;

    /// The people a message could belong to: the one with this contact id or, where there is none, all who have this
    /// phone among their numbers.
    async fn find_people(
        &self,
        attempt: &Attempt<'_>,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<Person>, HandlerError>;

    /// Makes the person, or links the contact to the one who is there. Numbers are added to those that the person has.
    async fn upsert_person(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Upserted, HandlerError>;

    /// The note of this message, where one was written.
    async fn find_note(&self, attempt: &Attempt<'_>, message_id: &str) -> Result<Option<String>, HandlerError>;

    /// Attaches a note, keyed by its message id.
    async fn log_note(
        &self,
        attempt: &Attempt<'_>,
        person: &PersonId,
        note: &NewNote,
    ) -> Result<LoggedNote, HandlerError>;

    /// Sets or clears the opt-out flag of one of the person's numbers unless a newer one is there; `true` where
    /// something changed. A person counts as opted out as long as any of their numbers does.
    async fn set_opt_out(
        &self,
        attempt: &Attempt<'_>,
        person: &PersonId,
        phone: &Phone,
        opted_out: bool,
        event_time: Timestamp,
    ) -> Result<bool, HandlerError>;
}
