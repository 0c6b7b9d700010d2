//! The built-in system of record: people, notes and opt-out flags in Hookline's own store, so that Hookline works
//! without a CRM. It is truly idempotent: a note is unique by its message id, a flag by its phone and event time.

use std::time::Duration;

use async_trait::async_trait;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{NewNote, PersonFacts, PersonRow};

use super::{LoggedNote, Person, PersonId, SystemOfRecord, Upserted};
use crate::delivery::handler::{Attempt, HandlerError};

pub struct Builtin {
    store: Store,
}

impl Builtin {
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

impl From<PersonRow> for Person {
    fn from(row: PersonRow) -> Self {
        let phones = row.phones.iter().filter_map(|phone| Phone::parse(phone)).collect();
        Self { id: PersonId(row.record_id), contact_id: row.contact_id, phones }
    }
}

#[async_trait]
impl SystemOfRecord for Builtin {
    fn settle_after(&self) -> Duration {
        // A write is a transaction of the store. Once its caller is gone, it is committed or never will be.
        Duration::ZERO
    }

    async fn find_people(
        &self,
        _attempt: &Attempt<'_>,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<Person>, HandlerError> {
        let people = self.store.find_person(contact_id, phone).await?;
        Ok(people.into_iter().map(Person::from).collect())
    }

    async fn upsert_person(&self, _attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        let (person, created, changed) = self.store.upsert_person(facts).await?;
        Ok(Upserted { person: person.into(), created, changed: created || changed })
    }

    async fn find_note(&self, _attempt: &Attempt<'_>, message_id: &str) -> Result<Option<String>, HandlerError> {
        Ok(self.store.note_by_message(message_id).await?.map(|row| row.note_id))
    }

    async fn log_note(
        &self,
        _attempt: &Attempt<'_>,
        person: &PersonId,
        note: &NewNote,
    ) -> Result<LoggedNote, HandlerError> {
        let (row, created) = self.store.add_note(&person.0, note).await?;
        Ok(LoggedNote { id: row.note_id, created })
    }

    async fn set_opt_out(
        &self,
        _attempt: &Attempt<'_>,
        _person: &PersonId,
        phone: &Phone,
        opted_out: bool,
        event_time: Timestamp,
    ) -> Result<bool, HandlerError> {
        Ok(self.store.set_opt_flag(phone, opted_out, event_time).await?)
    }
}
