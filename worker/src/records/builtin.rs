//! The built-in system of record: people, notes and opt-out flags in Hookline's own store, so that Hookline works
//! without a CRM. It is truly idempotent: a note is unique by its message id, a flag by its phone and event time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::Destination;
use hookline_common::phone::Phone;
use hookline_store::Store;
use hookline_store::model::{PersonFacts, PersonRow};

use super::{
    FlagWrite, Idempotency, NoteError, NotePart, Notes, OptOutFlag, Person, PersonId, SystemOfRecord, Upserted,
};
use crate::delivery::handler::{Attempt, HandlerError};
use crate::gate::Gate;

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
        Self {
            id: PersonId(row.record_id),
            contact_id: row.contact_id,
            phones,
            name: row.name,
            has_owner: false,
            created_at: Some(row.created_at),
        }
    }
}

#[async_trait]
impl SystemOfRecord for Builtin {
    fn name(&self) -> &str {
        Destination::SystemOfRecord.as_str()
    }

    fn gate(&self) -> Option<&Arc<Gate>> {
        None
    }

    fn settle_after(&self) -> Duration {
        // A write is a transaction of the store. Once its caller is gone, it is committed or never will be.
        Duration::ZERO
    }

    fn notes(&self) -> &dyn Notes {
        self
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

    async fn set_opt_out(
        &self,
        _attempt: &Attempt<'_>,
        _person: &Person,
        phone: &Phone,
        flag: &OptOutFlag,
    ) -> Result<FlagWrite, HandlerError> {
        let is_changed = self.store.set_opt_flag(phone, flag.opted_out, flag.since).await?;
        Ok(if is_changed { FlagWrite::Changed } else { FlagWrite::AsItWas })
    }
}

/// The text of a thread is what the store has of its last write. Beside that, each message has an entry of its own.
#[async_trait]
impl Notes for Builtin {
    fn idempotency(&self) -> Idempotency {
        Idempotency::ByKey
    }

    fn keeps_messages(&self) -> bool {
        true
    }

    async fn write(&self, _attempt: &Attempt<'_>, person: &Person, part: &NotePart<'_>) -> Result<String, NoteError> {
        self.store.add_thread_notes(&person.id.0, part.thread).await?;
        Ok(part.key.to_owned())
    }
}
