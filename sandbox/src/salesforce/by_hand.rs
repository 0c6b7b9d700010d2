//! What people do in the org meanwhile: they add, change, merge, convert and delete records.

use serde_json::{Value, json};

use super::Salesforce;
use super::ids;
use super::object::SalesforceObject;
use super::org::Org;
use super::record::{Fields, date_time};

impl Salesforce {
    /// Adds a contact as if by hand, and returns its id. `fields` is an object; any field of the org may be set, and
    /// none is required. The contact is in the search index at once.
    ///
    /// # Panics
    /// If the org has no such field, or the value is none of its kind.
    pub fn add_contact(&self, fields: impl Into<Value>) -> String {
        self.add(SalesforceObject::Contact, &fields.into())
    }

    /// Adds a lead as if by hand, and returns its id.
    ///
    /// # Panics
    /// Like [`Self::add_contact`].
    pub fn add_lead(&self, fields: impl Into<Value>) -> String {
        self.add(SalesforceObject::Lead, &fields.into())
    }

    /// Adds a task as if by hand, and returns its id.
    ///
    /// # Panics
    /// Like [`Self::add_contact`].
    pub fn add_task(&self, fields: impl Into<Value>) -> String {
        self.add(SalesforceObject::Task, &fields.into())
    }

    /// Adds a user, who is active unless `IsActive` says otherwise, and returns the user's id.
    ///
    /// # Panics
    /// Like [`Self::add_contact`].
    pub fn add_user(&self, fields: impl Into<Value>) -> String {
        self.add(SalesforceObject::User, &fields.into())
    }

    /// Adds a record type of an object, and returns its id.
    pub fn add_record_type(&self, object: SalesforceObject, developer_name: &str) -> String {
        let fields =
            json!({ "Name": developer_name, "DeveloperName": developer_name, "SobjectType": object.to_string() });
        self.add(SalesforceObject::RecordType, &fields)
    }

    fn add(&self, object: SalesforceObject, fields: &Value) -> String {
        self.stand_in.with(|org| {
            let fields = typed(org, object, fields);
            org.add(object, fields)
        })
    }

    /// Changes a record as if by hand; `null` clears a field. The change is in the search index at once.
    ///
    /// # Panics
    /// Like [`Self::add_contact`], and if there is no such record.
    pub fn change(&self, id: &str, fields: impl Into<Value>) {
        let fields = fields.into();
        self.stand_in.with(|org| {
            let id = named(org, id);
            let object = org.record(&id).expect("it was just found").object;
            let fields = typed(org, object, &fields);
            org.change(&id, fields);
        });
    }

    /// Deletes a record by hand, and with a contact or a lead the person's tasks. It stays in the recycle bin, where
    /// `queryAll` finds it.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn delete(&self, id: &str) {
        self.stand_in.with(|org| {
            let id = named(org, id);
            org.delete(&id);
        });
    }

    /// Deletes a record, and with a contact or a lead the person's tasks, and empties the recycle bin of it: no call
    /// knows the id any more.
    ///
    /// # Panics
    /// If there never was such a record.
    pub fn purge(&self, id: &str) {
        self.stand_in.with(|org| {
            let id = named(org, id);
            org.purge(&id);
        });
    }

    /// Merges a contact or a lead into another one by hand. Its tasks move to the master, and so do the values that
    /// the master lacks, except those of unique fields. `queryAll` shows the master in the loser's `MasterRecordId`.
    ///
    /// # Panics
    /// If there is no such record, or the two are not of one kind.
    pub fn merge(&self, master: &str, loser: &str) {
        self.stand_in.with(|org| {
            let (master, loser) = (named(org, master), named(org, loser));
            assert_ne!(master, loser, "a record is not merged into itself");
            let kinds = [&master, &loser].map(|id| org.record(id).expect("it was just found").object);
            assert!(kinds[0] == kinds[1] && kinds[0].is_person(), "two contacts or two leads");
            org.move_tasks(&loser, &master);
            let record = org.record_mut(&loser).expect("it was just found");
            let values = record.fields.clone();
            record.deleted = true;
            record.fields.insert("MasterRecordId".to_owned(), json!(master));
            let kept = org.record(&master).expect("it was just found");
            let gained = values.into_iter().filter(|(name, _)| {
                let is_unique = org.schema(kinds[0]).field(name).is_some_and(|field| field.unique);
                !is_unique && !kept.fields.contains_key(name)
            });
            let gained: Fields = gained.collect();
            org.change(&master, gained);
        });
    }

    /// Converts a lead by hand. Its tasks move to the new contact, whose id is returned.
    ///
    /// # Panics
    /// If there is no such lead.
    pub fn convert_lead(&self, id: &str) -> String {
        self.stand_in.with(|org| {
            let id = named(org, id);
            let lead = org.record(&id).filter(|record| record.object == SalesforceObject::Lead);
            let values = lead.expect("a lead that exists").fields.clone();
            // Custom fields are carried over only where an administrator has mapped them, so none is.
            let carried = values.into_iter().filter(|(name, _)| {
                !name.ends_with("__c")
                    && name != "RecordTypeId"
                    && org.schema(SalesforceObject::Contact).field(name).is_some_and(|field| field.createable)
            });
            let carried: Fields = carried.collect();
            let contact = org.add(SalesforceObject::Contact, carried);
            org.move_tasks(&id, &contact);
            let today = date_time(jiff::Timestamp::now())[..10].to_owned();
            let converted = [
                ("IsConverted", json!(true)),
                ("ConvertedContactId", json!(contact)),
                ("ConvertedDate", json!(today)),
                ("Status", json!("Closed - Converted")),
            ];
            org.change(&id, converted.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
            contact
        })
    }
}

fn typed(org: &Org, object: SalesforceObject, fields: &Value) -> Fields {
    let fields = fields.as_object().expect("an object of fields");
    let stored = |(name, value): (&String, &Value)| {
        let field = org.schema(object).fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        let field = field.expect("a field that the org has");
        (field.name.clone(), field.stored(value).expect("a value of the field's kind"))
    };
    fields.iter().map(stored).collect()
}

/// Returns the id with 18 characters of a record that exists.
fn named(org: &Org, id: &str) -> String {
    let id = ids::read(id).filter(|id| org.record(id).is_some());
    id.expect("a record that exists")
}
