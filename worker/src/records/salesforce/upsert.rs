//! Creates people and completes them
//! (<https://developer.salesforce.com/docs/platform/api-rest/guide/dome-upsert.html>). A person is upserted by an external
//! id, and what a record has already stays.

use std::time::Duration;

use hookline_common::names::{Destination, Operation};
use hookline_common::settings::SalesforceObject;
use hookline_store::model::PersonFacts;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::client::Request;
use super::errors::failed;
use super::people::{ambiguous, changes_too_fast};
use super::person::{contact_id_of, is_key_of_phone, key_of_phone, keys_of_contact, object_name, slug};
use super::set_up::Verdict;
use super::soql::{Record, long_id, object_of};
use super::{Failure, Salesforce};
use crate::calls::http::unreadable;
use crate::calls::log::CallLog;
use crate::delivery::handler::HandlerError;
use crate::destinations::error::DestinationError;
use crate::records::{Person, PersonId, Upserted};

/// The answer to a write that creates or changes a record by a key.
#[derive(Deserialize)]
pub(super) struct Written {
    pub(super) id: String,
    #[serde(default)]
    success: Option<bool>,
    /// Whether an upsert created the record.
    #[serde(default)]
    pub(super) created: Option<bool>,
}

impl Written {
    /// Returns the id of the record that was written.
    pub(super) fn record_id(&self) -> Option<String> {
        long_id(&self.id).filter(|_| self.success != Some(false))
    }
}

impl Salesforce {
    /// Creates the person or completes the one who is there. What the record has already stays.
    pub(super) async fn upsert(&self, log: &CallLog, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        match self.same_person(log, facts).await? {
            Some(person) => self.complete(log, person, facts).await,
            None => self.create(log, facts).await,
        }
    }

    /// Returns the person whom these facts describe: the one with this contact id, else the one with one of the phones
    /// and no other contact id.
    async fn same_person(&self, log: &CallLog, facts: &PersonFacts) -> Result<Option<Record>, HandlerError> {
        let mut keys = facts.contact_id.as_deref().map(keys_of_contact).unwrap_or_default();
        keys.extend(facts.phones.iter().map(key_of_phone));
        if let Some(person) = self.by_keys(log, &keys).await? {
            return Ok(Some(person));
        }
        for phone in &facts.phones {
            // Somebody who was created just now is not in the index yet, but is linked.
            let linked = self.linked(log, phone, &[]).await?;
            if let Some(person) = linked.filter(|person| self.is_free(person, facts)) {
                return Ok(Some(person));
            }
            let mut found = self.by_phone(log, phone).await?;
            found.retain(|person| self.is_free(person, facts));
            let first = found.iter().map(|person| self.place_of(&person.id)).min();
            found.retain(|person| Some(self.place_of(&person.id)) == first);
            match found.len() {
                0 => {}
                1 => return Ok(found.pop()),
                _ => {
                    let ids = found.iter().map(|person| person.id.clone()).collect::<Vec<_>>();
                    return Err(ambiguous(format!("several people of Salesforce share this phone: {}", shown(&ids))));
                }
            }
        }
        Ok(None)
    }

    /// Whether the person has no contact id, or none is known here.
    fn is_free(&self, person: &Record, facts: &PersonFacts) -> bool {
        let key = person.get(&self.fields.person_key);
        facts.contact_id.is_none() || key.is_none_or(is_key_of_phone)
    }

    async fn create(&self, log: &CallLog, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        let key = facts.contact_id.as_deref().map(slug).map(str::to_owned);
        let (Some(key), Some(object)) =
            (key.or_else(|| facts.phones.first().map(key_of_phone)), self.objects.first().copied())
        else {
            let detail = "a person without a contact id and a phone cannot be created".to_owned();
            return Err(failed(DestinationError::Rejected { status: 0, detail }));
        };
        let (name, field) = (object_name(object), &self.fields.person_key);
        let mut fields = self.new_person(object, facts, &key)?;
        fields.remove(field.as_str());
        let request = if is_path_safe(&key) {
            Request::new(Operation::UpsertPerson, Method::PATCH, format!("sobjects/{name}/{field}/{key}"))
        } else {
            // The field is unique, so a repeat is refused and makes no second person.
            fields.insert(field.clone(), json!(key));
            Request::new(Operation::UpsertPerson, Method::POST, format!("sobjects/{name}"))
        };
        let began = self.client.gate().now_ms();
        let failure = match self.client.make(log, request.with_body(fields).hiding(facts.name.clone())).await {
            Ok(answer) => {
                let written: Written = answer.object().map_err(failed)?;
                return self.created(object, facts, &key, &written);
            }
            Err(failure) => failure,
        };
        if failure.is("DUPLICATES_DETECTED") {
            return self.use_duplicate(log, facts, &failure).await;
        }
        if failure.is("DUPLICATE_VALUE") {
            return Err(HandlerError::TryAgain {
                after: Duration::from_secs(1),
                destination: Destination::SystemOfRecord,
                why: "somebody else created this person of Salesforce meanwhile",
            });
        }
        match self.of_set_up(log, began, &[name], failure).await {
            Verdict::Again => Err(changes_too_fast()),
            Verdict::Failed(failure) => Err(failure.into()),
        }
    }

