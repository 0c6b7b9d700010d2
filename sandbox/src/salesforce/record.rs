//! Records as the org keeps them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::object::SalesforceObject;

/// Values by name. A field without a value is absent.
pub(crate) type Fields = BTreeMap<String, Value>;

/// A record, for a test to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct SalesforceRecord {
    pub id: String,
    pub object: SalesforceObject,
    /// Those with a value, by the name that the org gives them.
    pub fields: BTreeMap<String, Value>,
    /// How often the record was changed after it had been created, by a client or by hand.
    pub changes: usize,
}

impl SalesforceRecord {
    /// Returns the value of a text, a date or an id, or an empty text.
    #[must_use]
    pub fn get(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns whether a checkbox is checked.
    #[must_use]
    pub fn is_checked(&self, field: &str) -> bool {
        self.fields.get(field).and_then(Value::as_bool).unwrap_or_default()
    }

    /// Returns the id of the contact or lead of a task, or an empty text.
    #[must_use]
    pub fn who(&self) -> &str {
        self.get("WhoId")
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) object: SalesforceObject,
    pub(crate) fields: Fields,
    pub(crate) created_at: Timestamp,
    pub(crate) modified_at: Timestamp,
    pub(crate) author: String,
    /// When a client last changed the record; `None` if it is in the search index anyway.
    pub(crate) changed: Option<Instant>,
    /// What the search index knows while it lags behind; `None` for a record that it doesn't know yet.
    pub(crate) indexed: Option<Fields>,
    pub(crate) deleted: bool,
    pub(crate) changes: usize,
}

impl Record {
    /// Returns the fields as the search index has them, if it has the record at all.
    pub(crate) fn in_index(&self, lag: Duration) -> Option<&Fields> {
        let is_current = self.changed.is_none_or(|changed| changed.elapsed() >= lag);
        if is_current { Some(&self.fields) } else { self.indexed.as_ref() }
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the value of a reference, computed ones included, or an empty text.
    pub(crate) fn text_of(&self, reference: &str) -> String {
        self.value(reference).as_str().unwrap_or_default().to_owned()
    }

    /// Returns a field's value as the API answers it, computed ones included. The name is the one of the schema.
    pub(crate) fn value(&self, field: &str) -> Value {
        match field {
            "Id" => json!(self.id),
            "IsDeleted" => json!(self.deleted),
            "CreatedDate" => json!(date_time(self.created_at)),
            "LastModifiedDate" | "SystemModstamp" => json!(date_time(self.modified_at)),
            "CreatedById" | "LastModifiedById" => json!(self.author),
            "IsClosed" if self.object == SalesforceObject::Task => json!(self.text("Status") == "Completed"),
            "IsHighPriority" => json!(self.text("Priority") == "High"),
            "Name" if self.object != SalesforceObject::RecordType => json!(self.name()),
            field => self.fields.get(field).cloned().unwrap_or(Value::Null),
        }
    }

    fn name(&self) -> String {
        format!("{} {}", self.text("FirstName"), self.text("LastName")).trim().to_owned()
    }

    pub(crate) fn seen_by_tests(&self) -> SalesforceRecord {
        let fields = self.fields.clone();
        SalesforceRecord { id: self.id.clone(), object: self.object, fields, changes: self.changes }
    }
}

/// Formats a time as the API answers it, for example `2026-11-02T15:04:05.000+0000`. Fractions of a second aren't kept.
pub(crate) fn date_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string()
}
