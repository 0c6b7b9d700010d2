//! Writes the note of a thread under the thread's lease: makes its text, creates or changes each part, and records what
//! is there.

use std::sync::Arc;
use std::time::Duration;

use hookline_common::names::{DeadReason, Destination};
use hookline_common::note_text::{NoteText, TemplateError};
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Doubt, ThreadLease, ThreadWrite, ThreadWritten, WrittenPart};
use sha2::{Digest as _, Sha256};

use crate::delivery::handler::{Attempt, HandlerError};
use crate::handlers::effects::WriteError;
use crate::handlers::soon;
use crate::records::{Idempotency, NoteError, NotePart, Person, PersonId, SystemOfRecord};

pub(super) struct ThreadWriter {
    store: Store,
    records: Arc<dyn SystemOfRecord>,
    text: NoteText,
    lease: Duration,
}

/// Why a thread was not written.
pub(super) enum ThreadError {
    /// The person was merged or deleted. The lease is still held.
    PersonIsGone,
    Failed(HandlerError),
}

impl<E: Into<HandlerError>> From<E> for ThreadError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl ThreadWriter {
    /// # Errors
    /// When the template cannot be read. Loading the settings refuses such a template.
    pub(super) fn new(
        settings: &Settings,
        store: Store,
        records: Arc<dyn SystemOfRecord>,
        lease: Duration,
    ) -> Result<Self, TemplateError> {
        let own = &settings.system_of_record;
        let notes = records.notes();
        let template = own.templates.note.as_deref();
        let text = NoteText::new(template, notes.format(), own.time_zone.clone(), notes.limit())?;
        Ok(Self { store, records, text, lease })
    }

    /// Writes all parts of the note, and notes in `write` those that are there. Ends the lease, except for a person who is
    /// gone.
    pub(super) async fn write(
        &self,
        attempt: &Attempt<'_>,
        lease: &ThreadLease,
        write: &mut ThreadWrite,
        person: &Person,
    ) -> Result<(), ThreadError> {
        let texts = match self.text.parts(&write.thread.note()) {
            Ok(texts) => texts,
            Err(error) => {
                self.store.release_thread(lease, false).await?;
                return Err(template_failed(error).into());
            }
        };
        self.settle_doubt(attempt, lease, write, &texts, person).await?;
        for (number, text) in texts.iter().enumerate() {
            let hash = hash(text);
            let known = write.parts.get(number).cloned();
            if known.as_ref().is_some_and(|part| part.hash == hash) && !self.records.notes().keeps_messages() {
                continue;
            }
            let (key, remote_id) = (part_key(&write.thread.thread_id, number), known.map(|part| part.id));
            let part = NotePart { thread: &write.thread, key: &key, text, remote_id: remote_id.as_deref() };
            let sent = match self.send(attempt, lease, (number, &part), person).await {
                // Somebody deleted the note, and its texts have to be somewhere.
                Err(NoteError::NoteIsGone) if part.remote_id.is_some() => {
                    let part = NotePart { remote_id: None, ..part };
                    self.send(attempt, lease, (number, &part), person).await
                }
                sent => sent,
            };
            let id = self.ended(lease, sent, remote_id.is_some()).await?;
            let written = WrittenPart { id, hash };
            if number < write.parts.len() {
                write.parts[number] = written
            } else {
                write.parts.push(written)
            }
            // A later part may fail: this one is there.
            if number + 1 < texts.len() && !self.store.thread_parts(lease, &person.id.0, &write.parts).await? {
                return Err(self.erased(attempt, &write.parts).await?.into());
            }
        }
        let written = ThreadWritten {
            version: write.version,
            person_id: person.id.0.clone(),
            parts: write.parts.clone(),
            text: texts.join("\n\n"),
        };
        if self.store.thread_written(lease, &written).await? {
            return Ok(());
        }
        Err(self.erased(attempt, &write.parts).await?.into())
    }

    /// Finds out whether a call without an answer created a note, once the call can no longer take effect, and records the
    /// note if it is there. A system that writes by key needs no look-up.
    async fn settle_doubt(
        &self,
        attempt: &Attempt<'_>,
        lease: &ThreadLease,
        write: &mut ThreadWrite,
        texts: &[String],
        person: &Person,
    ) -> Result<(), ThreadError> {
        let Some(doubt) = write.doubt.filter(|doubt| doubt.part == write.parts.len()) else { return Ok(()) };
        if self.records.notes().idempotency() == Idempotency::ByKey {
            return Ok(());
        }
        let settled = doubt.since.plus(self.records.settle_after());
        if settled > self.store.now() {
            self.store.release_thread(lease, false).await?;
            let why = "the outcome of an earlier write of this note is not known yet";
            let wait = settled.since(self.store.now());
            return Err(HandlerError::Wait { until: Timestamp::now().plus(wait), why }.into());
        }
        let found = match self.find(attempt, write, doubt, texts, person).await {
            Ok(found) => found,
            Err(error) => {
                self.store.release_thread(lease, false).await?;
                return Err(error.into());
            }
        };
        if let Some(id) = found {
            // The text that it has is not known, so the part is written again.
            write.parts.push(WrittenPart { id, hash: String::new() });
            self.store.thread_parts(lease, &person.id.0, &write.parts).await?;
        }
        Ok(())
    }

