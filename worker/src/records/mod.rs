//! Systems of record, which hold people, notes and opt-out flags. One is configured. A system gets what is known and
//! returns what is there. It never retries and never sleeps, and each call passes its gate. Each system's module says
//! how idempotent it is.

pub mod builtin;
pub mod http;
pub mod hubspot;
mod person_fields;
mod person_flags;
pub mod salesforce;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::builtin::Builtin;
use self::http::HttpRecords;
use self::hubspot::HubSpot;
use self::salesforce::Salesforce;
use async_trait::async_trait;
use hookline_common::names::{Destination, OperationClass};
use hookline_common::note_text::Format;
use hookline_common::phone::Phone;
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::{Settings, SystemOfRecordKind, SystemOfRecordSettings};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{PersonFacts, Thread};
use tokio_util::sync::CancellationToken;

use crate::calls::log::CallLog;
use crate::delivery::handler::{Attempt, HandlerError};
use crate::gate::Gate;

/// A person's id in the system of record. It is empty where the system has no people of its own, and the person is the
/// one of TextUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonId(pub String);

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if self.0.is_empty() { "TextUs's own contact" } else { &self.0 })
    }
}

/// A person whom the system of record knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    pub id: PersonId,
    /// The person's TextUs contact (`/contacts/…`), if the system of record stores it.
    pub contact_id: Option<String>,
    /// All numbers of the person.
    pub phones: Vec<Phone>,
    pub name: Option<String>,
    pub has_owner: bool,
    pub created_at: Option<Timestamp>,
}

impl Person {
    /// Returns a person who was found before and is known by a link.
    #[must_use]
    pub fn linked(id: String, contact_id: Option<String>, phones: Vec<Phone>) -> Self {
        Self { id: PersonId(id), contact_id, phones, name: None, has_owner: false, created_at: None }
    }
}

/// The result of an upsert.
#[derive(Clone, PartialEq, Eq)]
pub struct Upserted {
    /// The person with all numbers, including earlier ones.
    pub person: Person,
    pub created: bool,
    /// Whether the person was created, or something about them is new.
    pub changed: bool,
}

/// The opt-out state of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptOutFlag {
    pub opted_out: bool,
    /// The event time of the newest news, which decides the state.
    pub since: Timestamp,
    pub opted_out_at: Option<Timestamp>,
    pub opted_in_at: Option<Timestamp>,
}

impl OptOutFlag {
    /// Returns the flag of an event that leaves no state, which any state is newer than.
    #[must_use]
    pub const fn unproved(opted_out: bool) -> Self {
        Self { opted_out, since: Timestamp::EPOCH, opted_out_at: None, opted_in_at: None }
    }
}

/// What became of an opt-out flag that was to be set or cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagWrite {
    /// The record was changed and, where the system allows it, read back.
    Changed,
    /// The record said so already.
    AsItWas,
    /// The record has newer news, which stay.
    NewerThere,
}

/// What an opt-out flag says about its origin.
pub const OPT_OUT_SOURCE: &str = "TextUs";

/// What makes a repeated write of a note harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// A write by the same key changes one note.
    ByKey,
    /// A repeat would create another note. After an unknown outcome, [`Notes::find`] tells whether the note is there.
    LookUp,
}

/// One part of a thread's note, as it has to be in the system of record.
pub struct NotePart<'a> {
    pub thread: &'a Thread,
    /// Unique to this part, and the same for each write of it.
    pub key: &'a str,
    pub text: &'a str,
    /// The note's id in the system of record, if an earlier write was answered.
    pub remote_id: Option<&'a str>,
    /// The id in the system of record of the user who wrote the first outbound text; `None` where nobody knows it.
    pub owner: Option<&'a str>,
}

/// Why a note was not written.
#[derive(Debug)]
pub enum NoteError {
    /// The system of record does not have the person any more, since they were merged or deleted.
    PersonIsGone,
    /// The system of record does not have the note any more.
    NoteIsGone,
    Failed(HandlerError),
}

