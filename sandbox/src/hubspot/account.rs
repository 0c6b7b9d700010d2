//! The account that the stand-in serves: its records, their properties, and what happens to them by hand.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::limits::Limits;
use super::object::HubSpotObject;
use super::options::{HubSpotOptions, MergedIds};
use super::owners::Owner;
use super::phones;
use super::record::{Properties, Record, now};
use super::schema::Schema;

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) options: HubSpotOptions,
    schemas: BTreeMap<HubSpotObject, Schema>,
    /// One sequence of ids serves all kinds of object, so that an id of a wrong kind is never found.
    records: BTreeMap<u64, Record>,
    last_id: u64,
    pub(crate) owners: Vec<Owner>,
    pub(crate) limits: Limits,
    /// Every `after` that an answer has had.
    pub(crate) pages: HashSet<String>,
}

impl Account {
    pub(crate) fn new(options: HubSpotOptions) -> Self {
        Self {
            options,
            schemas: HubSpotObject::ALL.into_iter().map(|object| (object, Schema::standard(object))).collect(),
            records: BTreeMap::new(),
            last_id: 100,
            owners: Vec::new(),
            limits: Limits::default(),
            pages: HashSet::new(),
        }
    }

    pub(crate) fn schema(&self, object: HubSpotObject) -> &Schema {
        self.schemas.get(&object).expect("every kind of object has a schema")
    }

    pub(crate) fn schema_mut(&mut self, object: HubSpotObject) -> &mut Schema {
        self.schemas.get_mut(&object).expect("every kind of object has a schema")
    }

    pub(crate) fn record(&self, id: u64) -> Option<&Record> {
        self.records.get(&id)
    }

    pub(crate) fn record_mut(&mut self, id: u64) -> Option<&mut Record> {
        self.records.get_mut(&id)
    }

    /// Returns the records of a kind that are neither archived nor merged into another one, oldest first.
    pub(crate) fn live(&self, object: HubSpotObject) -> impl Iterator<Item = &Record> {
        self.records.values().filter(move |record| record.object == object && !record.archived)
    }

    /// Returns the id of the record that a path or a body names.
    pub(crate) fn find(&self, object: HubSpotObject, id: &str) -> Option<u64> {
        let mut record = self.records.get(&id.parse().ok()?)?;
        while let Some(primary) = record.merged_into.filter(|_| self.options.merged_ids == MergedIds::Resolve) {
            record = self.records.get(&primary)?;
        }
        (record.object == object && !record.archived).then_some(record.id)
    }

    /// Returns the id of the record that has this value of a unique property.
    pub(crate) fn find_by(&self, object: HubSpotObject, property: &str, value: &str) -> Option<u64> {
        let value = if property == "email" { value.to_lowercase() } else { value.to_owned() };
        self.live(object).find(|record| record.properties.get(property) == Some(&value)).map(|record| record.id)
    }

    pub(crate) fn add_owner(&mut self, email: &str) -> u64 {
        let id = 41_000_001 + self.owners.len() as u64;
        self.owners.push(Owner { id, email: email.to_owned(), archived: false });
        id
    }

    /// Whether a record can be assigned to the owner with this id.
    pub(crate) fn can_own(&self, id: &str) -> bool {
        self.owners.iter().any(|owner| !owner.archived && owner.id.to_string() == id)
    }

    /// Returns whether unique values are enforced for this kind of object.
    pub(crate) fn keeps_unique(&self, object: HubSpotObject) -> bool {
        object == HubSpotObject::Contact || !self.options.hollow_upserts_on_engagements
    }

    /// Adds a record that has these properties and these associations, and returns its id.
    pub(crate) fn add(&mut self, object: HubSpotObject, properties: Properties, contacts: BTreeSet<u64>) -> u64 {
        self.last_id += 1;
        let now = now();
        let was_associated = !contacts.is_empty();
        let mut record = Record {
            id: self.last_id,
            object,
            properties: Properties::new(),
            created_at: now,
            updated_at: now,
            changed: None,
            archived: false,
            merged_into: None,
            contacts,
            was_associated,
        };
        set(&mut record, properties);
        self.records.insert(self.last_id, record);
        self.last_id
    }

