//! Finds the person whose record gets the note of a message.

use std::sync::Arc;
use std::time::Duration;

use hookline_common::names::{DeadReason, Destination, SkipReason};
use hookline_common::phone::Phone;
use hookline_common::settings::{OnUnknownContact, Preference, Settings};
use hookline_store::Store;
use hookline_store::model::PersonFacts;

use super::conversation::ConversationContact;
use super::whom::Whom;
use crate::delivery::handler::{Attempt, HandlerError, Outcome};
use crate::handlers::people::{self, Known};
use crate::records::{Person, PersonId, SystemOfRecord};

/// Most ids of people that a dead letter names.
const MOST_SHOWN: usize = 8;

pub(super) struct PersonFinder {
    store: Store,
    records: Arc<dyn SystemOfRecord>,
    on_unknown: OnUnknownContact,
    prefer: Vec<Preference>,
    lease: Duration,
}

/// The person who gets the note.
pub(super) enum Found {
    Known {
        person: Person,
        /// Remarks on what was done to find or create the person.
        remarks: Vec<String>,
    },
    Decided(Outcome),
}

impl PersonFinder {
    pub(super) fn new(settings: &Settings, store: Store, records: Arc<dyn SystemOfRecord>, lease: Duration) -> Self {
        let prefer = settings.system_of_record.prefer.clone();
        Self { store, records, on_unknown: settings.on_unknown_contact(), prefer, lease }
    }

    /// Returns the person of a message. A person who was found before needs no search, if `may_be_linked`.
    pub(super) async fn find(
        &self,
        attempt: &Attempt<'_>,
        whom: &Whom,
        contact: &ConversationContact<'_>,
        may_be_linked: bool,
    ) -> Result<Found, HandlerError> {
        let phone = whom.phone.as_ref();
        let sent_id = whom.contact_id();
        if may_be_linked && let Some(id) = self.linked(attempt, sent_id.as_deref(), phone).await? {
            let person = Person::linked(id, sent_id, phone.cloned().into_iter().collect());
            return Ok(Found::Known { person, remarks: Vec::new() });
        }
        let mut people = self.records.find_people(attempt, sent_id.as_deref(), phone).await?;
        // Nobody has the phone, or several people share it: the conversation's contact may settle that.
        let mut found_id = None;
        if people.len() != 1 && sent_id.is_none() {
            found_id = contact.found(attempt).await?.one();
            if let Some((id, _)) = &found_id {
                people = self.records.find_people(attempt, Some(id), phone).await?;
            }
        }
        let contact_id = found_id.as_ref().map(|(id, _)| id.clone()).or(sent_id);
        if people.is_empty() {
            return self.unknown(attempt, contact_id, found_id.and_then(|(_, name)| name), whom).await;
        }
        let ids: Vec<String> = people.iter().map(|person| person.id.to_string()).collect();
        match self.preferred(people, contact_id.as_deref()) {
            Some(person) => self.known(attempt, person, contact_id, phone).await,
            None => self.ambiguous(&ids),
        }
    }

    /// Handles a message that names nobody. One-time codes and advertisements come from short codes and names every day,
    /// and nobody has to look at these.
    pub(super) fn nameless(&self, whom: &Whom) -> Result<Found, HandlerError> {
        if whom.is_from_code && self.on_unknown != OnUnknownContact::DeadLetter {
            return Ok(Found::nobody(Some("the text came from a short code or a name, which is no person's")));
        }
        if self.on_unknown == OnUnknownContact::Skip {
            return Ok(Found::nobody(None));
        }
        Err(HandlerError::GiveUp {
            reason: DeadReason::UnknownContact,
            destination: Some(Destination::SystemOfRecord),
            status: None,
            detail: "the message names no contact and no phone number that can be read; look in TextUs whose it is"
                .to_owned(),
        })
    }

    /// Forgets a person whom the system of record does not have any more.
    pub(super) async fn forget(&self, person: &PersonId) -> Result<(), HandlerError> {
        Ok(self.store.unlink_person(self.records.name(), &person.0).await?)
    }

    /// Returns the person whom an operator chose, or who was found before.
    async fn linked(
        &self,
        attempt: &Attempt<'_>,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Option<String>, HandlerError> {
        let system = self.records.name();
        if let Some(chosen) = self.store.chosen_person(system, &attempt.event.id, phone).await? {
            return Ok(Some(chosen));
        }
        if self.records.gate().is_none() {
            // A look-up in the store is as cheap as a link, and sees merged people at once.
            return Ok(None);
        }
        // A number may be shared: a contact that is not linked yet is asked for, whoever else has the number.
        let phone = phone.filter(|_| contact_id.is_none());
        Ok(self.store.linked_person(system, contact_id, phone).await?)
    }