impl<E: Into<HandlerError>> From<E> for NoteError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The notes of a system of record.
#[async_trait]
pub trait Notes: Send + Sync + 'static {
    fn idempotency(&self) -> Idempotency;

    /// Whether the system has an entry for each message beside the note, so that a write is due even where the text stays
    /// the same.
    fn keeps_messages(&self) -> bool {
        false
    }

    /// Deletes a note, for the erasure of a person. Returns `false` where the system offers no way. A note that is gone
    /// already counts as deleted.
    async fn delete(&self, _calls: &CallLog, _remote_id: &str) -> Result<bool, HandlerError> {
        Ok(false)
    }

    /// Creates the note of this part on the person's record, or changes it if `part.remote_id` is given or the system
    /// writes by key. Returns the note's id.
    async fn write(&self, attempt: &Attempt<'_>, person: &Person, part: &NotePart<'_>) -> Result<String, NoteError>;

    /// Returns the id of this part's note, if it is on the person's record. `part.remote_id` is `None`. A system that writes
    /// by key is never asked. A person who is gone is [`NoteError::PersonIsGone`]: the note may be on another's record.
    async fn find(
        &self,
        _attempt: &Attempt<'_>,
        _person: &Person,
        _part: &NotePart<'_>,
    ) -> Result<Option<String>, NoteError> {
        Ok(None)
    }
}

/// How many calls work takes, and how fast they may be made, for estimates. Calls that have to be repeated are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub new_note: u64,
    pub changed_note: u64,
    /// To find or create a person whom no link names.
    pub person: u64,
    /// Of these, searches.
    pub person_searches: u64,
    /// To flag one record with a number.
    pub flag: u64,
    /// Calls in a time, where no answer has said yet how many may be made; `None` if nothing limits them.
    pub calls: Option<(u64, Duration)>,
    /// Searches of a back-fill in a time, where they have a limit of their own.
    pub searches: Option<(u64, Duration)>,
}

impl Default for Cost {
    fn default() -> Self {
        Self { new_note: 1, changed_note: 1, person: 2, person_searches: 0, flag: 2, calls: None, searches: None }
    }
}

/// Returns kind and instance of the configured system of record, as [`SystemOfRecord::name`] does.
#[must_use]
pub fn name(settings: &SystemOfRecordSettings) -> String {
    match settings.kind {
        SystemOfRecordKind::Builtin => Destination::SystemOfRecord.as_str().to_owned(),
        SystemOfRecordKind::HubSpot => hubspot::name(&settings.hubspot),
        SystemOfRecordKind::Salesforce => salesforce::name(&settings.salesforce),
        SystemOfRecordKind::Http => settings.http.url.as_ref().map(http::name).unwrap_or_default(),
    }
}

/// Returns the markup of the configured system's notes, and the most UTF-16 units of one.
#[must_use]
pub const fn note_form(kind: SystemOfRecordKind) -> (Format, usize) {
    match kind {
        SystemOfRecordKind::Builtin | SystemOfRecordKind::Http => (Format::Plain, usize::MAX),
        SystemOfRecordKind::Salesforce => (Format::Plain, salesforce::NOTE_LIMIT),
        SystemOfRecordKind::HubSpot => (Format::Html, hubspot::NOTE_LIMIT),
    }
}

/// Opens the configured system of record.
///
/// # Errors
/// When its client cannot be built from the settings.
pub fn open(settings: &Settings, store: &Store, metrics: &Arc<Metrics>) -> anyhow::Result<Arc<dyn SystemOfRecord>> {
    let system = &settings.system_of_record;
    let fields = &system.templates.person;
    match system.kind {
        SystemOfRecordKind::Builtin => Ok(Arc::new(Builtin::new(store.clone()))),
        SystemOfRecordKind::Http => Ok(Arc::new(HttpRecords::new(&system.http, store, metrics)?.filling(fields))),
        SystemOfRecordKind::Salesforce => Ok(Arc::new(Salesforce::new(system, store.clone(), metrics)?)),
        SystemOfRecordKind::HubSpot => {
            Ok(Arc::new(HubSpot::new(&system.hubspot, store.clone(), metrics)?.filling(fields)))
        }
    }
}

