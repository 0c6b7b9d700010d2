//! Attaches a text message to the person's record as a note: one note per message id, whatever repeats.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::{DeadReason, Destination, HandlerName, OperationClass, SkipReason};
use hookline_common::phone::Phone;
use hookline_common::settings::{OnUnknownContact, Settings};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Claim, ClaimToken, CompletedEffect, NewNote, PersonFacts};
use tokio::sync::OnceCell;

use super::contact_lookup::{self, Found};
use super::message_lookup::{ContactOfMessage, MessageFinder};
use super::{Clients, Leases, soon};
use crate::delivery::handler::{Attempt, Handler, HandlerError, Outcome};
use crate::gate::Gate;
use crate::records::{self, PersonId, SystemOfRecord};
use crate::textus::client::TextUs;
use crate::textus::payload::{self, MessagePayload, Payload, Segment, Unreadable};
use crate::textus::types::Message;

const NAME: HandlerName = HandlerName::LogNote;
/// How soon a message that is not there yet is looked for again.
const NOT_THERE_YET: Duration = Duration::from_secs(2);

pub(super) struct LogNote {
    store: Store,
    textus: TextUs,
    gate: Arc<Gate>,
    records: Arc<dyn SystemOfRecord>,
    finder: MessageFinder,
    on_unknown: OnUnknownContact,
    not_found_grace: Duration,
    leases: Leases,
    default_account: String,
}

/// Whose message it is.
enum Person {
    Known(PersonId),
    Decided(Outcome),
}

impl LogNote {
    pub(super) fn new(settings: &Settings, clients: &Clients) -> Self {
        let own = &settings.handlers.log_note;
        Self {
            store: clients.store.clone(),
            textus: clients.textus.clone(),
            gate: Arc::clone(&clients.textus_gate),
            records: Arc::clone(&clients.records),
            finder: MessageFinder::new(clients.textus.clone(), own.message_lookup),
            on_unknown: own.on_unknown_contact,
            not_found_grace: own.not_found_grace,
            leases: Leases::for_records(settings.textus.timeout, clients.records.as_ref()),
            default_account: settings.textus.account.clone(),
        }
    }

    async fn write(
        &self,
        attempt: &Attempt<'_>,
        payload: &MessagePayload,
        token: &ClaimToken,
        unknown: bool,
    ) -> Result<Outcome, HandlerError> {
        let contact = ConversationContact::new(self, payload);
        let message = if self.finder.is_off() {
            None
        } else {
            match self.finder.find(attempt, payload, &contact).await? {
                Some(message) => Some(message),
                None => return Err(self.not_found(attempt)),
            }
        };
        if unknown && let Some(note_id) = self.records.find_note(attempt, &payload.raw_message_id).await? {
            attempt.made(CompletedEffect::new(token.clone(), Some(&note_id)));
            return Ok(Outcome::Done);
        }
        let person = match self.person(attempt, payload, &contact).await? {
            Person::Known(person) => person,
            Person::Decided(outcome) => {
                self.store.release(token).await?;
                return Ok(outcome);
            }
        };
        let note = note(attempt, payload, message.as_ref());
        if !self.store.still_mine(token, self.leases.lease).await? {
            return Err(lost_claim());
        }
        let note_id = self.records.log_note(attempt, &person, &note).await?;
        attempt.made(CompletedEffect::new(token.clone(), Some(&note_id)));
        Ok(Outcome::Done)
    }