    pub(crate) fn orphans(&self) -> Vec<String> {
        let is_orphan = |record: &&Record| record.contacts.is_empty() && !record.was_associated;
        let kinds = [HubSpotObject::Communication, HubSpotObject::Note];
        kinds.into_iter().flat_map(|object| self.live(object)).filter(is_orphan).map(|one| one.id.to_string()).collect()
    }

    pub(crate) fn remove_property(&mut self, object: HubSpotObject, name: &str) {
        self.schema_mut(object).properties.remove(name);
        for record in self.records.values_mut().filter(|record| record.object == object) {
            record.properties.remove(name);
        }
    }

    pub(crate) fn seed(&mut self, object: HubSpotObject, properties: &[(&str, &str)], contacts: &[&str]) -> u64 {
        let properties = self.typed_by_hand(object, properties);
        let contacts = contacts.iter().map(|id| self.contact_named(id)).collect();
        self.add(object, properties, contacts)
    }

    pub(crate) fn change_by_hand(&mut self, id: &str, properties: &[(&str, &str)]) {
        let properties = self.typed_by_hand(HubSpotObject::Contact, properties);
        let id = self.contact_named(id);
        let record = self.records.get_mut(&id).expect("it was just found");
        set(record, properties);
        record.updated_at = now();
    }

    pub(crate) fn delete_by_hand(&mut self, id: &str) {
        let id = self.contact_named(id);
        self.archive(id);
    }

    pub(crate) fn delete_note_by_hand(&mut self, id: &str) {
        let objects = [HubSpotObject::Communication, HubSpotObject::Note];
        let id = objects.into_iter().find_map(|object| self.find(object, id)).expect("a note that exists");
        self.archive(id);
    }

    pub(crate) fn archive(&mut self, id: u64) {
        if let Some(record) = self.records.get_mut(&id) {
            record.archived = true;
        }
        for record in self.records.values_mut() {
            record.contacts.remove(&id);
        }
    }

    pub(crate) fn merge_by_hand(&mut self, primary: &str, secondary: &str) {
        let (primary, secondary) = (self.contact_named(primary), self.contact_named(secondary));
        assert_ne!(primary, secondary, "a contact is not merged into itself");
        let merged = self.records.get_mut(&secondary).expect("it was just found");
        (merged.archived, merged.merged_into) = (true, Some(primary));
        let values = merged.properties.clone();
        for record in self.records.values_mut() {
            if record.contacts.remove(&secondary) {
                record.contacts.insert(primary);
            }
        }
        let kept = self.records.get_mut(&primary).expect("it was just found");
        for (name, value) in values {
            kept.properties.entry(name).or_insert(value);
        }
        let merged_ids = kept.properties.entry("hs_merged_object_ids".to_owned()).or_default();
        let separator = if merged_ids.is_empty() { "" } else { ";" };
        *merged_ids = format!("{merged_ids}{separator}{secondary}");
        phones::compute(&mut kept.properties);
        kept.updated_at = now();
    }

    fn typed_by_hand(&self, object: HubSpotObject, properties: &[(&str, &str)]) -> Properties {
        let stored = |(name, value): &(&str, &str)| {
            let property = self.schema(object).properties.get(*name).expect("a property that the account has");
            ((*name).to_owned(), property.stored(value).expect("a value of the property's kind"))
        };
        properties.iter().map(stored).collect()
    }

    fn contact_named(&self, id: &str) -> u64 {
        self.find(HubSpotObject::Contact, id).expect("a contact that exists")
    }
}

/// Writes these values; an empty one clears its property. The numbers that HubSpot computes follow.
pub(crate) fn set(record: &mut Record, properties: Properties) {
    for (name, value) in properties {
        if value.is_empty() {
            record.properties.remove(&name);
        } else {
            let value = if name == "email" { value.to_lowercase() } else { value };
            record.properties.insert(name, value);
        }
    }
    if record.object == HubSpotObject::Contact {
        phones::compute(&mut record.properties);
    }
}
