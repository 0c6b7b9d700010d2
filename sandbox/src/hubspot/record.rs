//! Contacts, communications and notes as the account keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::object::HubSpotObject;
use super::schema::times_of;

/// Values by name. A property without a value is absent.
pub(crate) type Properties = BTreeMap<String, String>;

/// A contact, communication or note, for a test to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSpotRecord {
    pub id: String,
    /// Those with a value, computed ones included.
    pub properties: BTreeMap<String, String>,
    /// The ids of the contacts on whose timelines a communication or a note stands. For a contact there are none.
    pub contacts: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl HubSpotRecord {
    /// Returns the value of a property, or an empty text.
    #[must_use]
    pub fn get(&self, property: &str) -> &str {
        self.properties.get(property).map_or("", String::as_str)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) object: HubSpotObject,
    /// What was written, and for a contact the computed numbers.
    pub(crate) properties: Properties,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    /// When a client last changed the record; `None` if it is in the search index anyway.
    pub(crate) changed: Option<Instant>,
    pub(crate) archived: bool,
    /// The contact that this one was merged into.
    pub(crate) merged_into: Option<u64>,
    pub(crate) contacts: BTreeSet<u64>,
    /// Whether the record was ever associated with a contact in the right way.
    pub(crate) was_associated: bool,
}

impl Record {
    pub(crate) fn is_indexed(&self, lag: Duration) -> bool {
        self.changed.is_none_or(|changed| changed.elapsed() >= lag)
    }

    /// Marks the record as changed by a client now.
    pub(crate) fn touch(&mut self) {
        self.updated_at = now();
        self.changed = Some(Instant::now());
    }

    /// Returns a property's value, that of the record's own id and times included.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let [created, updated] = times_of(self.object);
        match name {
            "hs_object_id" => Some(self.id.to_string()),
            name if name == created => Some(self.created_at.to_string()),
            name if name == updated => Some(self.updated_at.to_string()),
            name => self.properties.get(name).cloned(),
        }
    }

    /// Returns the record as the API answers it, with its own id and times, and with these properties or all.
    pub(crate) fn body(&self, asked: Option<&[String]>) -> Value {
        let [created, updated] = times_of(self.object);
        let always = ["hs_object_id", created, updated].map(str::to_owned);
        let written: Vec<String> = self.properties.keys().cloned().collect();
        let names = asked.unwrap_or(&written).iter().chain(&always);
        let properties: BTreeMap<&String, Value> =
            names.map(|name| (name, self.value(name).map_or(Value::Null, Value::String))).collect();
        json!({
            "id": self.id.to_string(),
            "properties": properties,
            "createdAt": self.created_at.to_string(),
            "updatedAt": self.updated_at.to_string(),
            "archived": self.archived,
        })
    }

    pub(crate) fn seen_by_tests(&self) -> HubSpotRecord {
        HubSpotRecord {
            id: self.id.to_string(),
            properties: self.properties.clone(),
            contacts: self.contacts.iter().map(ToString::to_string).collect(),
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// Returns the time in whole milliseconds, as the API answers it.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
