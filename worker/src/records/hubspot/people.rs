//! People as contacts of HubSpot: found by their TextUs contact or by phone, created or completed
//! (<https://developers.hubspot.com/docs/api-reference/latest/crm/search-the-crm>,
//! <https://developers.hubspot.com/changelog/unique-properties-for-contacts>).
//!
//! Reading by id or by a unique property is exact. A search reads an index that is seconds behind, and it knows numbers
//! without their country, so each contact that it finds is compared in full.

use std::collections::BTreeMap;

use hookline_common::names::{DeadReason, Destination, Operation};
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::model::PersonFacts;
use reqwest::Method;
use serde_json::{Value, json};

use super::HubSpot;
use super::client::{Record, Request};
use super::errors::{failed, is_refusal};
use crate::calls::log::CallLog;
use crate::delivery::handler::HandlerError;
use crate::destinations::error::DestinationError;
use crate::destinations::segment::Segment;
use crate::records::{Person, PersonId, Upserted};

/// How TextUs begins a contact's id. The key property holds the rest.
const CONTACTS: &str = "/contacts/";
/// The key of a person whom TextUs knows by number only begins like this.
const BY_PHONE: &str = "phone:";
/// The two numbers of a contact, each as it was typed and as HubSpot computes it.
const NUMBERS: [(&str, &str); 2] =
    [("phone", "hs_calculated_phone_number"), ("mobilephone", "hs_calculated_mobile_number")];
/// HubSpot's most results of one page, and the most pages that are read.
const PAGE: u64 = 200;
const MAX_PAGES: usize = 5;

impl HubSpot {
    /// Returns the contact with this contact id or, if there is none, all with this phone.
    pub(super) async fn find(
        &self,
        log: &CallLog,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<Record>, HandlerError> {
        if let Some(contact_id) = contact_id {
            let found = self.by_keys(log, &keys_of_contact(contact_id)).await?;
            if let Some(contact) = found.into_iter().next() {
                return Ok(vec![contact]);
            }
        }
        let Some(phone) = phone else { return Ok(Vec::new()) };
        let mut found = self.by_phone(log, phone).await?;
        found.extend(self.linked(log, phone, &found).await?);
        Ok(found)
    }

    /// Returns the contact who was linked with a number, unless they are known already. The index may not have them yet,
    /// and a contact with two numbers has no place for a third.
    async fn linked(&self, log: &CallLog, phone: &Phone, known: &[Record]) -> Result<Option<Record>, HandlerError> {
        let linked = self.store.linked_person(&self.name, None, Some(phone)).await?;
        let Some(id) = linked.filter(|id| known.iter().all(|contact| contact.id != *id)) else { return Ok(None) };
        let contact = self.contact(log, self.get_contact(&id, &[]).map_err(failed)?).await.map_err(failed)?;
        let is_known = |contact: &Record| known.iter().any(|other| other.id == contact.id);
        Ok(contact.filter(|contact| !is_known(contact) && may_have(contact, phone)))
    }

    /// Reads a contact by its id. That of a contact that was merged may lead to the one that it was merged into.
    pub(super) async fn contact(&self, log: &CallLog, request: Request) -> Result<Option<Record>, DestinationError> {
        self.client.record(log, request).await
    }

    /// Returns the call that reads a contact, its numbers and these properties.
    pub(super) fn get_contact(&self, id: &str, more: &[&str]) -> Result<Request, DestinationError> {
        let names: Vec<&str> = self.person_properties().into_iter().chain(more.iter().copied()).collect();
        let path = format!("contacts/{}?properties={}", segment(id)?, names.join(","));
        Ok(Request::of_objects(Operation::FindPerson, Method::GET, &path))
    }

    /// Returns the contacts whose key property has one of these values, in the order of the values. Both are read from
    /// the records themselves, not from the index.
    async fn by_keys(&self, log: &CallLog, keys: &[String]) -> Result<Vec<Record>, HandlerError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let name = &self.properties.contact_key;
        let inputs: Vec<Value> = keys.iter().map(|key| json!({ "id": key })).collect();
        let body = json!({ "idProperty": name, "inputs": inputs, "properties": self.person_properties() });
        let request = Request::of_objects(Operation::FindPerson, Method::POST, "contacts/batch/read").with_body(body);
        let began = self.client.gate().now_ms();
        let mut found = match self.client.read_batch(log, request).await {
            Ok(found) => found,
            Err(error) => return Err(failed(self.of_set_up(log, began, &[name], error).await)),
        };
        let place = |contact: &Record| keys.iter().position(|key| contact.get(name) == Some(key)).unwrap_or(keys.len());
        found.sort_by_key(place);
        Ok(found)
    }