/// Returns the gate of a system of record with the classes of a handler's calls; nothing where no call is made.
pub(crate) fn gates(
    records: &dyn SystemOfRecord,
    classes: &'static [OperationClass],
) -> Vec<(Arc<Gate>, &'static [OperationClass])> {
    records.gate().map(|gate| (Arc::clone(gate), classes)).into_iter().collect()
}

#[async_trait]
pub trait SystemOfRecord: Send + Sync + 'static {
    /// Returns kind and instance, by which effects and links of one system are told from another's:
    /// `system_of_record` for the built-in one, otherwise such as `hubspot api.hubapi.com` or
    /// `http https://crm.example.com/hookline`. Contains no secret.
    fn name(&self) -> &str;

    /// Returns the gate that the calls pass; `None` where no call is made.
    fn gate(&self) -> Option<&Arc<Gate>>;

    /// Returns how long the effect of a call without an answer may still appear.
    fn settle_after(&self) -> Duration;

    /// Returns how long after an event people must be searched again, since a fresh record is not in the index yet.
    fn search_again_after(&self) -> &'static [Duration] {
        &[]
    }

    fn notes(&self) -> &dyn Notes;

    /// Returns what work costs.
    fn cost(&self) -> Cost {
        Cost::default()
    }

    /// Finds out whether the system answers and takes the credentials, with as few calls as can be.
    async fn check(&self, _calls: &CallLog) -> Result<(), HandlerError> {
        Ok(())
    }

    /// Uses the credentials from these settings from now on. Returns `false` if they are the same as before.
    ///
    /// # Errors
    /// When they cannot be used; the previous ones then stay.
    fn take_credentials(&self, _settings: &Settings) -> anyhow::Result<bool> {
        Ok(false)
    }

    /// Runs in the background until `shutdown`, for what the system has to find out by itself.
    async fn watch(&self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
    }

    /// Returns the people whom a message may belong to: the one with this contact id or, if there is none, all who have
    /// this phone among their numbers. Candidates of a search are compared in full E.164.
    async fn find_people(
        &self,
        attempt: &Attempt<'_>,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<Person>, HandlerError>;

    /// Returns the place of a person's kind in the configured order. Of several people with one number, those of the first
    /// kind come into question.
    fn place_of(&self, _person: &PersonId) -> usize {
        0
    }

    /// Whether notes have owners.
    fn has_owners(&self) -> bool {
        false
    }

    /// Returns the id of the user with this e-mail address, who can own notes; `None` where the system has no such user,
    /// or no owners at all.
    async fn find_owner(&self, _calls: &CallLog, _email: &str) -> Result<Option<String>, HandlerError> {
        Ok(None)
    }

    /// Creates the person, or links the contact to an existing one. Numbers are added to those that the person has. The
    /// caller holds the locks of the numbers, so that no other process creates the same person.
    async fn upsert_person(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Upserted, HandlerError>;

    /// Does the same for a person of whom [`Self::find_people`] has just found nobody. A system whose searches are few does
    /// not search again: where many texts of new people wait, each attempt would otherwise need two searches, and end for
    /// want of the second.
    async fn create_person(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        self.upsert_person(attempt, facts).await
    }

    /// Sets or clears the opt-out flag of one of the person's numbers unless a newer flag is there, and reads it back. A
    /// person counts as opted out as long as any of their numbers does.
    async fn set_opt_out(
        &self,
        attempt: &Attempt<'_>,
        person: &Person,
        phone: &Phone,
        flag: &OptOutFlag,
    ) -> Result<FlagWrite, HandlerError>;
}
