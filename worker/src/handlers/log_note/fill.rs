//! The back-fill's view of notes: which texts of the history have no thread, what of a thread the system of record lacks,
//! and the write of one thread. The write itself is the deliveries' own.

use std::sync::Arc;

use bytes::Bytes;
use hookline_common::event::{Event, EventId, EventType};
use hookline_common::names::HandlerName;
use hookline_common::phone::Phone;
use hookline_common::settings::{OnFailedMessage, Settings};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{
    JoinThread, Payload as Kept, Thread, ThreadFacts, ThreadLease, ThreadMessage, ThreadStand, ThreadTurn,
};
use serde_json::json;

use super::message::{FAILED, Threads, effect_key, thread_message};
use super::whom::Whom;
use super::writer::{Due, InNote, NoteWriter};
use crate::calls::log::CallLog;
use crate::delivery::handler::{Attempt, HandlerError};
use crate::handlers::effects::Effects;
use crate::handlers::soon;
use crate::records::{Person, SystemOfRecord};
use crate::textus::client::TextUs;
use crate::textus::payload::{self, Payload};

pub(crate) struct FillNotes {
    store: Store,
    system: String,
    threads: Threads,
    notes: NoteWriter,
    on_failed: OnFailedMessage,
    asks_textus: bool,
}

/// What an event of the history is to the back-fill.
pub(crate) enum Text {
    /// It belongs into this thread.
    Of(Box<(ThreadFacts, ThreadMessage)>),
    /// It is in a thread, or in a note, or its note is not wanted.
    Nothing,
    /// The payload does not tell whose it is, or what it says.
    NotTold,
}

/// What became of one thread.
pub(crate) enum Filled {
    /// This many notes were created or changed; 0 if the system had the thread already.
    Written(usize),
    /// Nobody can have the note, and `on_unknown_contact` is `skip`.
    Skipped,
}

impl FillNotes {
    /// # Errors
    /// When the template of notes cannot be read.
    pub(crate) fn new(
        settings: &Settings,
        (store, records): (Store, &Arc<dyn SystemOfRecord>),
        textus: Option<TextUs>,
    ) -> anyhow::Result<Self> {
        let timeout = settings.textus.timeout;
        let effects = Effects::in_records(store.clone(), HandlerName::LogNote, timeout, records.as_ref());
        Ok(Self {
            system: records.name().to_owned(),
            threads: Threads::new(settings),
            notes: NoteWriter::new(settings, (store.clone(), records), textus, effects.lease)?,
            on_failed: settings.system_of_record.on_failed_message,
            asks_textus: super::asks_textus(settings),
            store,
        })
    }

    /// Reads an event that no thread has. Nothing is fetched: the signed payload has to be enough.
    pub(crate) async fn read(&self, event: &Event) -> Result<Text, HandlerError> {
        if event.event_type.as_str() == FAILED && self.on_failed == OnFailedMessage::Skip {
            return Ok(Text::Nothing);
        }
        let Ok(Payload::Message(payload)) = payload::read(event) else { return Ok(Text::NotTold) };
        let key = effect_key(event, &payload);
        if self.store.effect_is_made(HandlerName::LogNote, &self.system, &key).await? {
            return Ok(Text::Nothing);
        }
        // Where texts are fetched, a payload without any may be one that leaves it to that.
        let says_nothing = self.asks_textus && payload.body.is_none() && payload.media.is_empty();
        if says_nothing || Whom::from(&payload).is_nobody() {
            return Ok(Text::NotTold);
        }
        let message = thread_message(event, &payload, None);
        if let Some((_, known)) = self.store.thread_message(&message.message_id).await?
            && !self.counts_before(&message, &known)
        {
            return Ok(Text::Nothing);
        }
        Ok(Text::Of(Box::new((self.threads.of(&payload, &message), message))))
    }

    /// Reads texts of the history again, by the events that they came with. One whose payload has expired meanwhile is left
    /// out.
    pub(crate) async fn read_again(&self, events: &[EventId]) -> Result<Vec<ThreadMessage>, HandlerError> {
        let mut messages = Vec::with_capacity(events.len());
        for event_id in events {
            let Kept::Here(event) = self.store.event_payload(event_id).await? else { continue };
            if let Text::Of(text) = self.read(&event).await? {
                messages.push(text.1);
            }
        }
        Ok(messages)
    }

    /// Whether another copy of a message replaces the one that its thread has, as it does for deliveries: a text that was
    /// fetched stays, unless it turned out otherwise.
    fn counts_before(&self, copy: &ThreadMessage, known: &ThreadMessage) -> bool {
        let looks_the_same = (&copy.body, &copy.author, &copy.media, copy.outcome, copy.occurred_at)
            == (&known.body, &known.author, &known.media, known.outcome, known.occurred_at);
        let may = !self.asks_textus || copy.outcome != known.outcome;
        may && !looks_the_same && copy.rank() > known.rank()
    }

