//! The one way in which a thread's note is written: the person is found, the note is written under the thread's lease,
//! and a person who was merged or deleted is looked up anew, once. Deliveries and the back-fill both go it.

use std::sync::Arc;
use std::time::Duration;

use hookline_common::names::Destination;
use hookline_common::settings::Settings;
use hookline_store::Store;
use hookline_store::model::{ThreadLease, ThreadStand, ThreadWrite};

use super::conversation::ConversationContact;
use super::person::{Found, PersonFinder};
use super::thread::{ThreadError, ThreadWriter, Wrote};
use super::whom::Whom;
use crate::delivery::handler::{Attempt, HandlerError, Outcome};
use crate::records::{Person, SystemOfRecord};
use crate::textus::client::TextUs;

pub(crate) struct NoteWriter {
    store: Store,
    pub(super) records: Arc<dyn SystemOfRecord>,
    /// `None` where TextUs is never asked (`message_lookup = "none"`).
    textus: Option<TextUs>,
    people: PersonFinder,
    threads: ThreadWriter,
    default_account: String,
    pub(super) lease: Duration,
    pub(super) update_every: Duration,
}

/// What became of a thread's note.
pub(crate) enum InNote {
    /// A write that contains the message was answered.
    Yes { thread_id: String, notes: usize, remarks: Vec<String> },
    /// No certain person can have the note, and this is what that means.
    Decided(Outcome),
}

impl NoteWriter {
    /// `textus` is asked about people whom the system of record does not tell apart.
    ///
    /// # Errors
    /// When the template of notes cannot be read.
    pub(crate) fn new(
        settings: &Settings,
        (store, records): (Store, &Arc<dyn SystemOfRecord>),
        textus: Option<TextUs>,
        lease: Duration,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            textus,
            people: PersonFinder::new(settings, store.clone(), Arc::clone(records), lease),
            threads: ThreadWriter::new(settings, store.clone(), Arc::clone(records), lease)?,
            default_account: settings.textus.account.clone(),
            // The built-in system of record costs no call.
            update_every: match records.gate() {
                None => Duration::ZERO,
                Some(_) => settings.system_of_record.update_every,
            },
            records: Arc::clone(records),
            lease,
            store,
        })
    }

    pub(super) fn conversation<'a>(&'a self, whom: &'a Whom) -> ConversationContact<'a> {
        ConversationContact::new(self.textus.as_ref(), &self.default_account, whom)
    }

    pub(super) async fn person(
        &self,
        attempt: &Attempt<'_>,
        whom: &Whom,
        contact: &ConversationContact<'_>,
        may_be_linked: bool,
    ) -> Result<Found, HandlerError> {
        if whom.is_nobody() {
            return self.people.nameless(whom);
        }
        self.people.find(attempt, whom, contact, may_be_linked).await
    }

    /// Returns how many notes of this thread have to be created and to be changed.
    ///
    /// # Errors
    /// Any [`HandlerError`]: the template fails for this thread.
    pub(crate) fn due(&self, stand: &ThreadStand) -> Result<Due, HandlerError> {
        self.threads.due(stand)
    }

    /// Writes the thread under its lease, which ends with this.
    ///
    /// # Errors
    /// Any [`HandlerError`].
    pub(crate) async fn write(
        &self,
        attempt: &Attempt<'_>,
        (whom, contact): (&Whom, &ConversationContact<'_>),
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
                None => self.person(attempt, whom, contact, may_be_linked).await,
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
                Ok(Wrote { notes, remark }) => {
                    let attached = format!("{} attached to {}", lease.thread_id, present.id);
                    let remarks = [attached].into_iter().chain(remark).collect();
                    return Ok(InNote::Yes { thread_id: lease.thread_id, notes, remarks });
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

/// What has to be written of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Notes that are not there.
    pub(crate) new: usize,
    /// Notes with another text, and those that a shorter text does not need.
    pub(crate) changed: usize,
}