    fn created(
        &self,
        object: SalesforceObject,
        facts: &PersonFacts,
        key: &str,
        written: &Written,
    ) -> Result<Upserted, HandlerError> {
        let id = written.record_id();
        let id = id.ok_or_else(|| failed(unreadable("it names no record that was written")))?;
        let most = self.phone_fields(object).len();
        let person = Person {
            id: PersonId(id),
            contact_id: contact_id_of(key),
            phones: facts.phones.iter().take(most).cloned().collect(),
            name: facts.name.clone(),
            has_owner: false,
            created_at: None,
        };
        Ok(Upserted { person, created: written.created.unwrap_or(true), changed: true })
    }

    /// Takes the one person whom the org's duplicate rules found in place of a new one.
    async fn use_duplicate(
        &self,
        log: &CallLog,
        facts: &PersonFacts,
        failure: &Failure,
    ) -> Result<Upserted, HandlerError> {
        let ids = failure.duplicates();
        let [id] = ids.as_slice() else {
            let whom = if ids.is_empty() { "records that it does not name".to_owned() } else { shown(&ids) };
            return Err(ambiguous(format!(
                "a duplicate rule of Salesforce takes the new person for one of several: {whom}"
            )));
        };
        let person = match long_id(id) {
            Some(id) => self.by_id(log, &id).await?,
            None => None,
        };
        match person {
            Some(person) if self.is_free(&person, facts) => self.complete(log, person, facts).await,
            Some(_) => Err(ambiguous(format!(
                "a duplicate rule of Salesforce takes the new person for {}, who is another contact of TextUs",
                shown(&ids)
            ))),
            None => Err(ambiguous(format!(
                "a duplicate rule of Salesforce takes the new person for {}, which is no contact or lead that Hookline can \
                 read",
                shown(&ids)
            ))),
        }
    }

    async fn complete(&self, log: &CallLog, mut person: Record, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        let news = self.news(&person, facts);
        if news.is_empty() {
            return Ok(Upserted { person: self.person(&person), created: false, changed: false });
        }
        let object = object_of(&person.id).map(object_name).unwrap_or_default();
        let request = Request::new(Operation::UpsertPerson, Method::PATCH, format!("sobjects/{object}/{}", person.id))
            .with_body(news.clone())
            .hiding(facts.name.clone())
            .allowing_duplicates();
        let began = self.client.gate().now_ms();
        let failure = match self.client.make(log, request).await {
            Ok(_) => {
                news.into_iter().for_each(|(field, value)| person.set(field, value));
                return Ok(Upserted { person: self.person(&person), created: false, changed: true });
            }
            Err(failure) => failure,
        };
        // The next attempt finds whoever has the key or the number by then.
        let is_over = ["DUPLICATE_VALUE", "CANNOT_UPDATE_CONVERTED_LEAD"].iter().any(|code| failure.is(code));
        if is_over || matches!(failure.error, DestinationError::NotFound { .. }) {
            return Err(HandlerError::TryAgain {
                after: Duration::from_secs(1),
                destination: Destination::SystemOfRecord,
                why: "the person was merged, deleted, converted or linked in Salesforce meanwhile",
            });
        }
        match self.of_set_up(log, began, &[object], failure).await {
            Verdict::Again => Err(changes_too_fast()),
            Verdict::Failed(failure) => Err(failure.into()),
        }
    }
}

/// Whether a key can stand in a path as it is. A dot could make a file name of it, which is answered 404.
fn is_path_safe(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn shown(ids: &[String]) -> String {
    const MOST_SHOWN: usize = 8;
    ids.iter().take(MOST_SHOWN).cloned().collect::<Vec<_>>().join(", ")
}
