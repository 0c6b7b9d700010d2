//! Attaches a text message to the person's record as a note. Each message id gets one note, whatever repeats.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::{DeadReason, Destination, HandlerName, OperationClass, SkipReason};
use hookline_common::phone::Phone;
use hookline_common::settings::{OnUnknownContact, Settings};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{NewNote, PersonFacts};
use tokio::sync::OnceCell;

use super::contact_lookup::{self, Found};
use super::effects::{Before, Effects, OurClaim, WriteError, Written};
use super::message_lookup::{ContactOfMessage, MessageFinder};
use super::{Clients, people};
use crate::delivery::handler::{Attempt, Failure, Handler, HandlerError, Outcome};
use crate::gate::Gate;
use crate::records::{self, PersonId, SystemOfRecord};
use crate::textus::client::TextUs;
use crate::textus::payload::{self, MessagePayload, Payload, Segment, Unreadable};
use crate::textus::types::Message;

const NAME: HandlerName = HandlerName::LogNote;
/// How soon to look again for a message that isn't there yet.
const NOT_THERE_YET: Duration = Duration::from_secs(2);

pub(super) struct LogNote {
    store: Store,
    textus: TextUs,
    gate: Arc<Gate>,
    records: Arc<dyn SystemOfRecord>,
    finder: MessageFinder,
    on_unknown: OnUnknownContact,
    not_found_grace: Duration,
    effects: Effects,
    default_account: String,
}

/// The person who gets the note.
enum Person {
    Known {
        id: PersonId,
        /// Remarks on what was done to find or create the person.
        remarks: Vec<String>,
    },
    Decided(Outcome),
}

impl LogNote {
    pub(super) fn new(settings: &Settings, clients: &Clients) -> Self {
        let own = &settings.handlers.log_note;
        let records = clients.records.as_ref();
        Self {
            store: clients.store.clone(),
            textus: clients.textus.clone(),
            gate: Arc::clone(&clients.textus_gate),
            records: Arc::clone(&clients.records),
            finder: MessageFinder::new(clients.textus.clone(), own.message_lookup),
            on_unknown: own.on_unknown_contact,
            not_found_grace: own.not_found_grace,
            effects: Effects::in_records(clients.store.clone(), NAME, settings.textus.timeout, records),
            default_account: settings.textus.account.clone(),
        }
    }

    async fn write(
        &self,
        attempt: &Attempt<'_>,
        payload: &MessagePayload,
        claim: OurClaim,
    ) -> Result<Written<Outcome>, WriteError> {
        let contact = ConversationContact::new(self, payload);
        let message = if self.finder.is_off() {
            None
        } else {
            match self.finder.find(attempt, payload, &contact).await? {
                Some(message) => Some(message),
                None => return Err(self.not_found(attempt).into()),
            }
        };
        if claim.before != Before::Nothing
            && let Some(note_id) = self.records.find_note(attempt, &payload.raw_message_id).await?
        {
            return Ok(claim.made(Outcome::done(), Some(&note_id)));
        }
        let (person, mut remarks) = match self.person(attempt, payload, &contact).await? {
            Person::Known { id, remarks } => (id, remarks),
            Person::Decided(outcome) => return Ok(Written::nothing(outcome)),
        };
        let note = note(attempt, payload, message.as_ref());
        self.effects.begin_write(&claim).await?;
        let logged = self.records.log_note(attempt, &person, &note).await.map_err(WriteError::of_write)?;
        if logged.created {
            remarks.push(format!("{} attached to {}", logged.id, person.0));
        }
        Ok(claim.made(Outcome::done().with_remarks(remarks), Some(&logged.id)))
    }

    /// A message may appear later than its webhook. After the grace period it counts as gone for good.
    fn not_found(&self, attempt: &Attempt<'_>) -> HandlerError {
        let age = Timestamp::now().since(attempt.event.received_at);
        if age < self.not_found_grace {
            return HandlerError::TryAgain {
                after: NOT_THERE_YET.min(self.not_found_grace),
                destination: Destination::TextUs,
                why: "the message is not there yet",
            };
        }
        HandlerError::GiveUp {
            reason: DeadReason::NotFound,
            destination: Some(Destination::TextUs),
            status: Some(404),
            detail: "the Messages API does not know this message; redrive once it does".to_owned(),
        }
    }