    async fn by_phone(&self, log: &CallLog, phone: &Phone) -> Result<Vec<Record>, HandlerError> {
        let (national, e164) = (phone.national_digits(), phone.as_e164());
        let groups: Vec<Value> = [
            ("hs_searchable_calculated_phone_number", national),
            ("hs_searchable_calculated_mobile_number", national),
            ("phone", e164),
            ("mobilephone", e164),
        ]
        .iter()
        .map(|(name, value)| json!({ "filters": [{ "propertyName": name, "operator": "EQ", "value": value }] }))
        .collect();
        let mut body = json!({ "filterGroups": groups, "properties": self.person_properties(), "limit": PAGE });
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let request = Request::of_objects(Operation::FindPerson, Method::POST, "contacts/search");
            let page = self.client.search(log, request.with_body(body.clone())).await.map_err(failed)?;
            let next = page.next();
            found.extend(page.results.into_iter().filter(|contact| numbers(contact).contains(phone)));
            let Some(after) = next else { return Ok(found) };
            body["after"] = json!(after);
        }
        Err(HandlerError::GiveUp {
            reason: DeadReason::AmbiguousContact,
            destination: Some(Destination::SystemOfRecord),
            status: None,
            detail: "more than a thousand contacts of HubSpot share this phone".to_owned(),
        })
    }

    /// Creates the person or completes the one who is there. What the contact has already stays.
    pub(super) async fn upsert(&self, log: &CallLog, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        match self.same_person(log, facts).await? {
            Some(contact) => self.complete(log, contact, facts).await,
            None => self.create_person(log, facts).await,
        }
    }

    /// Creates a person whom a search has just not found. The contacts themselves are asked for the keys, which is exact
    /// and no search.
    pub(super) async fn create(&self, log: &CallLog, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        match self.by_keys(log, &keys_of(facts)).await?.into_iter().next() {
            Some(contact) => self.complete(log, contact, facts).await,
            None => self.create_person(log, facts).await,
        }
    }

    /// Returns the contact whom these facts describe: the one with this contact id, else the one with one of the phones
    /// and no other contact id.
    async fn same_person(&self, log: &CallLog, facts: &PersonFacts) -> Result<Option<Record>, HandlerError> {
        if let Some(contact) = self.by_keys(log, &keys_of(facts)).await?.into_iter().next() {
            return Ok(Some(contact));
        }
        let is_free = |contact: &Record| {
            facts.contact_id.is_none() || contact.get(&self.properties.contact_key).is_none_or(is_key_of_phone)
        };
        for phone in &facts.phones {
            // A contact that was created or changed just now is not in the index yet, but it is linked.
            if let Some(contact) = self.linked(log, phone, &[]).await?.filter(is_free) {
                return Ok(Some(contact));
            }
            let mut found: Vec<Record> = self.by_phone(log, phone).await?.into_iter().filter(is_free).collect();
            match found.len() {
                0 => {}
                1 => return Ok(found.pop()),
                _ => {
                    return Err(HandlerError::GiveUp {
                        reason: DeadReason::AmbiguousContact,
                        destination: Some(Destination::SystemOfRecord),
                        status: None,
                        detail:
                            "several contacts of HubSpot share this phone, and none is linked to the TextUs contact; \
                                 merge them, or give one of them the contact's id, and redrive"
                                .to_owned(),
                    });
                }
            }
        }
        Ok(None)
    }

    async fn create_person(&self, log: &CallLog, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        let Some(key) =
            facts.contact_id.as_deref().map(slug).map(str::to_owned).or_else(|| facts.phones.first().map(key_of_phone))
        else {
            let detail = "a person without a contact id and a phone cannot be created".to_owned();
            return Err(failed(DestinationError::Rejected { status: 0, detail }));
        };
        let name = &self.properties.contact_key;
        let mut properties = BTreeMap::from([("lastname".to_owned(), display_name(facts, &key))]);
        properties.extend(self.fields.of(facts)?);
        // A template does not replace that by which the contact is found again.
        properties.insert(name.clone(), key.clone());
        for (phone, (typed, _)) in facts.phones.iter().zip(NUMBERS) {
            properties.insert(typed.to_owned(), phone.as_e164().to_owned());
        }
        let body = json!({ "inputs": [{ "id": key, "idProperty": name, "properties": properties }] });
        let request =
            Request::of_objects(Operation::UpsertPerson, Method::POST, "contacts/batch/upsert").with_body(body);
        let began = self.client.gate().now_ms();
        let record = match self.client.write_one(log, request.hiding(facts.name.clone())).await {
            Ok(record) => record,
            Err(error) => {
                let names: Vec<&str> = std::iter::once(name.as_str()).chain(self.fields.names()).collect();
                return Err(failed(self.of_set_up(log, began, &names, error).await));
            }
        };
        let phones = facts.phones.iter().take(NUMBERS.len()).cloned().collect();
        let person = Person {
            id: PersonId(record.id),
            contact_id: contact_id_of(&key),
            phones,
            name: facts.name.clone(),
            has_owner: false,
            created_at: record.created_at.as_deref().and_then(Timestamp::parse),
        };
        Ok(Upserted { person, created: record.is_new.unwrap_or(true), changed: true })
    }

    async fn complete(
        &self,
        log: &CallLog,
        mut contact: Record,
        facts: &PersonFacts,
    ) -> Result<Upserted, HandlerError> {
        let news = self.news(&contact, facts);
        if news.is_empty() {
            return Ok(Upserted { person: self.person(&contact), created: false, changed: false });
        }
        let path = format!("contacts/{}", segment(&contact.id).map_err(failed)?);
        let request = Request::of_objects(Operation::UpsertPerson, Method::PATCH, &path)
            .with_body(json!({ "properties": news }))
            .hiding(facts.name.clone());
        let key = &self.properties.contact_key;
        let began = self.client.gate().now_ms();
        match self.client.make(log, request).await {
            Ok(_) => {}
            // Another contact may have got the key meanwhile; the next attempt finds that one.
            Err(error) if is_refusal(&error) && self.has_key(log, facts).await? => {
                return Err(HandlerError::TryAgain {
                    after: std::time::Duration::from_secs(1),
                    destination: Destination::SystemOfRecord,
                    why: "another contact of HubSpot was linked meanwhile",
                });
            }
            Err(error) => return Err(failed(self.of_set_up(log, began, &[key], error).await)),
        }
        contact.properties.extend(news.into_iter().map(|(name, value)| (name, Some(value))));
        Ok(Upserted { person: self.person(&contact), created: false, changed: true })
    }

    /// Returns whether a contact is there with the contact id of these facts.
    async fn has_key(&self, log: &CallLog, facts: &PersonFacts) -> Result<bool, HandlerError> {
        let keys = facts.contact_id.as_deref().map(keys_of_contact).unwrap_or_default();
        Ok(!self.by_keys(log, &keys).await?.is_empty())
    }

    /// Returns what the facts add to a contact. A number goes into the property that is free; a third one has no place.
    fn news(&self, contact: &Record, facts: &PersonFacts) -> BTreeMap<String, String> {
        let mut news = BTreeMap::new();
        let key = &self.properties.contact_key;
        let has_contact = contact.get(key).is_some_and(|value| !is_key_of_phone(value));
        if let Some(contact_id) = facts.contact_id.as_deref().filter(|_| !has_contact) {
            news.insert(key.clone(), slug(contact_id).to_owned());
        }
        let known = numbers(contact);
        let mut free = NUMBERS.iter().map(|(typed, _)| *typed).filter(|typed| contact.get(typed).is_none());
        for phone in facts.phones.iter().filter(|phone| !known.contains(phone)) {
            if let Some(typed) = free.next() {
                news.insert(typed.to_owned(), phone.as_e164().to_owned());
            }
        }
        // A contact whom nobody named has a number for a name, which may be ours.
        let is_nameless = contact.get("firstname").is_none()
            && contact
                .get("lastname")
                .is_none_or(|name| Phone::parse(name).is_some_and(|phone| known.contains(&phone)));
        if let Some(name) = facts.name.as_deref().filter(|name| is_nameless && !name.trim().is_empty()) {
            news.insert("lastname".to_owned(), name.to_owned());
        }
        news
    }

    pub(super) fn person(&self, contact: &Record) -> Person {
        let name: Vec<&str> = ["firstname", "lastname"].iter().filter_map(|part| contact.get(part)).collect();
        Person {
            id: PersonId(contact.id.clone()),
            contact_id: contact.get(&self.properties.contact_key).and_then(contact_id_of),
            phones: numbers(contact),
            name: (!name.is_empty()).then(|| name.join(" ")),
            has_owner: contact.get("hubspot_owner_id").is_some(),
            created_at: contact.created_at.as_deref().and_then(Timestamp::parse),
        }
    }

    fn person_properties(&self) -> Vec<&str> {
        let numbers = NUMBERS.iter().flat_map(|(typed, computed)| [*typed, *computed]);
        let others = [self.properties.contact_key.as_str(), "firstname", "lastname", "hubspot_owner_id"];
        others.into_iter().chain(numbers).collect()
    }
}

