//! The org that the stand-in serves: its users and records, their fields, and what an administrator has set up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::limits::Limits;
use super::object::SalesforceObject;
use super::options::SalesforceOptions;
use super::record::{Fields, Record};
use super::rules::{DuplicateRule, ValidationRule};
use super::schema::{Field, Kind, Schema};
use super::token::Tokens;
use super::{ids, standard};

#[derive(Debug)]
pub(crate) struct Org {
    pub(crate) options: SalesforceOptions,
    /// The stand-in's own address, as a URL without a slash at the end.
    pub(crate) base_url: String,
    schemas: BTreeMap<SalesforceObject, Schema>,
    /// By id, and so by kind and age.
    records: BTreeMap<String, Record>,
    /// The ids of the records that have a value of a key field: its kind, the field, and the value in lower case.
    keys: HashMap<(SalesforceObject, String, String), BTreeSet<String>>,
    last_number: u64,
    /// Until when writes hold the rows that they have locked, by id.
    locks: HashMap<String, Instant>,
    pub(crate) tokens: Tokens,
    pub(crate) limits: Limits,
    /// What is left of each query that has further pages.
    pub(crate) cursors: HashMap<String, Vec<Value>>,
    pub(crate) duplicate_rules: Vec<DuplicateRule>,
    pub(crate) validation_rules: Vec<ValidationRule>,
    /// How many of the next upserts of a fresh key lose to another writer.
    pub(crate) races: usize,
    /// The id of the user as whom the app acts.
    pub(crate) run_as: String,
}

impl Org {
    pub(crate) fn new(options: SalesforceOptions) -> Self {
        let schemas = SalesforceObject::ALL.into_iter().map(|object| (object, standard::schema(object))).collect();
        let username = options.username.clone();
        let mut org = Self {
            options,
            base_url: String::new(),
            schemas,
            records: BTreeMap::new(),
            keys: HashMap::new(),
            last_number: 0,
            locks: HashMap::new(),
            tokens: Tokens::default(),
            limits: Limits::default(),
            cursors: HashMap::new(),
            duplicate_rules: Vec::new(),
            validation_rules: Vec::new(),
            races: 0,
            run_as: String::new(),
        };
        let user = [("Username", json!(username)), ("Email", json!(username)), ("LastName", json!("Integration"))];
        let fields = user.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        org.run_as = org.add(SalesforceObject::User, fields);
        org
    }

    /// Returns the address for calls with a token.
    pub(crate) fn instance_url(&self) -> &str {
        self.options.instance_url.as_deref().unwrap_or(&self.base_url)
    }

    pub(crate) fn schema(&self, object: SalesforceObject) -> &Schema {
        self.schemas.get(&object).expect("every kind of object has a schema")
    }

    pub(crate) fn is_hidden(&self, object: SalesforceObject) -> bool {
        self.options.hidden_objects.contains(&object)
    }

    pub(crate) fn is_updateable(&self, object: SalesforceObject, field: &Field) -> bool {
        field.updateable
            || object == SalesforceObject::Task && field.name == "TaskSubtype" && self.options.task_subtype_updateable
    }

    /// Returns a record by its id with 18 characters, deleted or not.
    pub(crate) fn record(&self, id: &str) -> Option<&Record> {
        self.records.get(id)
    }

    pub(crate) fn record_mut(&mut self, id: &str) -> Option<&mut Record> {
        self.records.get_mut(id)
    }

    /// Returns the records of a kind, deleted ones included, oldest first.
    pub(crate) fn all(&self, object: SalesforceObject) -> impl Iterator<Item = &Record> {
        let from = object.prefix().to_owned();
        self.records.range(from..).map(|(_, record)| record).take_while(move |record| record.object == object)
    }

    /// Returns the records of a kind that are neither deleted nor merged into another one, oldest first.
    pub(crate) fn live(&self, object: SalesforceObject) -> impl Iterator<Item = &Record> {
        self.all(object).filter(|record| !record.deleted)
    }

    /// Returns the records of a kind that may fit a filter with these values of fields, deleted ones included, oldest
    /// first. Where one of the fields is a key, these are few.
    pub(crate) fn candidates(&self, object: SalesforceObject, equal: &[(&Field, &str)]) -> Vec<&Record> {
        for (field, value) in equal {
            if field.name == "Id" {
                return self.records.get(*value).filter(|record| record.object == object).into_iter().collect();
            }
            if field.is_key() {
                let ids = self.keys.get(&(object, field.name.clone(), value.to_lowercase()));
                return ids.into_iter().flatten().filter_map(|id| self.records.get(id)).collect();
            }
        }
        self.all(object).collect()
    }

    /// Returns the ids of the records that have this value of a key field.
    pub(crate) fn find_by(&self, object: SalesforceObject, field: &Field, value: &str) -> Vec<String> {
        let has = |record: &&Record| {
            let stored = record.fields.get(&field.name).and_then(Field::key_text);
            !record.deleted && stored.is_some_and(|stored| field.same(&stored, value))
        };
        let found = self.candidates(object, &[(field, value)]).into_iter();
        found.filter(has).map(|record| record.id.clone()).collect()
    }

