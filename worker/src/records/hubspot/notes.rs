//! Notes as communications of the channel SMS, or as notes, on a contact's timeline
//! (<https://developers.hubspot.com/docs/api/crm/communications>,
//! <https://developers.hubspot.com/docs/api-reference/crm-notes-v3/guide>).
//!
//! HubSpot has no idempotency key, and documents unique properties for other objects than these two. So the account
//! decides which of two ways is taken, at this process's first new note. Where the account has the unique property, a
//! note is upserted by it and then associated; both may be repeated. Where it has none, a note is created together with
//! its association. Either way the note's last line is its key, by which it can be recognised on the contact's own
//! records. No search is made: an index is no proof that a note is absent.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::{Destination, Operation, OperationClass};
use hookline_common::settings::HubSpotObject;
use hookline_common::time::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::HubSpot;
use super::client::{Page, Record, Request};
use super::errors::{failed, is_refusal};
use super::owners::OWNER;
use super::people::segment;
use crate::calls::log::CallLog;
use crate::delivery::handler::{Attempt, HandlerError};
use crate::destinations::error::DestinationError;
use crate::records::{Idempotency, NoteError, NotePart, Notes, Person};

/// HubSpot's most characters of a body, without the room for the last line.
pub(in crate::records) const LIMIT: usize = 65_536 - 128;
/// Most ids of one batch, most associations of one page, and the most pages that are read.
const BATCH: usize = 100;
const PAGE: usize = 500;
const MAX_PAGES: usize = 100;

/// An object that a note can be.
pub(super) struct Kind {
    /// The name in paths.
    pub(super) path: &'static str,
    pub(super) body: &'static str,
    /// The type of the association from this object to a contact. HubSpot accepts a wrong one, and the note is then on
    /// nobody's timeline (<https://github.com/HubSpot/hubspot-api-nodejs/issues/342>).
    association_type: u16,
    /// What is required beside body and time.
    required: &'static [(&'static str, &'static str)],
}

impl Kind {
    pub(super) fn of(object: HubSpotObject) -> &'static Self {
        match object {
            HubSpotObject::Communication => &Self {
                path: "communications",
                body: "hs_communication_body",
                association_type: 81,
                required: &[("hs_communication_channel_type", "SMS"), ("hs_communication_logged_from", "CRM")],
            },
            HubSpotObject::Note => &Self { path: "notes", body: "hs_note_body", association_type: 202, required: &[] },
        }
    }
}

/// What this process knows about writing notes by key.
#[derive(Default)]
pub(super) struct NotesByKey(Mutex<Known>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Nothing,
    /// The account has the unique property.
    Property,
    /// A note was upserted by it.
    Works,
    /// Notes are not written by key.
    No,
}

impl NotesByKey {
    fn get(&self) -> Known {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, known: Known) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

#[derive(Deserialize)]
struct Association {
    /// A text in dated versions of the API, a number in earlier ones.
    #[serde(rename = "toObjectId")]
    to: Value,
}

#[async_trait]
impl Notes for HubSpot {
    fn idempotency(&self) -> Idempotency {
        match self.notes_by_key.get() {
            Known::Property | Known::Works => Idempotency::ByKey,
            // The worker then expects less than it may get.
            Known::Nothing | Known::No => Idempotency::LookUp,
        }
    }

    async fn delete(&self, calls: &CallLog, remote_id: &str) -> Result<bool, HandlerError> {
        let path = format!("{}/{}", Kind::of(self.object).path, segment(remote_id).map_err(failed)?);
        match self.client.make(calls, Request::of_objects(Operation::LogNote, Method::DELETE, &path)).await {
            Ok(_) | Err(DestinationError::NotFound { .. }) => Ok(true),
            Err(error) => Err(failed(error)),
        }
    }

    async fn write(&self, attempt: &Attempt<'_>, person: &Person, part: &NotePart<'_>) -> Result<String, NoteError> {
        let log = attempt.calls;
        match part.remote_id {
            Some(id) => self.change_note(log, id, part).await,
            None if self.writes_by_key(log).await? => self.write_by_key(log, person, part).await,
            None => self.create_note(log, person, part).await,
        }
    }

    async fn find(
        &self,
        attempt: &Attempt<'_>,
        person: &Person,
        part: &NotePart<'_>,
    ) -> Result<Option<String>, NoteError> {
        let ids = self.notes_of(attempt.calls, person).await?;
        for ids in ids.chunks(BATCH) {
            let found = self.read_notes(attempt.calls, ids).await.map_err(failed)?;
            let body = Kind::of(self.object).body;
            let ours = found.into_iter().find(|note| note.get(body).is_some_and(|text| has_marker(text, part.key)));
            if let Some(note) = ours {
                return Ok(Some(note.id));
            }
        }
        Ok(None)
    }
}

impl HubSpot {
    async fn change_note(&self, log: &CallLog, id: &str, part: &NotePart<'_>) -> Result<String, NoteError> {
        let kind = Kind::of(self.object);
        let path = format!("{}/{}", kind.path, segment(id).map_err(failed)?);
        let mut tries = self.tries(part);
        let changed = loop {
            let request = Request::of_objects(Operation::LogNote, Method::PATCH, &path)
                .with_body(json!({ "properties": changes(kind, &tries.part) }))
                .hiding(texts(part));
            let changed = self.client.make(log, request).await;
            if tries.end_with(&changed) {
                break changed;
            }
        };
        match changed {
            Ok(_) => Ok(id.to_owned()),
            Err(DestinationError::NotFound { .. }) => Err(NoteError::NoteIsGone),
            Err(error) => Err(failed(error).into()),
        }
    }

