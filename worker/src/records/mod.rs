//! Systems of record, which hold people and notes. One is configured. Each system's module says how idempotent it is.

pub mod builtin;

use std::time::Duration;

use async_trait::async_trait;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::model::{NewNote, PersonFacts};

use crate::delivery::handler::{Attempt, HandlerError};

/// A person's id in the system of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonId(pub String);

/// A person whom the system of record knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    pub id: PersonId,
    /// The person's TextUs contact, if the system of record stores it.
    pub contact_id: Option<String>,
    /// All numbers of the person.
    pub phones: Vec<Phone>,
}

/// The result of an upsert.
#[derive(Clone, PartialEq, Eq)]
pub struct Upserted {
    /// The person with all numbers, including earlier ones.
    pub person: Person,
    pub created: bool,
    /// Whether the person was created, or something about them is new.
    pub changed: bool,
}

/// The note of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedNote {
    pub id: String,
    /// `false` if the note already existed.
    pub created: bool,
}

#[async_trait]
pub trait SystemOfRecord: Send + Sync + 'static {
    /// Returns how long the effect of a call without an answer may still appear.
    fn settle_after(&self) -> Duration;

    /// Returns the people whom a message may belong to: the one with this contact id or, if there is none, all who have
    /// this phone among their numbers.
    async fn find_people(
        &self,
        attempt: &Attempt<'_>,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<Person>, HandlerError>;

    /// Creates the person, or links the contact to an existing one. Numbers are added to those that the person has.
    async fn upsert_person(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Upserted, HandlerError>;

    /// Returns the id of this message's note, if there is one.
    async fn find_note(&self, attempt: &Attempt<'_>, message_id: &str) -> Result<Option<String>, HandlerError>;

    /// Attaches a note, keyed by its message id.
    async fn log_note(
        &self,
        attempt: &Attempt<'_>,
        person: &PersonId,
        note: &NewNote,
    ) -> Result<LoggedNote, HandlerError>;

    /// Sets or clears the opt-out flag of one of the person's numbers unless a newer flag is there. Returns `true` if
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
