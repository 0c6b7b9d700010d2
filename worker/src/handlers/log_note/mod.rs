//! Puts a text message into the note of its thread on the person's record. Each message and outcome is in one note,
//! whatever repeats. One write of a thread finishes every delivery whose message it contains; a delivery waits for it
//! without spending an attempt.

mod conversation;
mod person;
mod thread;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::event::Keyword;
use hookline_common::names::{DeadReason, Destination, HandlerName, OperationClass, SkipReason};
use hookline_common::note_text::MessageOutcome;
use hookline_common::settings::{NoteForm, OnFailedMessage, Settings};
use hookline_common::time::Timestamp;
use hookline_common::time_zone::TimeZone;
use hookline_store::Store;
use hookline_store::model::{JoinThread, ThreadFacts, ThreadLease, ThreadMessage, ThreadTurn, ThreadWrite};

use self::conversation::ConversationContact;
use self::person::{Found, PersonFinder};
use self::thread::{ThreadError, ThreadWriter};
use super::effects::{Effects, Once, OurClaim, WriteError, Written};
use super::message_lookup::MessageFinder;
use super::{Clients, soon};
use crate::delivery::handler::{Attempt, Failure, Handler, HandlerError, Outcome};
use crate::gate::Gate;
use crate::records::{self, Person, SystemOfRecord};
use crate::textus::client::TextUs;
use crate::textus::payload::{self, Direction, MessagePayload, Payload, Unreadable};
use crate::textus::types::Message;

const NAME: HandlerName = HandlerName::LogNote;
const FAILED: &str = "message.failed";
/// How soon to look again for a message that isn't there yet.
const NOT_THERE_YET: Duration = Duration::from_secs(2);

pub(super) struct LogNote {
    store: Store,
    textus: TextUs,
    gate: Arc<Gate>,
    records: Arc<dyn SystemOfRecord>,
    finder: MessageFinder,
    people: PersonFinder,
    threads: ThreadWriter,
    effects: Effects,
    default_account: String,
    not_found_grace: Duration,
    notes: NoteForm,
    on_failed: OnFailedMessage,
    update_every: Duration,
    time_zone: TimeZone,
}

impl LogNote {
    /// # Errors
    /// When the template of notes cannot be read.
    pub(super) fn new(settings: &Settings, clients: &Clients) -> anyhow::Result<Self> {
        let (own, system) = (&settings.handlers.log_note, &settings.system_of_record);
        let (store, records) = (clients.store.clone(), &clients.records);
        let effects = Effects::in_records(store.clone(), NAME, settings.textus.timeout, records.as_ref());
        let lease = effects.lease;
        Ok(Self {
            textus: clients.textus.clone(),
            gate: Arc::clone(&clients.textus_gate),
            records: Arc::clone(records),
            finder: MessageFinder::new(clients.textus.clone(), own.message_lookup),
            people: PersonFinder::new(settings, store.clone(), Arc::clone(records), lease),
            threads: ThreadWriter::new(settings, store.clone(), Arc::clone(records), lease)?,
            effects,
            default_account: settings.textus.account.clone(),
            not_found_grace: own.not_found_grace,
            notes: system.notes,
            on_failed: system.on_failed_message,
            // The built-in system of record costs no call.
            update_every: if records.gate().is_none() { Duration::ZERO } else { system.update_every },
            time_zone: system.time_zone.clone(),
            store,
        })
    }

    async fn write(
        &self,
        attempt: &Attempt<'_>,
        payload: &MessagePayload,
        claim: OurClaim,
    ) -> Result<Written<Outcome>, WriteError> {
        let contact = self.conversation_contact(payload);
        let (mut person, mut remarks) = (None, Vec::new());
        let (facts, message) = match self.joined_before(attempt, payload).await? {
            Some(joined) => joined,
            None => {
                let message = self.message(attempt, payload, &contact).await?;
                let facts = self.facts(payload, &message);
                match self.person(attempt, payload, &contact, true).await? {
                    Found::Known { person: found, remarks: of_search } => {
                        person = Some(found);
                        remarks.extend(of_search);
                    }
                    Found::Decided(outcome) => return Ok(Written::nothing(outcome)),
                }
                (facts, message)
            }
        };
        self.effects.begin_write(&claim).await?;
        match self.join_and_write(attempt, (payload, &contact), (facts, message), person).await? {
            InNote::Yes { thread_id, remark } => {
                let outcome = Outcome::done().with_remarks(remarks).with_remarks(remark);
                Ok(claim.made(outcome, Some(&thread_id)))
            }
            InNote::Decided(outcome) => Ok(Written::nothing(outcome)),
        }
    }