    /// Looks on the record of the person for whom the note was created, and on that of the present one.
    async fn find(
        &self,
        attempt: &Attempt<'_>,
        write: &ThreadWrite,
        doubt: Doubt,
        texts: &[String],
        person: &Person,
    ) -> Result<Option<String>, HandlerError> {
        let key = part_key(&write.thread.thread_id, doubt.part);
        let text = texts.get(doubt.part).map(String::as_str).unwrap_or_default();
        let part = NotePart { thread: &write.thread, key: &key, text, remote_id: None };
        let before = write.person_id.clone().filter(|id| *id != person.id.0 && !id.is_empty()).map(PersonId);
        if let Some(id) = before {
            let before = Person { id, ..person.clone() };
            if let Some(found) = self.records.notes().find(attempt, &before, &part).await? {
                return Ok(Some(found));
            }
        }
        self.records.notes().find(attempt, person, &part).await
    }

    async fn send(
        &self,
        attempt: &Attempt<'_>,
        lease: &ThreadLease,
        (number, part): (usize, &NotePart<'_>),
        person: &Person,
    ) -> Result<String, NoteError> {
        let is_ours = match part.remote_id {
            // Also where a write by key is harmless: another process may have given up writing by key.
            None => self.store.thread_note_sent(lease, number, &person.id.0, self.lease).await?,
            Some(_) => self.store.renew_thread(lease, self.lease).await?,
        };
        if !is_ours {
            let until = soon(Timestamp::now().plus(Duration::from_secs(1)));
            let why = "another delivery took over this thread's note";
            return Err(NoteError::Failed(HandlerError::Wait { until, why }));
        }
        self.records.notes().write(attempt, person, part).await
    }

    /// Ends the lease after a failure. A note that may have been created stays in doubt. A change that may still land keeps
    /// the lease until it can't any more: it must not overwrite a later one.
    async fn ended(
        &self,
        lease: &ThreadLease,
        sent: Result<String, NoteError>,
        is_change: bool,
    ) -> Result<String, ThreadError> {
        match sent {
            Ok(id) => Ok(id),
            Err(NoteError::PersonIsGone) => Err(ThreadError::PersonIsGone),
            Err(NoteError::NoteIsGone) => {
                self.store.release_thread(lease, true).await?;
                Err(HandlerError::TryAgain {
                    after: Duration::from_secs(30),
                    destination: Destination::SystemOfRecord,
                    why: "the note was deleted while it was written",
                }
                .into())
            }
            Err(NoteError::Failed(error)) => match WriteError::of_write(error) {
                WriteError::NotMade(error) => {
                    self.store.release_thread(lease, true).await?;
                    Err(error.into())
                }
                WriteError::InDoubt(error) if is_change => {
                    self.store.renew_thread(lease, self.records.settle_after()).await?;
                    Err(error.into())
                }
                WriteError::InDoubt(error) => {
                    self.store.release_thread(lease, false).await?;
                    Err(error.into())
                }
            },
        }
    }

    /// Deletes the notes of a person who was erased while they were written.
    async fn erased(&self, attempt: &Attempt<'_>, parts: &[WrittenPart]) -> Result<HandlerError, HandlerError> {
        for part in parts {
            if !self.records.notes().delete(attempt.calls, &part.id).await? {
                tracing::warn!(
                    note_id = part.id,
                    "note.left: its person was erased while it was written; delete it in the system of record"
                );
            }
        }
        let until = Timestamp::now().plus(Duration::from_secs(1));
        Ok(HandlerError::Wait { until, why: "the person was erased while the note was written" })
    }
}

/// Returns what the system of record knows a part by.
fn part_key(thread_id: &str, number: usize) -> String {
    if number == 0 { thread_id.to_owned() } else { format!("{thread_id}-{}", number + 1) }
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn template_failed(error: TemplateError) -> HandlerError {
    HandlerError::GiveUp {
        reason: DeadReason::Rejected,
        destination: Some(Destination::SystemOfRecord),
        status: None,
        detail: format!("the template of notes fails for this thread: {error}; mend it and redrive"),
    }
}