    /// Returns the keys of a record.
    fn keys_of(&self, id: &str) -> Vec<(SalesforceObject, String, String)> {
        let Some(record) = self.records.get(id) else { return Vec::new() };
        let fields = self.schema(record.object).fields.iter().filter(|field| field.is_key());
        let key = |field: &Field| {
            let text = Field::key_text(record.fields.get(&field.name)?)?;
            Some((record.object, field.name.clone(), text.to_lowercase()))
        };
        fields.filter_map(key).collect()
    }

    fn index_keys(&mut self, id: &str) {
        for key in self.keys_of(id) {
            self.keys.entry(key).or_default().insert(id.to_owned());
        }
    }

    fn forget_keys(&mut self, id: &str) {
        for key in self.keys_of(id) {
            self.keys.entry(key).or_default().remove(id);
        }
    }

    /// Changes an object's fields, and finds the keys of all records anew.
    pub(crate) fn set_up(&mut self, object: SalesforceObject, change: impl FnOnce(&mut Schema)) {
        change(self.schemas.get_mut(&object).expect("every kind of object has a schema"));
        self.index_all_keys();
    }

    fn index_all_keys(&mut self) {
        self.keys.clear();
        for id in self.records.keys().cloned().collect::<Vec<_>>() {
            self.index_keys(&id);
        }
    }

    /// Returns a field's value as the API answers it. A checkbox is never null.
    pub(crate) fn value(record: &Record, field: &Field) -> Value {
        let value = record.value(&field.name);
        if value.is_null() && field.kind == Kind::Boolean { json!(false) } else { value }
    }

    /// Adds a record with these fields and the defaults, and returns its id.
    pub(crate) fn add(&mut self, object: SalesforceObject, mut fields: Fields) -> String {
        for field in &self.schema(object).fields {
            if let Some(default) = &field.default {
                fields.entry(field.name.clone()).or_insert_with(|| default.clone());
            }
        }
        if object.is_writable() {
            fields.entry("OwnerId".to_owned()).or_insert_with(|| json!(self.run_as));
        }
        fields.retain(|_, value| !value.is_null());
        self.last_number += 1;
        let id = ids::make(object.prefix(), self.last_number);
        let now = Timestamp::now();
        let record = Record {
            id: id.clone(),
            object,
            fields,
            created_at: now,
            modified_at: now,
            author: self.run_as.clone(),
            changed: None,
            indexed: None,
            deleted: false,
            changes: 0,
        };
        self.records.insert(id.clone(), record);
        self.index_keys(&id);
        id
    }

    /// Writes these values; `Null` clears a field.
    pub(crate) fn change(&mut self, id: &str, fields: Fields) {
        self.forget_keys(id);
        if let Some(record) = self.records.get_mut(id) {
            for (name, value) in fields {
                if value.is_null() {
                    record.fields.remove(&name);
                } else {
                    record.fields.insert(name, value);
                }
            }
            record.modified_at = Timestamp::now();
            record.changes += 1;
        }
        self.index_keys(id);
    }

    /// Adds a record for a client. The search index lags behind.
    pub(crate) fn add_for_client(&mut self, object: SalesforceObject, fields: Fields) -> String {
        let id = self.add(object, fields);
        if let Some(record) = self.records.get_mut(&id) {
            record.changed = Some(Instant::now());
        }
        id
    }

    /// Changes a record for a client. The search index knows the former values for a while.
    pub(crate) fn change_for_client(&mut self, id: &str, fields: Fields) {
        let lag = self.options.index_lag;
        if let Some(record) = self.records.get_mut(id) {
            record.indexed = record.in_index(lag).cloned();
            record.changed = Some(Instant::now());
        }
        self.change(id, fields);
    }

    /// Returns the records as they are, for [`Self::restore`].
    pub(crate) fn snapshot(&self) -> BTreeMap<String, Record> {
        self.records.clone()
    }

    /// Takes back what was written since a snapshot.
    pub(crate) fn restore(&mut self, records: BTreeMap<String, Record>) {
        self.records = records;
        self.index_all_keys();
    }

    /// Takes the rows that a write locks until it is answered, or says which of them another write holds.
    pub(crate) fn lock(&mut self, rows: &[&str]) -> Result<(), String> {
        if !self.options.lock_rows {
            return Ok(());
        }
        let now = Instant::now();
        self.locks.retain(|_, until| *until > now);
        if let Some(held) = rows.iter().find(|row| self.locks.contains_key(**row)) {
            return Err((*held).to_owned());
        }
        let until = now + self.options.latency;
        self.locks.extend(rows.iter().map(|row| ((*row).to_owned(), until)));
        Ok(())
    }

    /// Deletes a record, and with a person the person's tasks.
    pub(crate) fn delete(&mut self, id: &str) {
        for record in self.records.values_mut() {
            if record.id == id || record.text("WhoId") == id {
                record.deleted = true;
            }
        }
    }

    /// Empties the recycle bin of this record: from then on nobody knows the id.
    pub(crate) fn purge(&mut self, id: &str) {
        self.delete(id);
        self.forget_keys(id);
        self.records.remove(id);
    }

    /// Gives one person's tasks to another one.
    pub(crate) fn move_tasks(&mut self, from: &str, to: &str) {
        for record in self.records.values_mut().filter(|record| record.text("WhoId") == from) {
            record.fields.insert("WhoId".to_owned(), json!(to));
        }
    }
}
