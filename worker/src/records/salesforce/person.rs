//! A person as a contact or a lead: which fields are read, and what they say.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use hookline_common::person_text::PersonText;
use hookline_common::phone::Phone;
use hookline_common::settings::SalesforceObject;
use hookline_store::model::PersonFacts;
use serde_json::{Map, Value, json};

use super::Salesforce;
use super::soql::{Record, object_of};
use crate::delivery::handler::HandlerError;
use crate::records::{Person, PersonId};

/// How TextUs begins a contact's id. The key field holds the rest.
const CONTACTS: &str = "/contacts/";
/// The key of a person whom TextUs knows by number only begins like this. It stands in paths.
const BY_PHONE: &str = "phone-";
/// The fields for numbers. A new number goes into the first that is free.
const CONTACT_PHONES: [&str; 4] = ["MobilePhone", "Phone", "HomePhone", "OtherPhone"];
const LEAD_PHONES: [&str; 2] = ["MobilePhone", "Phone"];
/// Fields that are done without where Hookline's user may not see them.
pub(super) const OPTIONAL: [&str; 2] = ["HomePhone", "OtherPhone"];
/// The company of a lead where nobody says one, as Salesforce's own forms write it.
const NO_COMPANY: &str = "[not provided]";
const MAX_FIRST_NAME: usize = 40;
const MAX_LAST_NAME: usize = 80;

pub(super) const fn object_name(object: SalesforceObject) -> &'static str {
    match object {
        SalesforceObject::Contact => "Contact",
        SalesforceObject::Lead => "Lead",
    }
}

/// The optional fields of contacts that this process found it may not see.
#[derive(Default)]
pub(super) struct Hidden(RwLock<BTreeSet<&'static str>>);

impl Hidden {
    fn has(&self, field: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(field)
    }

    /// Returns whether the field is newly known to be hidden.
    pub(super) fn add(&self, field: &'static str) -> bool {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(field)
    }
}

impl Salesforce {
    pub(super) fn phone_fields(&self, object: SalesforceObject) -> Vec<&'static str> {
        let all: &[&'static str] = match object {
            SalesforceObject::Contact => &CONTACT_PHONES,
            SalesforceObject::Lead => &LEAD_PHONES,
        };
        all.iter().copied().filter(|field| !self.hidden.has(field)).collect()
    }

    /// Returns the fields that tell who a person is.
    pub(super) fn person_fields(&self, object: SalesforceObject) -> Vec<&str> {
        let mut fields = vec!["Id", self.fields.person_key.as_str(), "FirstName", "LastName", "OwnerId", "CreatedDate"];
        fields.extend(self.phone_fields(object));
        if object == SalesforceObject::Lead {
            fields.extend(["IsConverted", "ConvertedContactId"]);
        }
        fields
    }

    /// Returns the condition that one of the fields for numbers has one of these texts.
    pub(super) fn has_number(&self, object: SalesforceObject, forms: &[String]) -> String {
        let conditions = self.phone_fields(object).into_iter().map(|field| super::soql::is_one_of(field, forms));
        conditions.collect::<Vec<_>>().join(" OR ")
    }

    pub(super) fn person(&self, record: &Record) -> Person {
        let name: Vec<&str> = ["FirstName", "LastName"].iter().filter_map(|part| record.get(part)).collect();
        let (owner, ours) = (record.get("OwnerId").unwrap_or_default(), self.client.tokens.user_id());
        Person {
            id: PersonId(record.id.clone()),
            contact_id: record.get(&self.fields.person_key).and_then(contact_id_of),
            phones: numbers(record),
            name: (!name.is_empty()).then(|| name.join(" ")),
            // Every record has an owner. A queue is nobody, and neither is the user as whom Hookline creates people.
            has_owner: owner.starts_with("005") && super::soql::long_id(&ours).is_none_or(|ours| ours != owner),
            created_at: record.time("CreatedDate"),
        }
    }

    /// Returns the fields of a person who is created, without the key.
    pub(super) fn new_person(
        &self,
        object: SalesforceObject,
        facts: &PersonFacts,
        key: &str,
    ) -> Result<Map<String, Value>, HandlerError> {
        let mut fields = name_fields(facts.name.as_deref());
        let nameless = || facts.phones.first().map_or(key, Phone::as_e164);
        fields.entry("LastName").or_insert_with(|| json!(nameless()));
        if object == SalesforceObject::Lead {
            fields.insert("Company".to_owned(), json!(NO_COMPANY));
        }
        fields.extend(self.templates.of(facts)?.into_iter().map(|(field, text)| (field, json!(text))));
        for (phone, field) in facts.phones.iter().zip(self.phone_fields(object)) {
            fields.insert(field.to_owned(), json!(phone.as_e164()));
        }
        Ok(fields)
    }

    /// Returns what the facts add to a record. A number goes into the field that is free; one too many has no place.
    pub(super) fn news(&self, record: &Record, facts: &PersonFacts) -> Map<String, Value> {
        let mut news = Map::new();
        let key = &self.fields.person_key;
        let has_contact = record.get(key).is_some_and(|value| !is_key_of_phone(value));
        if let Some(contact_id) = facts.contact_id.as_deref().filter(|_| !has_contact) {
            news.insert(key.clone(), json!(slug(contact_id)));
        }
        let known = numbers(record);
        let fields = object_of(&record.id).map(|object| self.phone_fields(object)).unwrap_or_default();
        // A field that was not read is not known to be empty.
        let mut free = fields.into_iter().filter(|field| record.has(field) && record.get(field).is_none());
        for phone in facts.phones.iter().filter(|phone| !known.contains(phone)) {
            if let Some(field) = free.next() {
                news.insert(field.to_owned(), json!(phone.as_e164()));
            }
        }
        // A person whom nobody named has a number for a name, which may be ours.
        let is_nameless = record.get("FirstName").is_none()
            && record.get("LastName").and_then(Phone::parse).is_some_and(|phone| known.contains(&phone));
        if is_nameless {
            news.extend(name_fields(facts.name.as_deref()));
        }
        news
    }

    /// Whether a number can be the person's: it is there, or there is no place for it.
    pub(super) fn may_have(&self, record: &Record, phone: &Phone) -> bool {
        let fields = object_of(&record.id).map(|object| self.phone_fields(object)).unwrap_or_default();
        fields.iter().all(|field| record.get(field).is_some()) || numbers(record).contains(phone)
    }
}

