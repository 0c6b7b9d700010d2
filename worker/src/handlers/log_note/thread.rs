//! Writes the note of a thread under the thread's lease: makes its text, creates or changes each part, and records what
//! is there.

use std::sync::Arc;
use std::time::Duration;

use hookline_common::names::{DeadReason, Destination};
use hookline_common::note_text::NoteText;
use hookline_common::settings::Settings;
use hookline_common::template::TemplateError;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Doubt, ThreadLease, ThreadStand, ThreadWrite, ThreadWritten, WrittenPart};
use sha2::{Digest as _, Sha256};

use super::owners::Owners;
use super::writer::Due;
use crate::delivery::handler::{Attempt, HandlerError};
use crate::handlers::effects::WriteError;
use crate::handlers::soon;
use crate::records::{Idempotency, NoteError, NotePart, Person, PersonId, SystemOfRecord, note_form};

pub(super) struct ThreadWriter {
    store: Store,
    records: Arc<dyn SystemOfRecord>,
    text: NoteText,
    owners: Owners,
    lease: Duration,
}

/// A thread that was written.
pub(super) struct Wrote {
    /// How many of its notes were created or changed.
    pub(super) notes: usize,
    /// Why the note has no owner, where that is worth a word.
    pub(super) remark: Option<String>,
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
        let (format, limit) = note_form(own.kind);
        let text = NoteText::new(own.templates.note.as_deref(), format, own.time_zone.clone(), limit)?;
        let owners = Owners::new(own, Arc::clone(&records));
        Ok(Self { store, records, text, owners, lease })
    }

    /// Returns how many notes of this thread have to be created and to be changed.
    pub(super) fn due(&self, stand: &ThreadStand) -> Result<Due, HandlerError> {
        let texts = self.text.parts(&stand.thread.note()).map_err(template_failed)?;
        let known = texts.iter().zip(&stand.parts).filter(|(_, part)| part.is_there());
        let new = texts.len() - known.clone().count();
        let changed = known.filter(|(text, part)| part.hash != hash(text)).count();
        let surplus = stand.parts.iter().skip(texts.len()).filter(|part| part.is_there()).count();
        Ok(Due { new, changed: changed + surplus })
    }

    /// Writes all parts of the note, and notes in `write` those that are there. Ends the lease, except for a person who is
    /// gone.
    pub(super) async fn write(
        &self,
        attempt: &Attempt<'_>,
        lease: &ThreadLease,
        write: &mut ThreadWrite,
        person: &Person,
    ) -> Result<Wrote, ThreadError> {
        let texts = match self.text.parts(&write.thread.note()) {
            Ok(texts) => texts,
            Err(error) => {
                self.store.release_thread(lease, false).await?;
                return Err(template_failed(error).into());
            }
        };
        self.settle_doubt(attempt, lease, write, &texts, person).await?;
        let (mut owner, mut notes) = (None, 0);
        for (number, text) in texts.iter().enumerate() {
            let hash = hash(text);
            if write.note_of(number).is_some_and(|part| part.hash == hash) && !self.records.notes().keeps_messages() {
                continue;
            }
            if owner.is_none() {
                owner = Some(self.owners.of(attempt, &write.thread).await);
            }
            let owner = owner.as_ref().and_then(|owner| owner.id.as_deref());
            let id = self.write_part(attempt, lease, write, (number, text, owner), person).await?;
            notes += 1;
            // The doubt about an earlier part was settled, or its key was written once more.
            write.doubt = write.doubt.filter(|doubt| doubt.part != number);
            put(&mut write.parts, number, WrittenPart { id, hash });
            // A later part may fail: this one is there.
            let parts = (number, write.parts.as_slice());
            if number + 1 < texts.len() && !self.store.thread_parts(lease, &person.id.0, parts).await? {
                return Err(self.erased(attempt, &write.parts).await?.into());
            }
        }
        notes += self.delete_surplus(attempt, lease, write, texts.len()).await?;
        let written = ThreadWritten {
            version: write.version,
            person_id: person.id.0.clone(),
            parts: write.parts.clone(),
            text: texts.join("\n\n"),
        };
        if self.store.thread_written(lease, &written).await? {
            return Ok(Wrote { notes, remark: owner.and_then(|owner| owner.remark) });
        }
        Err(self.erased(attempt, &write.parts).await?.into())
    }

    /// Creates the note of a part, or changes it. Returns its id. Ends the lease if it fails, except for a person who is gone.
    async fn write_part(
        &self,
        attempt: &Attempt<'_>,
        lease: &ThreadLease,
        write: &mut ThreadWrite,
        (number, text, owner): (usize, &str, Option<&str>),
        person: &Person,
    ) -> Result<String, ThreadError> {
        let key = part_key(&write.thread.thread_id, number);
        if let Some(id) = write.note_of(number).map(|part| part.id.clone()) {
            let part = NotePart { thread: &write.thread, key: &key, text, remote_id: Some(&id), owner };
            let sent = self.send(attempt, lease, (number, &part, write.doubt), person).await;
            if !matches!(sent, Err(NoteError::NoteIsGone)) {
                return self.ended(lease, write.doubt, sent, true).await;
            }
            // Somebody deleted the note, and its texts have to be somewhere. The new note may be there without an answer, so
            // the old one is forgotten first.
            write.parts[number] = WrittenPart::gone();
            if !self.store.thread_parts(lease, &person.id.0, (number, &write.parts)).await? {
                return Err(self.erased(attempt, &write.parts).await?.into());
            }
        }
        let part = NotePart { thread: &write.thread, key: &key, text, remote_id: None, owner };
        let sent = self.send(attempt, lease, (number, &part, write.doubt), person).await;
        self.ended(lease, write.doubt, sent, false).await
    }

    /// Deletes the notes that a shorter text does not need any more. Returns how many.
    async fn delete_surplus(
        &self,
        attempt: &Attempt<'_>,
        lease: &ThreadLease,
        write: &mut ThreadWrite,
        needed: usize,
    ) -> Result<usize, ThreadError> {
        let mut deleted = 0;
        while write.parts.len() > needed {
            let Some(part) = write.parts.last() else { break };
            if !part.is_there() {
                write.parts.pop();
                continue;
            }
            match self.records.notes().delete(attempt.calls, &part.id).await {
                Ok(true) => deleted += 1,
                // This system offers no way, so the note stays as it is, and known.
                Ok(false) => break,
                Err(error) => {
                    self.store.release_thread(lease, write.doubt.is_none()).await?;
                    return Err(error.into());
                }
            }
            write.parts.pop();
        }
        Ok(deleted)
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
        let is_open = |doubt: &Doubt| doubt.part <= write.parts.len() && write.note_of(doubt.part).is_none();
        write.doubt = write.doubt.filter(is_open);
        let Some(doubt) = write.doubt else { return Ok(()) };
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
            Err(NoteError::PersonIsGone) => return Err(ThreadError::PersonIsGone),
            Err(NoteError::NoteIsGone) => None,
            Err(NoteError::Failed(error)) => {
                self.store.release_thread(lease, false).await?;
                return Err(error.into());
            }
        };
        if let Some(id) = found {
            // The text that it has is not known, so the part is written again.
            put(&mut write.parts, doubt.part, WrittenPart { id, hash: String::new() });
            self.store.thread_parts(lease, &person.id.0, (doubt.part, &write.parts)).await?;
        }
        write.doubt = None;
        Ok(())
    }

    /// Looks on the record of the person for whom the note was created, and on that of the present one. The former may be
    /// gone, and their notes are then on the latter's. While the latter is gone too, nobody knows where the note is.
    async fn find(
        &self,
        attempt: &Attempt<'_>,
        write: &ThreadWrite,
        doubt: Doubt,
        texts: &[String],
        person: &Person,
    ) -> Result<Option<String>, NoteError> {
        let key = part_key(&write.thread.thread_id, doubt.part);
        let text = texts.get(doubt.part).map(String::as_str).unwrap_or_default();
        let part = NotePart { thread: &write.thread, key: &key, text, remote_id: None, owner: None };
        let before = write.person_id.clone().filter(|id| *id != person.id.0 && !id.is_empty()).map(PersonId);
        if let Some(id) = before {
            let before = Person { id, ..person.clone() };
            match self.records.notes().find(attempt, &before, &part).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) | Err(NoteError::PersonIsGone) => {}
                Err(error) => return Err(error),
            }
        }
        self.records.notes().find(attempt, person, &part).await
    }

    async fn send(
        &self,
        attempt: &Attempt<'_>,
        lease: &ThreadLease,
        (number, part, doubt): (usize, &NotePart<'_>, Option<Doubt>),
        person: &Person,
    ) -> Result<String, NoteError> {
        // A doubt that nothing settled stays as it is, with the person whose record may have the note.
        let is_known = part.remote_id.is_some() || doubt.is_some_and(|doubt| doubt.part == number);
        let is_ours = match is_known {
            true => self.store.renew_thread(lease, self.lease).await?,
            // Also where a write by key is harmless: another process may have given up writing by key.
            false => self.store.thread_note_sent(lease, number, &person.id.0, self.lease).await?,
        };
        if !is_ours {
            let until = soon(Timestamp::now().plus(Duration::from_secs(1)));
            let why = "another delivery took over this thread's note";
            return Err(NoteError::Failed(HandlerError::Wait { until, why }));
        }
        self.records.notes().write(attempt, person, part).await
    }

    /// Ends the lease after a failure. A note that may have been created stays in doubt; so does one of an earlier attempt
    /// (`doubt`) about which nothing was found out. A change that may still land keeps the lease until it can't any more:
    /// it must not overwrite a later one. The same goes for a write by key, whose repeat would change the note.
    async fn ended(
        &self,
        lease: &ThreadLease,
        doubt: Option<Doubt>,
        sent: Result<String, NoteError>,
        is_change: bool,
    ) -> Result<String, ThreadError> {
        match sent {
            Ok(id) => Ok(id),
            Err(NoteError::PersonIsGone) => Err(ThreadError::PersonIsGone),
            Err(NoteError::NoteIsGone) => {
                self.store.release_thread(lease, doubt.is_none()).await?;
                Err(HandlerError::TryAgain {
                    after: Duration::from_secs(30),
                    destination: Destination::SystemOfRecord,
                    why: "the note was deleted while it was written",
                }
                .into())
            }
            Err(NoteError::Failed(error)) => match WriteError::of_write(error) {
                WriteError::NotMade(error) => {
                    self.store.release_thread(lease, doubt.is_none()).await?;
                    Err(error.into())
                }
                WriteError::InDoubt(error) => {
                    let may_overwrite = is_change || self.records.notes().idempotency() == Idempotency::ByKey;
                    let keep = if may_overwrite { self.records.settle_after() } else { Duration::ZERO };
                    self.store.thread_in_doubt(lease, keep).await?;
                    Err(error.into())
                }
            },
        }
    }

    /// Deletes the notes of a person who was erased while they were written.
    async fn erased(&self, attempt: &Attempt<'_>, parts: &[WrittenPart]) -> Result<HandlerError, HandlerError> {
        for part in parts.iter().filter(|part| part.is_there()) {
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

/// Records the note of a part, which is the next one or known.
fn put(parts: &mut Vec<WrittenPart>, number: usize, part: WrittenPart) {
    match parts.get_mut(number) {
        Some(known) => *known = part,
        None => parts.push(part),
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
