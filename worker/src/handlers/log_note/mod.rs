//! Puts a text message into the note of its thread on the person's record. Each message and outcome is in one note,
//! whatever repeats. One write of a thread finishes every delivery whose message it contains; a delivery waits for it
//! without spending an attempt.

mod conversation;
pub(crate) mod fill;
mod message;
mod owners;
mod person;
mod thread;
mod whom;
pub(crate) mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::{DeadReason, Destination, HandlerName, OperationClass, SkipReason};
use hookline_common::settings::{MessageLookup, OnFailedMessage, Settings};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{JoinThread, ThreadFacts, ThreadMessage, ThreadTurn};

use self::conversation::ConversationContact;
use self::message::{FAILED, Threads, effect_key, thread_message};
use self::person::Found;
use self::whom::Whom;
use self::writer::{InNote, NoteWriter};
use super::effects::{Effects, Once, OurClaim, WriteError, Written};
use super::message_lookup::MessageFinder;
use super::{Clients, soon};
use crate::delivery::handler::{Attempt, Failure, Handler, HandlerError, Outcome};
use crate::gate::Gate;
use crate::records::{self, Person};
use crate::textus::payload::{self, MessagePayload, Payload, Unreadable};

const NAME: HandlerName = HandlerName::LogNote;
/// How soon to look again for a message that isn't there yet.
const NOT_THERE_YET: Duration = Duration::from_secs(2);

pub(super) struct LogNote {
    store: Store,
    gate: Arc<Gate>,
    finder: MessageFinder,
    threads: Threads,
    notes: NoteWriter,
    effects: Effects,
    not_found_grace: Duration,
    on_failed: OnFailedMessage,
}

/// Whether TextUs is asked about texts at all; otherwise the signed payload is enough.
pub(crate) fn asks_textus(settings: &Settings) -> bool {
    settings.handlers.log_note.message_lookup != MessageLookup::None
}

impl LogNote {
    /// # Errors
    /// When the template of notes cannot be read.
    pub(super) fn new(settings: &Settings, clients: &Clients) -> anyhow::Result<Self> {
        let (own, store) = (&settings.handlers.log_note, clients.store.clone());
        let effects = Effects::in_records(store.clone(), NAME, settings.textus.timeout, clients.records.as_ref());
        Ok(Self {
            gate: Arc::clone(&clients.textus_gate),
            finder: MessageFinder::new(clients.textus.clone(), own.message_lookup),
            threads: Threads::new(settings),
            notes: NoteWriter::new(
                settings,
                (store.clone(), &clients.records),
                asks_textus(settings).then(|| clients.textus.clone()),
                effects.lease,
            )?,
            effects,
            not_found_grace: own.not_found_grace,
            on_failed: settings.system_of_record.on_failed_message,
            store,
        })
    }

    async fn write(
        &self,
        attempt: &Attempt<'_>,
        payload: &MessagePayload,
        claim: OurClaim,
    ) -> Result<Written<Outcome>, WriteError> {
        let whom = Whom::from(payload);
        let contact = self.notes.conversation(&whom);
        let (mut person, mut found) = (None, Vec::new());
        let (facts, message) = match self.joined_before(attempt, payload).await? {
            Some(joined) => joined,
            None => {
                let message = self.message(attempt, payload, &contact).await?;
                let facts = self.threads.of(payload, &message);
                match self.notes.person(attempt, &whom, &contact, true).await? {
                    Found::Known { person: known, remarks } => {
                        person = Some(known);
                        found = remarks;
                    }
                    Found::Decided(outcome) => return Ok(Written::nothing(outcome)),
                }
                (facts, message)
            }
        };
        self.effects.begin_write(&claim).await?;
        match self.join_and_write(attempt, (&whom, &contact), (facts, message), person).await? {
            InNote::Yes { thread_id, remarks, .. } => {
                let outcome = Outcome::done().with_remarks(found).with_remarks(remarks);
                Ok(claim.made(outcome, Some(&thread_id)))
            }
            InNote::Decided(outcome) => Ok(Written::nothing(outcome)),
        }
    }

    /// Adds a message to its thread, and writes the thread if it is this delivery's turn.
    async fn join_and_write(
        &self,
        attempt: &Attempt<'_>,
        (whom, contact): (&Whom, &ConversationContact<'_>),
        (facts, message): (ThreadFacts, ThreadMessage),
        person: Option<Person>,
    ) -> Result<InNote, HandlerError> {
        let join = JoinThread {
            facts,
            message,
            system: self.notes.records.name().to_owned(),
            owner: attempt.owner.to_owned(),
            lease: self.notes.lease,
            update_every: self.notes.update_every,
        };
        match self.store.join_thread(join).await? {
            ThreadTurn::Written { thread_id } => Ok(InNote::Yes { thread_id, notes: 0, remarks: Vec::new() }),
            ThreadTurn::Wait { until } => {
                let why = "the note of this thread is written again a little later";
                Err(HandlerError::Wait { until, why })
            }
            ThreadTurn::Busy { until } => {
                let why = "another delivery writes the note of this thread";
                Err(HandlerError::Wait { until: soon(until), why })
            }
            ThreadTurn::Write(write) => self.notes.write(attempt, (whom, contact), *write, person).await,
        }
    }

    /// Takes a later copy of a message that another event brought before, if it differs. What the copy leaves out stays. A
    /// message that was fetched is what the Messages API says, whatever a later webhook has.
    async fn take_later_copy(&self, attempt: &Attempt<'_>, payload: &MessagePayload) -> Result<(), HandlerError> {
        if !self.finder.is_off() {
            return Ok(());
        }
        let Some((facts, known)) = self.store.thread_message(&payload.raw_message_id).await? else { return Ok(()) };
        let copy = thread_message(attempt.event, payload, None);
        let copy = ThreadMessage {
            body: if copy.body.is_empty() { known.body.clone() } else { copy.body },
            author: copy.author.or_else(|| known.author.clone()),
            author_email: copy.author_email.or_else(|| known.author_email.clone()),
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
        let whom = Whom::from(payload);
        let contact = self.notes.conversation(&whom);
        let copy = if joined { known } else { copy };
        self.join_and_write(attempt, (&whom, &contact), (facts, copy), None).await.map(drop)
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
            return Ok(thread_message(attempt.event, payload, None));
        }
        match self.finder.find(attempt, payload, contact).await? {
            Some(fetched) => Ok(thread_message(attempt.event, payload, Some(&fetched))),
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
}

#[async_trait]
impl Handler for LogNote {
    fn name(&self) -> HandlerName {
        NAME
    }

    fn gates(&self) -> Vec<(Arc<Gate>, &'static [OperationClass])> {
        let textus = (!self.finder.is_off()).then(|| (Arc::clone(&self.gate), &[OperationClass::Reads][..]));
        let records = records::gates(self.notes.records.as_ref(), &[OperationClass::ContactWrites]);
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
        let key = effect_key(attempt.event, &payload);
        let write = |claim| self.write(attempt, &payload, claim);
        let effect = (self.notes.records.name(), key.as_str());
        let once = self.effects.once(attempt, effect, "another delivery is writing this note", write).await;
        let once = once.map_err(HandlerError::from)?;
        if matches!(&once, Once::Before { event_id } if *event_id != attempt.event.id) {
            self.take_later_copy(attempt, &payload).await?;
        }
        Ok(once.outcome(attempt))
    }
}