/// Returns the numbers of a contact. HubSpot's computed form knows the contact's country, so it counts before a typed
/// one without a country code.
pub(super) fn numbers(contact: &Record) -> Vec<Phone> {
    let mut found = Vec::new();
    for (typed, computed) in NUMBERS {
        let (typed, computed) = (contact.get(typed), contact.get(computed));
        let international = typed.filter(|typed| typed.contains('+')).and_then(Phone::parse);
        let number = international.or_else(|| Phone::parse(computed?)).or_else(|| Phone::parse(typed?));
        found.extend(number.filter(|number| !found.contains(number)));
    }
    found
}

/// Whether a number can be the contact's: it is there, or there is no place for it.
fn may_have(contact: &Record, phone: &Phone) -> bool {
    let has_no_place = NUMBERS.iter().all(|(typed, _)| contact.get(typed).is_some());
    has_no_place || numbers(contact).contains(phone)
}

/// Returns a record's id as a segment of a path.
pub(super) fn segment(id: &str) -> Result<String, DestinationError> {
    let detail = || "an id that cannot be part of a path".to_owned();
    Ok(Segment::new(id).ok_or_else(|| DestinationError::Rejected { status: 0, detail: detail() })?.encoded())
}

fn slug(contact_id: &str) -> &str {
    contact_id.strip_prefix(CONTACTS).unwrap_or(contact_id)
}