    async fn create_note(&self, log: &CallLog, person: &Person, part: &NotePart<'_>) -> Result<String, NoteError> {
        let kind = Kind::of(self.object);
        let association = json!({
            "to": { "id": person.id.0 },
            "types": [{ "associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kind.association_type }],
        });
        let mut tries = self.tries(part);
        let created = loop {
            let request = Request::of_objects(Operation::LogNote, Method::POST, kind.path)
                .with_body(json!({ "properties": properties(kind, &tries.part), "associations": [&association] }))
                .hiding(texts(part));
            let created = self.client.record(log, request).await;
            if tries.end_with(&created) {
                break created;
            }
        };
        match created {
            Ok(Some(note)) => Ok(note.id),
            Ok(None) => {
                let error = DestinationError::NotFound { detail: String::new() };
                Err(self.gone_or(log, person, error).await)
            }
            Err(error) if is_refusal(&error) => Err(self.gone_or(log, person, error).await),
            Err(error) => Err(failed(error).into()),
        }
    }

    async fn write_by_key(&self, log: &CallLog, person: &Person, part: &NotePart<'_>) -> Result<String, NoteError> {
        let kind = Kind::of(self.object);
        let name = &self.properties.thread_key;
        let path = format!("{}/batch/upsert", kind.path);
        let mut tries = self.tries(part);
        let upserted = loop {
            let mut properties = properties(kind, &tries.part);
            properties[name.as_str()] = json!(part.key);
            let request = Request::of_objects(Operation::LogNote, Method::POST, &path)
                .with_body(json!({ "inputs": [{ "id": part.key, "idProperty": name, "properties": properties }] }))
                .hiding(texts(part));
            let upserted = self.client.write_one(log, request).await;
            if tries.end_with(&upserted) {
                break upserted;
            }
        };
        let note = match upserted {
            Ok(note) => note,
            Err(error) => return Err(self.key_refused(log, error).await.into()),
        };
        self.notes_by_key.set(Known::Works);
        let path = format!(
            "{}/{}/associations/default/contacts/{}",
            kind.path,
            segment(&note.id).map_err(failed)?,
            segment(&person.id.0).map_err(failed)?
        );
        match self.client.make(log, Request::of_objects(Operation::LogNote, Method::PUT, &path)).await {
            Ok(_) => Ok(note.id),
            Err(error) if is_refusal(&error) => Err(self.gone_or(log, person, error).await),
            Err(error) => Err(failed(error).into()),
        }
    }

    /// Decides what a refused upsert is about: the note, or writing by key, which is then given up. Nothing was written.
    async fn key_refused(&self, log: &CallLog, error: DestinationError) -> HandlerError {
        let is_refused = matches!(error.status(), Some(400 | 404 | 405));
        let is_over = is_refused
            && match self.notes_by_key.get() {
                Known::Works => matches!(self.key_property_is_there(log).await, Ok(false)),
                Known::Nothing | Known::Property | Known::No => true,
            };
        if !is_over {
            return failed(error);
        }
        tracing::warn!(detail = %error, "hubspot.no_upsert_of_notes: notes are created one by one, and looked for after an \
            unknown outcome");
        self.notes_by_key.set(Known::No);
        HandlerError::TryAgain {
            after: Duration::from_secs(1),
            destination: Destination::SystemOfRecord,
            why: "HubSpot refuses to write notes by key, so they are written the other way",
        }
    }

    /// Decides what a refused association is about. A contact that was merged may be answered under another id.
    async fn gone_or(&self, log: &CallLog, person: &Person, error: DestinationError) -> NoteError {
        let request = match self.get_contact(&person.id.0, &[]) {
            Ok(request) => request.in_class(OperationClass::ContactWrites),
            Err(error) => return failed(error).into(),
        };
        match self.contact(log, request).await {
            Ok(Some(contact)) if contact.id == person.id.0 => failed(error).into(),
            Ok(_) => NoteError::PersonIsGone,
            // HubSpot refused the note, so nothing is in doubt.
            Err(look_up) => not_made(look_up).into(),
        }
    }

    /// Whether new notes are written by key. Asks HubSpot once for each process.
    async fn writes_by_key(&self, log: &CallLog) -> Result<bool, HandlerError> {
        match self.notes_by_key.get() {
            Known::Property | Known::Works => return Ok(true),
            Known::No => return Ok(false),
            Known::Nothing => {}
        }
        let is_there = self.key_property_is_there(log).await.map_err(not_made)?;
        self.notes_by_key.set(if is_there { Known::Property } else { Known::No });
        Ok(is_there)
    }

    /// Returns the ids of the notes that are associated with a person, newest first.
    async fn notes_of(&self, log: &CallLog, person: &Person) -> Result<Vec<String>, NoteError> {
        let id = segment(&person.id.0).map_err(failed)?;
        let path = format!("contacts/{id}/associations/{}", Kind::of(self.object).path);
        let mut ids = Vec::new();
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let from = after.map(|after: String| format!("&after={}", crate::destinations::segment::encode(&after)));
            let query = format!("{path}?limit={PAGE}{}", from.unwrap_or_default());
            let page: Page<Association> =
                match self.client.make(log, Request::of_objects(Operation::FindNote, Method::GET, &query)).await {
                    Ok(answer) => answer.object().map_err(failed)?,
                    // A merge moves the notes to the other contact, so this says nothing about them.
                    Err(DestinationError::NotFound { .. }) => return Err(NoteError::PersonIsGone),
                    Err(error) => return Err(failed(error).into()),
                };
            after = page.next();
            ids.extend(page.results.iter().filter_map(|association| match &association.to {
                Value::String(id) => Some(id.clone()),
                Value::Number(id) => Some(id.to_string()),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
            }));
            if after.is_none() {
                break;
            }
        }
        ids.sort_by_key(|id| std::cmp::Reverse(id.parse::<u64>().unwrap_or(0)));
        Ok(ids)
    }

    async fn read_notes(&self, log: &CallLog, ids: &[String]) -> Result<Vec<Record>, DestinationError> {
        let kind = Kind::of(self.object);
        let inputs: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        let request = Request::of_objects(Operation::FindNote, Method::POST, &format!("{}/batch/read", kind.path))
            .with_body(json!({ "inputs": inputs, "properties": [kind.body] }));
        self.client.read_batch(log, request).await
    }
}

/// Returns the properties that each write sets. Without an owner, the note's present one stays.
fn changes(kind: &Kind, part: &NotePart<'_>) -> Value {
    let mut properties = json!({ kind.body: marked(part), "hs_timestamp": began(part).to_string() });
    if let Some(owner) = part.owner {
        properties[OWNER] = json!(owner);
    }
    properties
}

fn properties(kind: &Kind, part: &NotePart<'_>) -> Value {
    let mut properties = changes(kind, part);
    for (name, value) in kind.required {
        properties[*name] = json!(value);
    }
    properties
}

/// Returns the time of the thread's first message, so that a late delivery stands where it belongs.
fn began(part: &NotePart<'_>) -> Timestamp {
    part.thread.messages.iter().map(|message| message.occurred_at).min().unwrap_or(Timestamp::EPOCH)
}

/// Returns the note's text with its key as the last line. Comments and hidden elements of HTML would be less in the way,
/// but HubSpot need not keep them.
fn marked(part: &NotePart<'_>) -> String {
    format!("{}<br><br>{MARKER}{}", part.text, part.key)
}

const MARKER: &str = "ref ";

/// Whether a note's text carries this key. The key of a part begins with that of the first.
pub(super) fn has_marker(text: &str, key: &str) -> bool {
    let marker = format!("{MARKER}{key}");
    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
    text.match_indices(&marker).any(|(at, found)| !goes_on(&text[at + found.len()..]))
}

/// Returns whether a note carries any thread's key.
pub(super) fn is_ours(text: &str) -> bool {
    text.contains(&format!("{MARKER}thread_"))
}

/// Texts of a note that must not appear in an error.
fn texts(part: &NotePart<'_>) -> Vec<String> {
    let messages = part.thread.messages.iter();
    let texts =
        messages.flat_map(|message| [Some(message.body.clone()), message.author.clone(), message.author_email.clone()]);
    texts.flatten().collect()
}

/// The failure of a read before or after a write that was not made leaves nothing in doubt.
fn not_made(error: DestinationError) -> HandlerError {
    if error.may_have_taken_effect() {
        return HandlerError::TryAgain {
            after: Duration::from_secs(5),
            destination: Destination::SystemOfRecord,
            why: "HubSpot does not answer what has to be known about this note",
        };
    }
    failed(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_from_one_that_begins_like_it() {
        for (text, expected) in [
            ("Hello<br><br>ref thread_ab12", true),
            ("<p>Hello</p><p>ref thread_ab12</p>", true),
            ("Hello<br><br>ref thread_ab12-2", false),
            ("Hello<br><br>ref thread_ab12_1", false),
            ("Hello<br><br>ref thread_ab123", false),
            ("ref thread_ab12-2<br>ref thread_ab12", true),
            ("thread_ab12", false),
        ] {
            assert_eq!(has_marker(text, "thread_ab12"), expected, "{text}");
        }
    }

    #[test]
    fn a_note_goes_to_a_contacts_timeline() {
        // The ids of the vendor's table of association types.
        assert_eq!(Kind::of(HubSpotObject::Communication).association_type, 81);
        assert_eq!(Kind::of(HubSpotObject::Note).association_type, 202);
    }
}