    async fn link(&self, person: &Person, contact_id: Option<&str>, phone: Option<&Phone>) -> Result<(), HandlerError> {
        if self.records.gate().is_some() && !person.id.0.is_empty() {
            self.store.link_person(self.records.name(), contact_id, phone, &person.id.0).await?;
        }
        Ok(())
    }

    async fn unknown(
        &self,
        attempt: &Attempt<'_>,
        contact_id: Option<String>,
        name: Option<String>,
        whom: &Whom,
    ) -> Result<Found, HandlerError> {
        let phone = whom.phone.as_ref();
        match self.on_unknown {
            OnUnknownContact::Skip => Ok(Found::nobody(None)),
            OnUnknownContact::DeadLetter => Err(HandlerError::GiveUp {
                reason: DeadReason::UnknownContact,
                destination: Some(Destination::SystemOfRecord),
                status: None,
                detail: "nobody in the system of record has this contact id or phone; add the person and redrive"
                    .to_owned(),
            }),
            OnUnknownContact::Create => {
                let facts = PersonFacts { contact_id, phones: phone.cloned().into_iter().collect(), name };
                self.upsert(attempt, &facts, Known::Nobody).await
            }
        }
    }

    /// Returns the only person, or the one whom the first rule that decides leaves.
    fn preferred(&self, mut people: Vec<Person>, contact_id: Option<&str>) -> Option<Person> {
        let first = people.iter().map(|person| self.records.place_of(&person.id)).min();
        people.retain(|person| Some(self.records.place_of(&person.id)) == first);
        if people.len() == 1 {
            return people.pop();
        }
        for rule in &self.prefer {
            let chosen = match rule {
                Preference::Assigned => {
                    only(&people, |person| contact_id.is_some() && person.contact_id.as_deref() == contact_id)
                }
                Preference::Owner => only(&people, |person| person.has_owner),
                Preference::Newest => {
                    let newest = people.iter().filter_map(|person| person.created_at).max();
                    only(&people, |person| newest.is_some() && person.created_at == newest)
                }
                Preference::Oldest => {
                    let oldest = people.iter().filter_map(|person| person.created_at).min();
                    only(&people, |person| oldest.is_some() && person.created_at == oldest)
                }
            };
            if let Some(index) = chosen {
                return Some(people.swap_remove(index));
            }
        }
        None
    }

    fn ambiguous(&self, ids: &[String]) -> Result<Found, HandlerError> {
        if self.on_unknown == OnUnknownContact::Skip {
            return Ok(Found::nobody(Some("several people share this phone")));
        }
        // Creating another person would make it worse.
        Err(HandlerError::GiveUp {
            reason: DeadReason::AmbiguousContact,
            destination: Some(Destination::SystemOfRecord),
            status: None,
            detail: format!(
                "several people share this phone ({}) and none is assigned to the conversation; assign one and redrive, or \
                 choose one with `hookline dead-letters resolve ID --person`",
                ids.iter().take(MOST_SHOWN).cloned().collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// Adds a number that a known contact writes from and that its person lacks. A person found by the number alone
    /// already has it.
    async fn known(
        &self,
        attempt: &Attempt<'_>,
        person: Person,
        contact_id: Option<String>,
        phone: Option<&Phone>,
    ) -> Result<Found, HandlerError> {
        match phone {
            Some(phone)
                if !person.phones.contains(phone) && contact_id.is_some() && person.contact_id == contact_id =>
            {
                let facts = PersonFacts { contact_id, phones: vec![phone.clone()], name: None };
                self.upsert(attempt, &facts, Known::MayBe).await
            }
            _ => {
                self.link(&person, contact_id.as_deref(), phone).await?;
                Ok(Found::Known { person, remarks: Vec::new() })
            }
        }
    }

    async fn upsert(&self, attempt: &Attempt<'_>, facts: &PersonFacts, known: Known) -> Result<Found, HandlerError> {
        let (upserted, remarks) =
            people::upsert(&self.store, self.records.as_ref(), attempt, facts, (known, self.lease)).await?;
        Ok(Found::Known { person: upserted.person, remarks })
    }
}

impl Found {
    /// Skips the note, because no certain person can have it.
    fn nobody(remark: Option<&str>) -> Self {
        Self::Decided(Outcome::skipped(SkipReason::UnknownContact).with_remarks(remark.map(str::to_owned)))
    }
}

/// Returns the index of the only person who passes.
fn only(people: &[Person], passes: impl Fn(&Person) -> bool) -> Option<usize> {
    let mut passing = people.iter().enumerate().filter(|(_, person)| passes(person)).map(|(index, _)| index);
    passing.next().filter(|_| passing.next().is_none())
}
