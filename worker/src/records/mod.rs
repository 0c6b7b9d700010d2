//! Systems of record: where people and notes live. One is configured; each says in its module what idempotency it
//! can give.

pub mod builtin;

use std::time::Duration;

use async_trait::async_trait;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::model::{NewNote, PersonFacts};

use crate::handler::{Attempt, HandlerError};

/// A person's id at the system of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonId(pub String);

/// How an upsert ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upserted {
    pub person: PersonId,
    /// Made now, or something about it is new.
    pub changed: bool,
}

#[async_trait]
pub trait SystemOfRecord: Send + Sync + 'static {
    /// How long after a call without an answer its effect may still appear.
    fn settle_after(&self) -> Duration;

    /// The people a message could belong to: the one with this contact id or, where there is none, all with this
    /// phone.
    async fn find_people(
        &self,
        attempt: &Attempt<'_>,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<PersonId>, HandlerError>;

    /// Makes the person, or links the contact to the one who is there.
    async fn upsert_person(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Upserted, HandlerError>;

    /// The note of this message, where one was written.
    async fn find_note(&self, attempt: &Attempt<'_>, message_id: &str) -> Result<Option<String>, HandlerError>;

    /// Attaches a note, keyed by its message id; returns the note's id.
    async fn log_note(&self, attempt: &Attempt<'_>, person: &PersonId, note: &NewNote) -> Result<String, HandlerError>;

    /// Sets or clears the opt-out flag unless a newer one is there; `true` where something changed.
    async fn set_opt_out(
        &self,
        attempt: &Attempt<'_>,
        person: &PersonId,
        phone: &Phone,
        opted_out: bool,
        event_time: Timestamp,
    ) -> Result<bool, HandlerError>;
}