    /// Puts a text into its thread.
    pub(crate) async fn file(&self, facts: ThreadFacts, message: ThreadMessage) -> Result<(), HandlerError> {
        let join = JoinThread {
            facts,
            message,
            system: self.system.clone(),
            owner: String::new(),
            lease: self.notes.lease,
            update_every: self.notes.update_every,
        };
        Ok(self.store.file_message(join).await?)
    }

    /// Returns which notes of the thread the system of record lacks, or has with another text.
    pub(crate) fn due(&self, stand: &ThreadStand) -> Result<Due, HandlerError> {
        self.notes.due(stand)
    }

    /// Returns the person of a thread, as far as no call is needed to know them.
    pub(crate) async fn known_person(&self, thread: &Thread) -> Result<Option<String>, HandlerError> {
        if let Some(chosen) = self.store.chosen_for_thread(&self.system, &thread.thread_id).await? {
            return Ok(Some(chosen));
        }
        let phone = thread.phone.as_deref().and_then(Phone::parse).filter(|_| thread.contact_id.is_none());
        Ok(self.store.linked_person(&self.system, thread.contact_id.as_deref(), phone.as_ref()).await?)
    }

    /// Writes one thread, if it is this process's turn.
    ///
    /// # Errors
    /// Any [`HandlerError`], with the meaning that it has for a delivery.
    pub(crate) async fn write(
        &self,
        thread_id: &str,
        owner: &str,
        calls: impl FnOnce(Bytes) -> CallLog,
    ) -> Result<Filled, HandlerError> {
        let lease =
            ThreadLease { thread_id: thread_id.to_owned(), system: self.system.clone(), owner: owner.to_owned() };
        let turn = self.store.take_thread(&lease, self.notes.lease, self.notes.update_every).await?;
        let write = match turn {
            Some(ThreadTurn::Write(write)) => write,
            Some(ThreadTurn::Written { .. }) | None => return Ok(Filled::Written(0)),
            Some(ThreadTurn::Wait { until }) => {
                return Err(HandlerError::Wait { until, why: "the note of this thread was written a moment ago" });
            }
            Some(ThreadTurn::Busy { until }) => {
                let why = "a delivery or another back-fill writes the note of this thread";
                return Err(HandlerError::Wait { until: soon(until), why });
            }
        };
        let whom = Whom::from(&write.thread);
        let (chosen, event) = match self.chosen_and_event(&write.thread).await {
            Ok(found) => found,
            Err(error) => {
                // Nothing was sent under this lease, and an earlier doubt stays. If this fails too, the lease ends by
                // itself.
                if let Err(error) = self.store.release_thread(&lease, false).await {
                    tracing::debug!(%error, "back_fill.lease_not_released");
                }
                return Err(error);
            }
        };
        let person = chosen.map(|id| Person::linked(id, whom.contact_id(), whom.phone.clone().into_iter().collect()));
        let calls = calls(event.body.clone());
        let attempt = Attempt { event: &event, owner, calls: &calls, first_claim: None };
        let contact = self.notes.conversation(&whom);
        match self.notes.write(&attempt, (&whom, &contact), *write, person).await? {
            InNote::Yes { notes, .. } => Ok(Filled::Written(notes)),
            InNote::Decided(_) => Ok(Filled::Skipped),
        }
    }

    async fn chosen_and_event(&self, thread: &Thread) -> Result<(Option<String>, Event), HandlerError> {
        let chosen = self.store.chosen_for_thread(&self.system, &thread.thread_id).await?;
        Ok((chosen, self.event_of(thread).await?))
    }

    /// Returns the event of the thread's first text. One whose payload has expired gets a body with the texts, which
    /// must not appear in a destination's error.
    async fn event_of(&self, thread: &Thread) -> Result<Event, HandlerError> {
        let first = thread
            .messages
            .first()
            .ok_or(HandlerError::Wait { until: soon(Timestamp::now()), why: "the thread was erased meanwhile" })?;
        if let Kept::Here(event) = self.store.event_payload(&first.event_id).await? {
            return Ok(event);
        }
        let bodies: Vec<&str> = thread.messages.iter().map(|message| message.body.as_str()).collect();
        let body = Bytes::from(json!({ "body": bodies }).to_string());
        Ok(Event::of_store(first.event_id.clone(), EventType::new("message.received"), first.event_time, body))
    }
}
