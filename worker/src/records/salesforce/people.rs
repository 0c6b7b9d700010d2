//! Finds people among contacts and leads
//! (<https://developer.salesforce.com/docs/platform/api-rest/guide/dome-search.md>).
//!
//! A query by the external id or by the usual ways to write a number is exact and sees what was written a moment ago. A
//! search finds a number however it was written, minutes later. Whoever is found is compared in full E.164.

use std::time::Duration;

use hookline_common::names::{DeadReason, Destination, Operation};
use hookline_common::phone::Phone;
use hookline_common::settings::SalesforceObject;
use reqwest::Method;

use super::client::Request;
use super::person::{is_key_of_phone, keys_of_contact, numbers, object_name};
use super::set_up::Verdict;
use super::soql::{self, Record, long_id, object_of};
use super::{Failure, Salesforce};
use crate::calls::log::CallLog;
use crate::delivery::handler::HandlerError;
use crate::destinations::segment::encode;

/// Salesforce's most results of one search.
const MOST_FOUND: usize = 2_000;
/// Most records that are followed from one to the next, merged or converted.
const MOST_MOVES: usize = 5;

/// What became of a record.
pub(super) enum Now {
    /// The record is there.
    Same,
    /// The record was merged into another one, or its lead was converted.
    Moved(String),
    Gone,
}

impl Salesforce {
    /// Returns the person with this contact id or, if there is none, all with this phone.
    pub(super) async fn find(
        &self,
        log: &CallLog,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<Record>, HandlerError> {
        if let Some(contact_id) = contact_id
            && let Some(person) = self.by_keys(log, &keys_of_contact(contact_id)).await?
        {
            return Ok(vec![person]);
        }
        let Some(phone) = phone else { return Ok(Vec::new()) };
        let mut found = self.by_phone(log, phone).await?;
        found.extend(self.linked(log, phone, &found).await?);
        Ok(found)
    }

    /// Returns the person whose key field has one of these values: the first value first, and the first object first.
    /// Keys of numbers come last.
    pub(super) async fn by_keys(&self, log: &CallLog, keys: &[String]) -> Result<Option<Record>, HandlerError> {
        if keys.is_empty() {
            return Ok(None);
        }
        let field = &self.fields.person_key;
        let mut by_number = None;
        for object in &self.objects {
            let found = self.people(log, *object, || soql::is_one_of(field, keys)).await?;
            // A field that ignores case would make one person of two.
            let differs = |record: &Record| {
                let value = record.get(field).unwrap_or_default();
                !keys.iter().any(|key| key == value) && keys.iter().any(|key| key.eq_ignore_ascii_case(value))
            };
            if found.iter().any(differs)
                && let Some(held) = self.check_set_up(log, &[object_name(*object)]).await?
            {
                return Err(held.into());
            }
            for key in keys {
                let Some(person) = found.iter().find(|record| record.get(field) == Some(key)) else { continue };
                match self.unconverted(log, person.clone()).await? {
                    // A contact id is worth more than a number, whichever object has it.
                    Some(person) if is_key_of_phone(key) => by_number = by_number.or(Some(person)),
                    Some(person) => return Ok(Some(person)),
                    None => {}
                }
            }
        }
        Ok(by_number)
    }

    pub(super) async fn by_phone(&self, log: &CallLog, phone: &Phone) -> Result<Vec<Record>, HandlerError> {
        let mut found: Vec<Record> = Vec::new();
        let forms = soql::forms(phone);
        for object in &self.objects {
            let conditions = || match object {
                SalesforceObject::Contact => self.has_number(*object, &forms),
                SalesforceObject::Lead => format!("({}) AND IsConverted = false", self.has_number(*object, &forms)),
            };
            add(&mut found, self.people(log, *object, conditions).await?);
        }
        add(&mut found, self.search(log, phone).await?);
        found.retain(|record| numbers(record).contains(phone) && !record.is_set("IsConverted"));
        Ok(found)
    }

    async fn search(&self, log: &CallLog, phone: &Phone) -> Result<Vec<Record>, HandlerError> {
        for _ in 0..2 {
            let returned: Vec<String> = self
                .objects
                .iter()
                .map(|object| {
                    let fields = self.person_fields(*object).join(", ");
                    match object {
                        SalesforceObject::Contact => format!("Contact({fields})"),
                        SalesforceObject::Lead => format!("Lead({fields} WHERE IsConverted = false)"),
                    }
                })
                .collect();
            let term = soql::search_term(phone);
            let sosl = format!("FIND {{{term}}} IN PHONE FIELDS RETURNING {}", returned.join(", "));
            let request = Request::new(Operation::FindPerson, Method::GET, format!("search/?q={}", encode(&sosl)))
                .shown_as("search/?q=FIND …");
            let began = self.client.gate().now_ms();
            let failure = match self.client.search(log, request).await {
                Ok(found) if found.len() >= MOST_FOUND => return Err(too_many()),
                Ok(found) => return Ok(found),
                Err(failure) => failure,
            };
            let objects: Vec<&str> = self.objects.iter().map(|object| object_name(*object)).collect();
            match self.of_set_up(log, began, &objects, failure).await {
                Verdict::Again => {}
                Verdict::Failed(failure) => return Err(failure.into()),
            }
        }
        Err(changes_too_fast())
    }

    /// Returns the people of one object for whom these conditions hold, which may name the fields for numbers.
    async fn people(
        &self,
        log: &CallLog,
        object: SalesforceObject,
        conditions: impl Fn() -> String,
    ) -> Result<Vec<Record>, HandlerError> {
        for _ in 0..2 {
            let (name, fields) = (object_name(object), self.person_fields(object));
            let began = self.client.gate().now_ms();
            let request = soql::query(Operation::FindPerson, &fields, name, &conditions());
            let failure = match self.client.query(log, request).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => return Err(too_many()),
                Err(failure) => failure,
            };
            match self.of_set_up(log, began, &[name], failure).await {
                Verdict::Again => {}
                Verdict::Failed(failure) => return Err(failure.into()),
            }
        }
        Err(changes_too_fast())
    }