    /// Adds a message to its thread, and writes the thread if it is this delivery's turn.
    async fn join_and_write(
        &self,
        attempt: &Attempt<'_>,
        (payload, contact): (&MessagePayload, &ConversationContact<'_>),
        (facts, message): (ThreadFacts, ThreadMessage),
        person: Option<Person>,
    ) -> Result<InNote, HandlerError> {
        let join = JoinThread {
            facts,
            message,
            system: self.records.name().to_owned(),
            owner: attempt.owner.to_owned(),
            lease: self.effects.lease,
            update_every: self.update_every,
        };
        match self.store.join_thread(join).await? {
            ThreadTurn::Written { thread_id } => Ok(InNote::Yes { thread_id, remark: None }),
            ThreadTurn::Wait { until } => {
                let why = "the note of this thread is written again a little later";
                Err(HandlerError::Wait { until, why })
            }
            ThreadTurn::Busy { until } => {
                let why = "another delivery writes the note of this thread";
                Err(HandlerError::Wait { until: soon(until), why })
            }
            ThreadTurn::Write(write) => self.write_thread(attempt, (payload, contact), *write, person).await,
        }
    }

    /// Takes a later copy of a message that another event brought before, if it differs. What the copy leaves out stays. A
    /// message that was fetched is what the Messages API says, whatever a later webhook has.
    async fn take_later_copy(&self, attempt: &Attempt<'_>, payload: &MessagePayload) -> Result<(), HandlerError> {
        if !self.finder.is_off() {
            return Ok(());
        }
        let Some((facts, known)) = self.store.thread_message(&payload.raw_message_id).await? else { return Ok(()) };
        let copy = thread_message(attempt, payload, None);
        let copy = ThreadMessage {
            body: if copy.body.is_empty() { known.body.clone() } else { copy.body },
            author: copy.author.or_else(|| known.author.clone()),
            media: if copy.media.is_empty() { known.media.clone() } else { copy.media },
            is_stop: copy.is_stop || known.is_stop,
            ..copy
        };
        let looks_the_same = (&copy.body, &copy.author, &copy.media, copy.outcome, copy.occurred_at)
            == (&known.body, &known.author, &known.media, known.outcome, known.occurred_at);
        let joined = known.event_id == attempt.event.id;
        if !joined && (looks_the_same || copy.rank() <= known.rank()) {
            return Ok(());
        }
        let contact = self.conversation_contact(payload);
        let copy = if joined { known } else { copy };
        self.join_and_write(attempt, (payload, &contact), (facts, copy), None).await.map(drop)
    }

    fn conversation_contact<'a>(&'a self, payload: &'a MessagePayload) -> ConversationContact<'a> {
        let textus = Some(&self.textus).filter(|_| !self.finder.is_off());
        ConversationContact::new(textus, &self.default_account, payload)
    }

    /// Returns what this delivery put into the thread at an earlier attempt, so that nothing is fetched twice.
    async fn joined_before(
        &self,
        attempt: &Attempt<'_>,
        payload: &MessagePayload,
    ) -> Result<Option<(ThreadFacts, ThreadMessage)>, HandlerError> {
        let joined = self.store.thread_message(&payload.raw_message_id).await?;
        Ok(joined.filter(|(_, message)| message.event_id == attempt.event.id))
    }

    async fn message(
        &self,
        attempt: &Attempt<'_>,
        payload: &MessagePayload,
        contact: &ConversationContact<'_>,
    ) -> Result<ThreadMessage, HandlerError> {
        if self.finder.is_off() {
            return Ok(thread_message(attempt, payload, None));
        }
        match self.finder.find(attempt, payload, contact).await? {
            Some(fetched) => Ok(thread_message(attempt, payload, Some(&fetched))),
            None => Err(self.not_found(attempt)),
        }
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

    fn facts(&self, payload: &MessagePayload, message: &ThreadMessage) -> ThreadFacts {
        ThreadFacts {
            account: payload.account.clone().unwrap_or_else(|| self.default_account.clone()),
            phone: payload.phone.as_ref().map(|phone| phone.as_e164().to_owned()),
            contact_id: payload.contact.one().map(|segment| segment.under("/contacts/")),
            business_number: payload.business_number.as_ref().map(|phone| phone.as_e164().to_owned()),
            day: self.time_zone.day(message.occurred_at),
            only_message: (self.notes == NoteForm::Message).then(|| payload.raw_message_id.clone()),
        }
    }

    async fn person(
        &self,
        attempt: &Attempt<'_>,
        payload: &MessagePayload,
        contact: &ConversationContact<'_>,
        may_be_linked: bool,
    ) -> Result<Found, HandlerError> {
        if payload.phone.is_none() && payload.contact.one().is_none() {
            return self.people.nameless(payload);
        }
        self.people.find(attempt, payload, contact, may_be_linked).await
    }

    /// Writes the thread under its lease. A person who was merged or deleted is looked up anew, once.
    async fn write_thread(
        &self,
        attempt: &Attempt<'_>,
        (payload, contact): (&MessagePayload, &ConversationContact<'_>),
        mut write: ThreadWrite,
        mut person: Option<Person>,
    ) -> Result<InNote, HandlerError> {
        let lease = ThreadLease {
            thread_id: write.thread.thread_id.clone(),
            system: self.records.name().to_owned(),
            owner: attempt.owner.to_owned(),
        };
        for may_be_linked in [true, false] {
            let present = match person.take() {
                Some(present) => Ok(Found::Known { person: present, remarks: Vec::new() }),
                None => self.person(attempt, payload, contact, may_be_linked).await,
            };
            let present = match present {
                Ok(Found::Known { person, .. }) => person,
                Ok(Found::Decided(outcome)) => {
                    self.store.release_thread(&lease, write.doubt.is_none()).await?;
                    return Ok(InNote::Decided(outcome));
                }
                Err(error) => {
                    self.store.release_thread(&lease, write.doubt.is_none()).await?;
                    return Err(error);
                }
            };
            match self.threads.write(attempt, &lease, &mut write, &present).await {
                Ok(()) => {
                    let remark = format!("{} attached to {}", lease.thread_id, present.id);
                    return Ok(InNote::Yes { thread_id: lease.thread_id, remark: Some(remark) });
                }
                Err(ThreadError::Failed(error)) => return Err(error),
                Err(ThreadError::PersonIsGone) => self.people.forget(&present.id).await?,
            }
        }
        self.store.release_thread(&lease, write.doubt.is_none()).await?;
        Err(HandlerError::TryAgain {
            after: Duration::from_secs(60),
            destination: Destination::SystemOfRecord,
            why: "the person was merged or deleted in the system of record, and is not found anew yet",
        })
    }
}

/// What became of a message that joined its thread.
enum InNote {
    /// A write that contains the message was answered.
    Yes { thread_id: String, remark: Option<String> },
    /// The person is gone, and this is what that means.
    Decided(Outcome),
}

#[async_trait]
impl Handler for LogNote {
    fn name(&self) -> HandlerName {
        NAME
    }

    fn gates(&self) -> Vec<(Arc<Gate>, &'static [OperationClass])> {
        let textus = (!self.finder.is_off()).then(|| (Arc::clone(&self.gate), &[OperationClass::Reads][..]));
        let records = records::gates(self.records.as_ref(), &[OperationClass::ContactWrites]);
        textus.into_iter().chain(records).collect()
    }

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, Failure> {
        let has_failed = attempt.event.event_type.as_str() == FAILED;
        if has_failed && self.on_failed == OnFailedMessage::Skip {
            return Ok(Outcome::skipped(SkipReason::NoAction));
        }
        let payload = match payload::read(attempt.event)? {
            Payload::Message(payload) => payload,
            Payload::OptOut(_) | Payload::Contact(_) => {
                return Err(Unreadable::new("the event is not a message").into());
            }
        };
        // The key is the message and its outcome, not the event: two webhooks about one text must meet the same note.
        let key = &payload.raw_message_id;
        let key = if has_failed { format!("{key} failed") } else { key.clone() };
        let write = |claim| self.write(attempt, &payload, claim);
        let effect = (self.records.name(), key.as_str());
        let once = self.effects.once(attempt, effect, "another delivery is writing this note", write).await;
        let once = once.map_err(HandlerError::from)?;
        if matches!(&once, Once::Before { event_id } if *event_id != attempt.event.id) {
            self.take_later_copy(attempt, &payload).await?;
        }
        Ok(once.outcome(attempt))
    }
}

fn thread_message(attempt: &Attempt<'_>, payload: &MessagePayload, fetched: Option<&Message>) -> ThreadMessage {
    let body = fetched.and_then(|message| message.body.clone()).or_else(|| payload.body.clone()).unwrap_or_default();
    let event_type = attempt.event.event_type.as_str();
    let direction = fetched.and_then(Message::direction).or(payload.direction);
    let is_inbound = direction.map_or(event_type == "message.received", |direction| direction == Direction::In);
    let received_at = attempt.event.received_at;
    let media = fetched.map(Message::media).filter(|media| !media.is_empty());
    ThreadMessage {
        message_id: payload.raw_message_id.clone(),
        event_id: attempt.event.id.clone(),
        event_time: payload.event_time.unwrap_or(received_at),
        is_inbound,
        outcome: match event_type {
            FAILED => MessageOutcome::Failed,
            _ if is_inbound => MessageOutcome::Received,
            _ => MessageOutcome::Delivered,
        },
        body,
        author: fetched.and_then(Message::user).or_else(|| payload.user.clone()).filter(|_| !is_inbound),
        media: media.unwrap_or_else(|| payload.media.clone()),
        is_stop: attempt.event.event_type.keyword() == Some(Keyword::Stop),
        occurred_at: fetched.and_then(Message::occurred_at).or(payload.occurred_at).unwrap_or(received_at),
    }
}