    /// A message may be younger than its webhook; after the grace it is gone for good.
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
        // Nobody, or several who share the phone: who the conversation belongs to may tell.
        let mut found_id = None;
        if people.len() != 1 && sent_id.is_none() {
            found_id = contact.found(attempt).await?.one();
            if let Some((id, _)) = &found_id {
                people = self.records.find_people(attempt, Some(id), phone).await?;
            }
        }
        if people.len() > 1 {
            return self.ambiguous(attempt);
        }
        if let Some(person) = people.pop() {
            let contact_id = found_id.map(|(id, _)| id).or(sent_id);
            return self.known(attempt, person, contact_id, phone).await.map(Person::Known);
        }
        match self.on_unknown {
            OnUnknownContact::Skip => Ok(Person::Decided(Outcome::Skipped(SkipReason::UnknownContact))),
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
                    return nobody(attempt, payload);
                }
                let facts = PersonFacts { contact_id, phones: phone.cloned().into_iter().collect(), name };
                self.create(attempt, &facts).await.map(Person::Known)
            }
        }
    }

    fn ambiguous(&self, attempt: &Attempt<'_>) -> Result<Person, HandlerError> {
        if self.on_unknown == OnUnknownContact::Skip {
            attempt.remark("several people share this phone");
            return Ok(Person::Decided(Outcome::Skipped(SkipReason::UnknownContact)));
        }
        // Creating one more would make it worse.
        Err(HandlerError::GiveUp {
            reason: DeadReason::AmbiguousContact,
            destination: Some(Destination::SystemOfRecord),
            status: None,
            detail: "several people share this phone and none is assigned to the conversation; assign one and redrive"
                .to_owned(),
        })
    }

    async fn create(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<PersonId, HandlerError> {
        let upserted = self.records.upsert_person(attempt, facts).await?;
        super::sync_contact::apply_opt_state(&self.store, self.records.as_ref(), attempt, &upserted.person).await?;
        Ok(upserted.person.id)
    }

    /// A number that a contact writes from, and that its person was not known by, is one more of theirs. Who was found by
    /// the number alone has it.
    async fn known(
        &self,
        attempt: &Attempt<'_>,
        person: records::Person,
        contact_id: Option<String>,
        phone: Option<&Phone>,
    ) -> Result<PersonId, HandlerError> {
        match phone {
            Some(phone)
                if !person.phones.contains(phone) && contact_id.is_some() && person.contact_id == contact_id =>
            {
                let facts = PersonFacts { contact_id, phones: vec![phone.clone()], name: None };
                self.create(attempt, &facts).await
            }
            _ => Ok(person.id),
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

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, HandlerError> {
        let payload = match payload::read(attempt.event)? {
            Payload::Message(payload) => payload,
            Payload::OptOut(_) | Payload::Contact(_) => return Err(Unreadable::new("the event is no message").into()),
        };
        // Keyed by the message, not by the event: two webhooks about one text must meet the same note.
        let target = Destination::SystemOfRecord.as_str();
        let claim = self.leases.claim(NAME, target, &payload.raw_message_id, attempt);
        let (token, unknown) = match self.store.claim(&claim).await? {
            Claim::Fresh(token) => (token, false),
            Claim::AfterUnknown { token, .. } => (token, true),
            Claim::Done { event_id, .. } if event_id == attempt.event.id => return Ok(Outcome::Done),
            Claim::Done { .. } => return Ok(Outcome::Skipped(SkipReason::Duplicate)),
            Claim::Wait { until } => {
                return Err(HandlerError::Wait { until: soon(until), why: "another delivery is writing this note" });
            }
        };
        let result = self.write(attempt, &payload, &token, unknown).await;
        if let Err(error) = &result {
            settle_claim(&self.store, &token, error).await?;
        }
        result
    }
}

/// Whom nothing names cannot be created. One-time codes and advertisements come from short codes and names every day:
/// nobody has to look at these.
fn nobody(attempt: &Attempt<'_>, payload: &MessagePayload) -> Result<Person, HandlerError> {
    if payload.is_from_code {
        attempt.remark("the text came from a short code or a name, which is no person's");
        return Ok(Person::Decided(Outcome::Skipped(SkipReason::UnknownContact)));
    }
    Err(HandlerError::GiveUp {
        reason: DeadReason::UnknownContact,
        destination: Some(Destination::SystemOfRecord),
        status: None,
        detail: "the message names no contact and no phone number that can be read; look in TextUs whose it is"
            .to_owned(),
    })
}

/// Lets go of a claim after a failed attempt: free where surely nothing was written, unknown where it may have been.
pub(super) async fn settle_claim(store: &Store, token: &ClaimToken, error: &HandlerError) -> Result<(), HandlerError> {
    let may_be_written = match error {
        // What the store has not heard is left to the lease's end: then it is looked at, not written blindly.
        HandlerError::Store(_) => return Ok(()),
        HandlerError::Destination { destination: Destination::SystemOfRecord, error } => error.may_have_taken_effect(),
        HandlerError::Destination { .. }
        | HandlerError::Wait { .. }
        | HandlerError::TryAgain { .. }
        | HandlerError::GiveUp { .. } => false,
    };
    if may_be_written {
        store.effect_unknown(token).await?;
    } else {
        store.release(token).await?;
    }
    Ok(())
}

/// Another delivery took the claim over while this one was slow: its word counts.
pub(super) fn lost_claim() -> HandlerError {
    HandlerError::Wait {
        until: soon(Timestamp::now().plus(Duration::from_secs(1))),
        why: "the claim passed to another delivery",
    }
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

/// Who a conversation belongs to, asked once per attempt at most.
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
        // With `message_lookup = "none"` no call is made at all.
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
