//! The standard fields that the stand-in has of each kind of object.
//! <https://developer.salesforce.com/docs/platform/object-reference/references/standard-objects/object-contact.html>

use serde_json::{Value, json};

use super::object::SalesforceObject as Object;
use super::schema::{Field, Kind, Schema};

const PEOPLE: &[Object] = &[Object::Contact, Object::Lead];
const USERS: &[Object] = &[Object::User];
/// The stand-in has no accounts, opportunities or the like. A field that names one takes any id.
const ANYTHING: &[Object] = &[];

/// The values of a task's `Status` in a new org.
const TASK_STATUSES: [&str; 5] = ["Not Started", "In Progress", "Completed", "Waiting on someone else", "Deferred"];
const LEAD_STATUSES: [&str; 4] =
    ["Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted"];

pub(crate) fn schema(object: Object) -> Schema {
    let mut fields = vec![
        read_only("Id", Kind::Id),
        read_only("IsDeleted", Kind::Boolean),
        read_only("CreatedDate", Kind::DateTime),
        read_only("CreatedById", Kind::Reference(USERS)),
        read_only("LastModifiedDate", Kind::DateTime),
        read_only("LastModifiedById", Kind::Reference(USERS)),
        read_only("SystemModstamp", Kind::DateTime),
    ];
    fields.extend(match object {
        Object::Contact => contact(),
        Object::Lead => lead(),
        Object::Task => task(),
        Object::User => user(),
        Object::RecordType => record_type(),
    });
    Schema { fields }
}

fn contact() -> Vec<Field> {
    let mut fields = person();
    fields.extend([
        field("AccountId", "Account ID", Kind::Reference(ANYTHING), 0),
        text("Department", 80),
        text("OtherPhone", 40).of(Kind::Phone),
        text("HomePhone", 40).of(Kind::Phone),
        text("AssistantPhone", 40).of(Kind::Phone),
        text("MailingStreet", 255).of(Kind::TextArea),
        text("MailingCity", 40),
        text("MailingState", 80),
        text("MailingPostalCode", 20),
        text("MailingCountry", 80),
    ]);
    fields
}

fn lead() -> Vec<Field> {
    let mut fields = person();
    fields.extend([
        text("Company", 255).required(),
        picklist("Status", &LEAD_STATUSES).required().with_default(json!("Open - Not Contacted")),
        text("Street", 255).of(Kind::TextArea),
        text("City", 40),
        text("State", 80),
        text("PostalCode", 20),
        text("Country", 80),
        read_only("IsConverted", Kind::Boolean),
        read_only("ConvertedDate", Kind::Date),
        read_only("ConvertedAccountId", Kind::Reference(ANYTHING)),
        read_only("ConvertedContactId", Kind::Reference(&[Object::Contact])),
    ]);
    fields
}

/// The fields that contacts and leads have in common.
fn person() -> Vec<Field> {
    vec![
        read_only("MasterRecordId", Kind::Reference(PEOPLE)),
        text("LastName", 80).required(),
        text("FirstName", 40),
        picklist("Salutation", &["Mr.", "Ms.", "Mrs.", "Dr.", "Prof."]),
        read_only("Name", Kind::Text),
        text("Title", 128),
        text("Phone", 40).of(Kind::Phone),
        text("MobilePhone", 40).of(Kind::Phone),
        text("Fax", 40).of(Kind::Phone),
        text("Email", 80).of(Kind::Email),
        text("LeadSource", 255).of(Kind::Combobox),
        text("Description", 32_000).of(Kind::TextArea),
        owner(),
        flag("HasOptedOutOfEmail"),
        flag("HasOptedOutOfFax"),
        flag("DoNotCall"),
        field("RecordTypeId", "Record Type ID", Kind::Reference(&[Object::RecordType]), 0),
    ]
}

fn task() -> Vec<Field> {
    vec![
        field("WhoId", "Name ID", Kind::Reference(PEOPLE), 0),
        field("WhatId", "Related To ID", Kind::Reference(ANYTHING), 0),
        text("Subject", 255).of(Kind::Combobox),
        field("ActivityDate", "Due Date Only", Kind::Date, 0),
        picklist("Status", &TASK_STATUSES).required().with_default(json!("Not Started")),
        picklist("Priority", &["High", "Normal", "Low"]).required().with_default(json!("Normal")),
        read_only("IsHighPriority", Kind::Boolean),
        Field { label: "Assigned To ID".to_owned(), ..owner() },
        text("Description", 32_000).of(Kind::TextArea),
        text("Type", 255).of(Kind::Combobox),
        read_only("AccountId", Kind::Reference(ANYTHING)),
        read_only("IsClosed", Kind::Boolean),
        read_only("IsArchived", Kind::Boolean),
        field("CallDurationInSeconds", "Call Duration", Kind::Number, 0),
        picklist("CallType", &["Internal", "Inbound", "Outbound"]),
        text("CallDisposition", 255),
        text("CallObject", 255),
        field("ReminderDateTime", "Reminder Date/Time", Kind::DateTime, 0),
        flag("IsReminderSet"),
        // The vendor's page lists no "Update" among its properties.
        Field { updateable: false, ..picklist("TaskSubtype", &["Task", "Email", "Call", "ListEmail", "LinkedIn"]) }
            .with_default(json!("Task")),
        read_only("CompletedDateTime", Kind::DateTime),
        field("RecordTypeId", "Record Type ID", Kind::Reference(&[Object::RecordType]), 0),
    ]
}

fn user() -> Vec<Field> {
    vec![
        text("Username", 80),
        text("Email", 128).of(Kind::Email),
        text("FirstName", 40),
        text("LastName", 80),
        read_only("Name", Kind::Text),
        text("Alias", 8),
        text("FederationIdentifier", 512),
        picklist("UserType", &["Standard"]).with_default(json!("Standard")),
        Field { default: Some(json!(true)), ..flag("IsActive") },
    ]
}

fn record_type() -> Vec<Field> {
    vec![
        text("Name", 80),
        text("DeveloperName", 80),
        text("SobjectType", 40),
        Field { default: Some(json!(true)), ..flag("IsActive") },
    ]
}

impl Field {
    fn of(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    fn required(self) -> Self {
        Self { nillable: false, ..self }
    }

    fn with_default(self, value: Value) -> Self {
        Self { default: Some(value), ..self }
    }
}

fn field(name: &str, label: &str, kind: Kind, length: usize) -> Field {
    Field {
        name: name.to_owned(),
        label: label.to_owned(),
        kind,
        length,
        createable: true,
        updateable: true,
        nillable: true,
        default: None,
        external_id: false,
        unique: false,
        case_sensitive: false,
        custom: false,
        hidden: false,
    }
}

fn text(name: &str, length: usize) -> Field {
    field(name, name, Kind::Text, length)
}

fn picklist(name: &str, values: &[&str]) -> Field {
    field(name, name, Kind::Picklist(values.iter().map(|value| (*value).to_owned()).collect()), 255)
}

fn flag(name: &str) -> Field {
    field(name, name, Kind::Boolean, 0).required().with_default(json!(false))
}

/// A field that Salesforce fills with the user who creates the record where the client gives none.
fn owner() -> Field {
    field("OwnerId", "Owner ID", Kind::Reference(USERS), 0)
}

fn read_only(name: &str, kind: Kind) -> Field {
    Field { createable: false, updateable: false, ..field(name, name, kind, 0) }
}
