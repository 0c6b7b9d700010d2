//! Notes as completed Tasks on the timeline of a contact or a lead
//! (<https://developer.salesforce.com/docs/platform/object-reference/references/standard-objects/object-task.html>).
//!
//! A Task is upserted by an external id, with text, person and owner in one call. So a call without an answer is simply
//! made again. Two upserts of one new key at the same moment are refused with `DUPLICATE_VALUE`
//! (<https://salesforce.stackexchange.com/questions/197382>), and the repeat changes what is there by then.

use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::{Destination, Operation};
use hookline_common::phone::Phone;
use reqwest::Method;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::client::Request;
use super::errors::{failed, not_made};
use super::people::Now;
use super::set_up::{TASK, Verdict};
use super::soql::{long_id, object_of};
use super::upsert::Written;
use super::{Failure, Salesforce};
use crate::calls::http::unreadable;
use crate::calls::log::CallLog;
use crate::delivery::handler::{Attempt, HandlerError};
use crate::destinations::error::DestinationError;
use crate::records::{Idempotency, NoteError, NotePart, Notes, Person};

/// Most UTF-16 units of a note. `Description` takes 32,000, but the vendor counts bytes of the encoded text in some fields
/// (<https://help.salesforce.com/s/articleView?id=000382141&type=1>), and a character has up to three.
pub(in crate::records) const LIMIT: usize = 10_000;
/// Most times that one note is sent within an attempt, each time for another reason.
const MOST_SENT: usize = 6;

/// What one upsert of a Task says.
struct Task<'a> {
    person: String,
    owner: Option<&'a str>,
    status: String,
    was_repeated: bool,
}

#[async_trait]
impl Notes for Salesforce {
    fn idempotency(&self) -> Idempotency {
        Idempotency::ByKey
    }

