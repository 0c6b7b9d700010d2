//! What an administrator sets up: fields, rights on them, duplicate rules and validation rules.

use super::Salesforce;
use super::object::SalesforceObject;
use super::rules::{DuplicateRule, ValidationRule};
use super::schema::{CustomField, Field};

impl Salesforce {
    /// Adds a field to an object, or replaces the one of this name. The app's user may read and write it.
    pub fn add_custom_field(&self, object: SalesforceObject, field: CustomField) {
        self.stand_in.with(|org| org.set_up(object, |schema| schema.add(field.0)));
    }

    /// Adds the fields that deploy/salesforce/ adds to an org. The arguments are the names that are configured.
    pub fn add_hookline_fields(&self, task_key: &str, person_key: &str, opted_out: &str) {
        let key = |name: &str| CustomField::text(name, 80).external_id().unique().case_sensitive();
        self.add_custom_field(SalesforceObject::Task, key(task_key));
        let date = match opted_out.strip_suffix("__c") {
            Some(name) => format!("{name}_At__c"),
            None => format!("{opted_out}_At"),
        };
        for object in [SalesforceObject::Contact, SalesforceObject::Lead] {
            self.add_custom_field(object, key(person_key));
            self.add_custom_field(object, CustomField::checkbox(opted_out));
            self.add_custom_field(object, CustomField::date_time(&date));
            self.add_custom_field(object, CustomField::date_time("SMS_Opted_In_At__c"));
            self.add_custom_field(object, CustomField::text("SMS_Opt_Out_Source__c", 80));
        }
    }

    /// Removes a field, if it exists. The values stay until the field is added again.
    pub fn remove_field(&self, object: SalesforceObject, name: &str) {
        self.stand_in.with(|org| {
            org.set_up(object, |schema| schema.fields.retain(|field| !field.name.eq_ignore_ascii_case(name)));
        });
    }

    /// Says whether the app's user may see a field, as field-level security does. A hidden field doesn't exist for the
    /// user.
    ///
    /// # Panics
    /// If the object has no such field.
    pub fn hide_field(&self, object: SalesforceObject, name: &str, hidden: bool) {
        self.change_field(object, name, |field| field.hidden = hidden);
    }

    /// Says whether the app's user may write a field, as field-level security does.
    ///
    /// # Panics
    /// If the object has no such field.
    pub fn make_field_read_only(&self, object: SalesforceObject, name: &str, read_only: bool) {
        self.change_field(object, name, |field| (field.createable, field.updateable) = (!read_only, !read_only));
    }

    /// Sets the values that a picklist takes, for example a task's `Status` in another language.
    ///
    /// # Panics
    /// If the object has no such field.
    pub fn set_picklist(&self, object: SalesforceObject, name: &str, values: &[&str]) {
        self.change_field(object, name, |field| {
            let CustomField(list) = CustomField::picklist(name, values);
            field.kind = list.kind;
            field.default = field.default.take().and(values.first().map(|value| serde_json::json!(value)));
        });
    }

    /// Activates a duplicate rule: a write is refused if another record of the object has the same value in one of the
    /// fields. With `allow_save` a request's `Sforce-Duplicate-Rule-Header` overrides the rule.
    pub fn add_duplicate_rule(&self, object: SalesforceObject, fields: &[&str], allow_save: bool) {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        self.stand_in.with(|org| org.duplicate_rules.push(DuplicateRule { object, fields, allow_save }));
    }

    /// Activates a validation rule: a write is refused with the message if the field's value contains the text after
    /// it. An empty text refuses every write.
    pub fn add_validation_rule(&self, object: SalesforceObject, field: &str, text: &str, message: &str) {
        let rule =
            ValidationRule { object, field: field.to_owned(), text: text.to_owned(), message: message.to_owned() };
        self.stand_in.with(|org| org.validation_rules.push(rule));
    }

    /// Deactivates every duplicate rule and validation rule.
    pub fn clear_rules(&self) {
        self.stand_in.with(|org| {
            org.duplicate_rules.clear();
            org.validation_rules.clear();
        });
    }

    /// Lets the next upserts of a fresh key lose to another writer in the same instant: each is refused with
    /// `DUPLICATE_VALUE`, and the record is the other writer's, with the key but without most of the fields.
    pub fn lose_races(&self, upserts: usize) {
        self.stand_in.with(|org| org.races = upserts);
    }

    fn change_field(&self, object: SalesforceObject, name: &str, change: impl FnOnce(&mut Field)) {
        self.stand_in.with(|org| {
            org.set_up(object, |schema| change(schema.any_field(name).expect("a field of the object")));
        });
    }
}