    async fn person(
        &self,
        attempt: &Attempt<'_>,
        payload: &MessagePayload,
        contact: &ConversationContact<'_>,
    ) -> Result<Person, HandlerError> {
        let phone = payload.phone.as_ref();
        let sent_id = payload.contact.one().map(|segment| segment.under("/contacts/"));
        let mut people = self.records.find_people(attempt, sent_id.as_deref(), phone).await?;
        // Nobody has the phone, or several people share it: the conversation's contact may settle that.
        let mut found_id = None;
        if people.len() != 1 && sent_id.is_none() {
            found_id = contact.found(attempt).await?.one();
            if let Some((id, _)) = &found_id {
                people = self.records.find_people(attempt, Some(id), phone).await?;
            }
        }
        if people.len() > 1 {
            return self.ambiguous();
        }
        if let Some(person) = people.pop() {
            let contact_id = found_id.map(|(id, _)| id).or(sent_id);
            return self.known(attempt, person, contact_id, phone).await;
        }
        match self.on_unknown {
            OnUnknownContact::Skip => Ok(Person::nobody(None)),
            OnUnknownContact::DeadLetter => Err(HandlerError::GiveUp {
                reason: DeadReason::UnknownContact,
                destination: Some(Destination::SystemOfRecord),
                status: None,
                detail: "nobody in the system of record has this contact id or phone; add the person and redrive"
                    .to_owned(),
            }),
            OnUnknownContact::Create => {
                let (contact_id, name) = found_id.map_or((sent_id, None), |(id, name)| (Some(id), name));
                if contact_id.is_none() && phone.is_none() {
                    return nameless(payload);
                }
                let facts = PersonFacts { contact_id, phones: phone.cloned().into_iter().collect(), name };
                self.create(attempt, &facts).await
            }
        }
    }

    fn ambiguous(&self) -> Result<Person, HandlerError> {
        if self.on_unknown == OnUnknownContact::Skip {
            return Ok(Person::nobody(Some("several people share this phone")));
        }
        // Creating another person would make it worse.
        Err(HandlerError::GiveUp {
            reason: DeadReason::AmbiguousContact,
            destination: Some(Destination::SystemOfRecord),
            status: None,
            detail: "several people share this phone and none is assigned to the conversation; assign one and redrive"
                .to_owned(),
        })
    }

    async fn create(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Person, HandlerError> {
        let (upserted, remarks) = people::upsert(&self.store, self.records.as_ref(), attempt, facts).await?;
        Ok(Person::Known { id: upserted.person.id, remarks })
    }

    /// Adds a number that a known contact writes from and that its person lacks. A person found by the number alone
    /// already has it.
    async fn known(
        &self,
        attempt: &Attempt<'_>,
        person: records::Person,
        contact_id: Option<String>,
        phone: Option<&Phone>,
    ) -> Result<Person, HandlerError> {
        match phone {
            Some(phone)
                if !person.phones.contains(phone) && contact_id.is_some() && person.contact_id == contact_id =>
            {
                let facts = PersonFacts { contact_id, phones: vec![phone.clone()], name: None };
                self.create(attempt, &facts).await
            }
            _ => Ok(Person::Known { id: person.id, remarks: Vec::new() }),
        }
    }
}

#[async_trait]
impl Handler for LogNote {
    fn name(&self) -> HandlerName {
        NAME
    }