    async fn delete(&self, calls: &CallLog, remote_id: &str) -> Result<bool, HandlerError> {
        let Some(id) = long_id(remote_id) else { return Ok(false) };
        let request = Request::new(Operation::LogNote, Method::DELETE, format!("sobjects/{TASK}/{id}"));
        match self.client.make(calls, request).await {
            Ok(_) | Err(Failure { error: DestinationError::NotFound { .. }, .. }) => Ok(true),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn write(&self, attempt: &Attempt<'_>, person: &Person, part: &NotePart<'_>) -> Result<String, NoteError> {
        let log = attempt.calls;
        let status = self.done_status(log).await?;
        let mut task = Task { person: person.id.0.clone(), owner: part.owner, status, was_repeated: false };
        for _ in 0..MOST_SENT {
            if object_of(&task.person).is_none() || long_id(&task.person).is_none() {
                let detail = "this person's id is none of a contact or a lead of Salesforce".to_owned();
                return Err(failed(DestinationError::Rejected { status: 0, detail }).into());
            }
            let began = self.client.gate().now_ms();
            let failure = match self.upsert_task(log, &task, part).await {
                Ok(id) => return Ok(id),
                Err(failure) => failure,
            };
            self.mend(log, began, (&mut task, part), failure).await?;
        }
        Err(try_again("Salesforce refuses this note for one reason after the other").into())
    }
}

impl Salesforce {
    async fn upsert_task(&self, log: &CallLog, task: &Task<'_>, part: &NotePart<'_>) -> Result<String, Failure> {
        let path = format!("sobjects/{TASK}/{}/{}", self.fields.task_key, key(part.key));
        let request = Request::new(Operation::LogNote, Method::PATCH, path.clone())
            .with_body(fields(task, part))
            .hiding(texts(part));
        let answer = self.client.make(log, request).await?;
        let id = if answer.is_empty() {
            // 204, as earlier versions answer a change.
            let request = Request::new(Operation::FindNote, Method::GET, format!("{path}?fields=Id"));
            self.client.record(log, request).await?.map(|task| task.id)
        } else {
            answer.object::<Written>()?.record_id()
        };
        id.ok_or_else(|| unreadable("it names no task that was written").into())
    }

    /// Changes what is sent so that it may be taken, where a failure says how.
    async fn mend(
        &self,
        log: &CallLog,
        began: i64,
        (task, part): (&mut Task<'_>, &NotePart<'_>),
        failure: Failure,
    ) -> Result<(), NoteError> {
        if failure.is("DUPLICATE_VALUE") {
            if task.was_repeated {
                return Err(try_again("another writer of this note is faster again and again").into());
            }
            task.was_repeated = true;
            return Ok(());
        }
        if failure.may_be_of_person() {
            match self.now(log, &task.person).await.map_err(|failure| failed(not_made(failure.error)))? {
                Now::Gone => return Err(NoteError::PersonIsGone),
                Now::Moved(other) => {
                    self.link_anew(&task.person, &other, part).await?;
                    task.person = other;
                    return Ok(());
                }
                Now::Same => {}
            }
        }
        if failure.may_be_of_owner()
            && let Some(owner) = task.owner.take()
        {
            tracing::warn!(owner, thread_id = %part.thread.thread_id, detail = %failure.error, "salesforce.owner_refused: the note \
                is written without this owner");
            return Ok(());
        }
        if failure.may_be_of_status() {
            if let Some(other) = self.other_done_status(log, &task.status).await? {
                task.status = other;
                return Ok(());
            }
            // Each note would be refused.
            let problem =
                format!("Task has no status {:?}, and Hookline's user sees no other one that is closed", task.status);
            return Err(failed(self.stop(began, &problem)).into());
        }
        match self.of_set_up(log, began, &[TASK], failure).await {
            Verdict::Again => Err(try_again("Salesforce's set-up is being changed").into()),
            Verdict::Failed(failure) => Err(failure.into()),
        }
    }

    /// Links the thread's contact and number with the record that a person was merged or converted into.
    async fn link_anew(&self, before: &str, now: &str, part: &NotePart<'_>) -> Result<(), HandlerError> {
        let thread = part.thread;
        let phone = thread.phone.as_deref().and_then(Phone::parse);
        self.store.unlink_person(&self.name, before).await?;
        Ok(self.store.link_person(&self.name, thread.contact_id.as_deref(), phone.as_ref(), now).await?)
    }
}

fn try_again(why: &'static str) -> HandlerError {
    HandlerError::TryAgain { after: Duration::from_secs(2), destination: Destination::SystemOfRecord, why }
}

fn fields(task: &Task<'_>, part: &NotePart<'_>) -> Map<String, Value> {
    let mut fields = Map::from_iter([
        ("Subject".to_owned(), json!(subject(part))),
        ("Description".to_owned(), json!(printable(part.text))),
        ("ActivityDate".to_owned(), json!(part.thread.day)),
        ("Status".to_owned(), json!(task.status)),
        ("WhoId".to_owned(), json!(task.person)),
    ]);
    if let Some(owner) = task.owner {
        fields.insert("OwnerId".to_owned(), json!(owner));
    }
    fields
}

/// Returns the line by which a timeline shows the note.
fn subject(part: &NotePart<'_>) -> String {
    let thread = part.thread;
    let with = thread.phone.as_ref().map(|phone| format!(" with {phone}")).unwrap_or_default();
    let number = part.key.strip_prefix(&thread.thread_id).and_then(|rest| rest.strip_prefix('-'));
    let number = number.map(|number| format!(", part {number}")).unwrap_or_default();
    format!("Texts{with} on {}{number}", thread.day)
}

/// Returns the text without characters that a text field does not take.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Returns a key for a path: letters, digits and `-` only, all in lower case, since a field may ignore case
/// (<https://developer.salesforce.com/docs/platform/api-rest/guide/dome-upsert.html>).
fn key(key: &str) -> String {
    // The number of a later thread must not look like that of a part: `thread_ab_2` and `thread_ab-2` are two notes.
    let key = key.replacen("thread_", "thread-", 1).replace('_', "--");
    let is_safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if key.bytes().all(is_safe) && (1..=100).contains(&key.len()) {
        return key;
    }
    let hash: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("key-{hash}")
}

/// Texts of a note that must not appear in an error.
fn texts(part: &NotePart<'_>) -> Vec<String> {
    let messages = part.thread.messages.iter();
    messages
        .flat_map(|message| [Some(message.body.clone()), message.author.clone(), message.author_email.clone()])
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_safe_in_a_path_and_in_any_case() {
        assert_eq!(key("thread_00ab-2"), "thread-00ab-2");
        assert_ne!(key("thread_00ab_2"), key("thread_00ab-2"));
        for (one, other) in [("AbC", "aBc"), ("a.inc", "a_inc"), ("a/b", "a-b"), ("é", "e")] {
            assert_ne!(key(one), key(other));
            for made in [key(one), key(other)] {
                assert!(made.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{made}");
                assert_eq!(made, made.to_lowercase());
            }
        }
    }

    #[test]
    fn characters_that_no_field_takes_are_left_out() {
        assert_eq!(printable("a\u{0}b\u{b}c\r\n\td é 😀"), "abc\n\td é 😀");
    }
}