/// Returns the forms in which a contact's id may have been entered.
fn keys_of_contact(contact_id: &str) -> Vec<String> {
    let slug = slug(contact_id);
    vec![slug.to_owned(), format!("{CONTACTS}{slug}")]
}

fn key_of_phone(phone: &Phone) -> String {
    format!("{BY_PHONE}{}", phone.as_e164())
}

fn is_key_of_phone(key: &str) -> bool {
    key.starts_with(BY_PHONE)
}

fn contact_id_of(key: &str) -> Option<String> {
    (!is_key_of_phone(key)).then(|| format!("{CONTACTS}{}", slug(key)))
}

/// Returns the keys by which a person of these facts may be known, that of the TextUs contact first.
fn keys_of(facts: &PersonFacts) -> Vec<String> {
    let mut keys = facts.contact_id.as_deref().map(keys_of_contact).unwrap_or_default();
    keys.extend(facts.phones.iter().map(key_of_phone));
    keys
}

/// HubSpot requires a name or an e-mail address.
fn display_name(facts: &PersonFacts, key: &str) -> String {
    let name = facts.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let phone = facts.phones.first().map(Phone::as_e164);
    name.or(phone).unwrap_or(key).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_belongs_to_the_contacts_country() {
        for (typed, computed, expected) in [
            (Some("207 946 0958"), Some("+442079460958"), Some("+442079460958")),
            (Some("207 946 0958"), None, Some("+12079460958")),
            (Some("+442079460958"), None, Some("+442079460958")),
            (Some("+442079460958"), Some("+12079460958"), Some("+442079460958")),
            (Some("ask her"), None, None),
            (None, None, None),
        ] {
            let properties = [("phone", typed), ("hs_calculated_phone_number", computed)];
            let properties = properties.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).into();
            let contact = Record { id: "1".to_owned(), properties, created_at: None, is_new: None };

            let found = numbers(&contact);

            assert_eq!(found.first().map(Phone::as_e164), expected, "{typed:?} {computed:?}");
        }
    }
}