    fn gates(&self) -> Vec<(Arc<Gate>, &'static [OperationClass])> {
        if self.finder.is_off() { Vec::new() } else { vec![(Arc::clone(&self.gate), &[OperationClass::Reads])] }
    }

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, Failure> {
        let payload = match payload::read(attempt.event)? {
            Payload::Message(payload) => payload,
            Payload::OptOut(_) | Payload::Contact(_) => {
                return Err(Unreadable::new("the event is not a message").into());
            }
        };
        // The key is the message, not the event: two webhooks about one text must meet the same note.
        let effect = (Destination::SystemOfRecord.as_str(), payload.raw_message_id.as_str());
        let write = |claim| self.write(attempt, &payload, claim);
        let once = self.effects.once(attempt, effect, "another delivery is writing this note", write).await;
        Ok(once.map_err(HandlerError::from)?.outcome(attempt))
    }
}

impl Person {
    /// Skips the note, because no certain person can have it.
    fn nobody(remark: Option<&str>) -> Self {
        Self::Decided(Outcome::skipped(SkipReason::UnknownContact).with_remarks(remark.map(str::to_owned)))
    }
}

/// Handles a message that names nobody, for whom no person can be created. One-time codes and advertisements come from
/// short codes and names every day, and nobody has to look at these.
fn nameless(payload: &MessagePayload) -> Result<Person, HandlerError> {
    if payload.is_from_code {
        return Ok(Person::nobody(Some("the text came from a short code or a name, which is no person's")));
    }
    Err(HandlerError::GiveUp {
        reason: DeadReason::UnknownContact,
        destination: Some(Destination::SystemOfRecord),
        status: None,
        detail: "the message names no contact and no phone number that can be read; look in TextUs whose it is"
            .to_owned(),
    })
}

fn note(attempt: &Attempt<'_>, payload: &MessagePayload, fetched: Option<&Message>) -> NewNote {
    let body = fetched.and_then(|message| message.body.clone()).or_else(|| payload.body.clone()).unwrap_or_default();
    let direction = fetched.and_then(Message::direction).or(payload.direction);
    let inbound = attempt.event.event_type.as_str() == "message.received";
    let occurred_at =
        fetched.and_then(Message::occurred_at).or(payload.occurred_at).unwrap_or(attempt.event.received_at);
    NewNote {
        message_id: payload.raw_message_id.clone(),
        event_id: attempt.event.id.clone(),
        contact_id: payload.contact.one().map(|segment| segment.under("/contacts/")),
        phone: payload.phone.as_ref().map(|phone| phone.as_e164().to_owned()),
        direction: direction.map_or(if inbound { "in" } else { "out" }, |direction| direction.as_str()).to_owned(),
        body,
        occurred_at,
        business_number: payload.business_number.as_ref().map(|phone| phone.as_e164().to_owned()),
        user: fetched.and_then(Message::user).or_else(|| payload.user.clone()),
    }
}

/// The contact of the message's conversation, looked up at most once per attempt.
struct ConversationContact<'a> {
    handler: &'a LogNote,
    payload: &'a MessagePayload,
    found: OnceCell<Found>,
}

impl<'a> ConversationContact<'a> {
    fn new(handler: &'a LogNote, payload: &'a MessagePayload) -> Self {
        Self { handler, payload, found: OnceCell::new() }
    }

    async fn found(&self, attempt: &Attempt<'_>) -> Result<Found, HandlerError> {
        // With `message_lookup = "none"`, no call is made at all.
        let Some(phone) = self.payload.phone.as_ref().filter(|_| !self.handler.finder.is_off()) else {
            return Ok(Found::Nobody);
        };
        let account = self.payload.account.as_deref().unwrap_or(&self.handler.default_account);
        let found = self
            .found
            .get_or_try_init(|| contact_lookup::by_phone(&self.handler.textus, attempt.calls, account, phone))
            .await
            .map_err(HandlerError::textus)?;
        Ok(found.clone())
    }
}

#[async_trait]
impl ContactOfMessage for ConversationContact<'_> {
    async fn contact_id(&self, attempt: &Attempt<'_>) -> Result<Option<Segment>, HandlerError> {
        if let Some(segment) = self.payload.contact.one() {
            return Ok(Some(segment.clone()));
        }
        Ok(self.found(attempt).await?.one().and_then(|(id, _)| Segment::from_path("/contacts/", &id)))
    }
}