/// Returns the numbers of a record. A number without a country is one of the North American plan, as everywhere in
/// Hookline.
pub(super) fn numbers(record: &Record) -> Vec<Phone> {
    let mut found: Vec<Phone> = Vec::new();
    for field in CONTACT_PHONES {
        let number = record.get(field).and_then(Phone::parse);
        found.extend(number.filter(|number| !found.contains(number)));
    }
    found
}

fn name_fields(name: Option<&str>) -> Map<String, Value> {
    let text = PersonText::new(name, Vec::new(), None);
    let cut = |text: String, most: usize| json!(text.chars().take(most).collect::<String>());
    let first = text.first_name.map(|first| ("FirstName".to_owned(), cut(first, MAX_FIRST_NAME)));
    let last = text.last_name.map(|last| ("LastName".to_owned(), cut(last, MAX_LAST_NAME)));
    first.into_iter().chain(last).collect()
}

pub(super) fn slug(contact_id: &str) -> &str {
    contact_id.strip_prefix(CONTACTS).unwrap_or(contact_id)
}

/// Returns the forms in which a contact's id may have been entered.
pub(super) fn keys_of_contact(contact_id: &str) -> Vec<String> {
    let slug = slug(contact_id);
    vec![slug.to_owned(), format!("{CONTACTS}{slug}")]
}

pub(super) fn key_of_phone(phone: &Phone) -> String {
    format!("{BY_PHONE}{}", phone.digits())
}

pub(super) fn is_key_of_phone(key: &str) -> bool {
    key.strip_prefix(BY_PHONE).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) fn contact_id_of(key: &str) -> Option<String> {
    (!is_key_of_phone(key)).then(|| format!("{CONTACTS}{}", slug(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_two_fields_that_are_short_enough() {
        let names = |name| {
            let fields = name_fields(name);
            let get = |field: &str| fields.get(field).and_then(Value::as_str).map(str::to_owned);
            (get("FirstName"), get("LastName"))
        };
        let owned = |text: &str| Some(text.to_owned());
        assert_eq!(names(Some("Ana María Rivera")), (owned("Ana María"), owned("Rivera")));
        assert_eq!(names(Some("Prince")), (None, owned("Prince")));
        assert_eq!(names(Some("  ")), (None, None));
        let long = "é".repeat(200);
        assert_eq!(names(Some(&long)).1.map(|last| last.chars().count()), Some(80));
    }

    #[test]
    fn a_key_of_a_number_is_told_from_that_of_a_contact() {
        let key = key_of_phone(&Phone::parse("+14155550123").unwrap());
        assert_eq!((key.as_str(), is_key_of_phone(&key), contact_id_of(&key)), ("phone-14155550123", true, None));
        for contact in ["Bn3RkQ8", "phone-shop", "phone-", "sanford.llc"] {
            assert_eq!(contact_id_of(contact), Some(format!("/contacts/{contact}")));
        }
        assert_eq!(contact_id_of("/contacts/Bn3RkQ8").as_deref(), Some("/contacts/Bn3RkQ8"));
    }
}