    /// Returns the person who was linked with a number, unless they are known already. The index may not have them yet,
    /// and somebody whose fields are all taken has no place for another number.
    pub(super) async fn linked(
        &self,
        log: &CallLog,
        phone: &Phone,
        known: &[Record],
    ) -> Result<Option<Record>, HandlerError> {
        let linked = self.store.linked_person(&self.name, None, Some(phone)).await?;
        let Some(id) = linked.filter(|id| known.iter().all(|record| record.id != *id)) else { return Ok(None) };
        let person = self.by_id(log, &id).await?;
        let is_known = |record: &Record| known.iter().any(|other| other.id == record.id);
        Ok(person.filter(|record| !is_known(record) && self.may_have(record, phone)))
    }

    /// Returns the person with this id, or the one whom they were merged or converted into.
    pub(super) async fn by_id(&self, log: &CallLog, id: &str) -> Result<Option<Record>, HandlerError> {
        let mut id = id.to_owned();
        for _ in 0..MOST_MOVES {
            let Some(object) = self.object_of(&id) else { return Ok(None) };
            let found = self.people(log, object, || format!("Id = {}", soql::literal(&id))).await?;
            if let Some(record) = found.into_iter().next().filter(|record| !record.is_set("IsConverted")) {
                return Ok(Some(record));
            }
            match self.now(log, &id).await? {
                Now::Same | Now::Gone => return Ok(None),
                Now::Moved(other) => id = other,
            }
        }
        Ok(None)
    }

    /// Returns the contact whom a lead was converted into. A record that is no converted lead is returned itself.
    async fn unconverted(&self, log: &CallLog, record: Record) -> Result<Option<Record>, HandlerError> {
        if !record.is_set("IsConverted") {
            return Ok(Some(record));
        }
        match record.get("ConvertedContactId").and_then(long_id) {
            Some(id) => self.by_id(log, &id).await,
            None => Ok(None),
        }
    }

    /// Returns the object of a person, if people are looked for there.
    pub(super) fn object_of(&self, id: &str) -> Option<SalesforceObject> {
        object_of(id).filter(|object| self.objects.contains(object))
    }

    /// Finds out what became of a person whose id Salesforce does not take.
    pub(super) async fn now(&self, log: &CallLog, id: &str) -> Result<Now, Failure> {
        let Some(object) = object_of(id) else { return Ok(Now::Gone) };
        let mut fields = vec!["Id", "IsDeleted", "MasterRecordId"];
        if object == SalesforceObject::Lead {
            fields.extend(["IsConverted", "ConvertedContactId"]);
        }
        let condition = format!("Id = {}", soql::literal(id));
        let request = soql::query_all(Operation::FindPerson, &fields, object_name(object), &condition);
        let found = match self.client.query(log, request).await {
            Ok(found) => found.unwrap_or_default(),
            // Whoever may not see deleted records is told by a plain query at least who is there.
            Err(failure) if failure.is_refusal() => {
                let request = soql::query(Operation::FindPerson, &["Id"], object_name(object), &condition);
                self.client.query(log, request).await?.unwrap_or_default()
            }
            Err(failure) => return Err(failure),
        };
        let Some(record) = found.first() else { return Ok(Now::Gone) };
        let moved = record.get("MasterRecordId").or(record.get("ConvertedContactId")).and_then(long_id);
        Ok(match moved.filter(|other| other != id) {
            Some(other) if self.object_of(&other).is_some() => Now::Moved(other),
            Some(_) => Now::Gone,
            None if record.is_set("IsDeleted") || record.is_set("IsConverted") => Now::Gone,
            None => Now::Same,
        })
    }

    /// Returns the place of a person's object in the order of the configuration.
    pub(super) fn place_of(&self, id: &str) -> usize {
        let object = object_of(id);
        self.objects.iter().position(|other| Some(*other) == object).unwrap_or(self.objects.len())
    }
}

/// Adds the records that are not there yet.
fn add(found: &mut Vec<Record>, more: Vec<Record>) {
    for record in more {
        if found.iter().all(|other| other.id != record.id) {
            found.push(record);
        }
    }
}

pub(super) fn ambiguous(detail: String) -> HandlerError {
    HandlerError::GiveUp {
        reason: DeadReason::AmbiguousContact,
        destination: Some(Destination::SystemOfRecord),
        status: None,
        detail,
    }
}

fn too_many() -> HandlerError {
    ambiguous("more people of Salesforce than can be read share this phone".to_owned())
}

/// The set-up was looked at and is good, yet the call was refused for it.
pub(super) fn changes_too_fast() -> HandlerError {
    HandlerError::TryAgain {
        after: Duration::from_secs(30),
        destination: Destination::SystemOfRecord,
        why: "Salesforce's set-up is being changed",
    }
}
