//! People as TextUs knows them: contacts and their numbers
//! (<https://apidocs.next.textus.com/docs/contacts/create-contact/>,
//! <https://apidocs.next.textus.com/docs/contact_phones/index/>).

use hookline_common::phone::Phone;
use serde::Deserialize;
use serde_json::Value;

use super::links::{Collection, Link, text, text_or_number};
use crate::destinations::redact::debug_by_id;
use crate::destinations::segment::Segment;

pub const CONTACTS: &str = "/contacts/";
/// The type of a phone that names none.
const DEFAULT_PHONE_TYPE: &str = "Mobile";

/// A contact's id, and its name if the answer held it.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedContact {
    pub id: Segment,
    pub name: Option<String>,
}

impl NamedContact {
    /// Returns the id as TextUs writes it: `/contacts/…`.
    #[must_use]
    pub fn raw_id(&self) -> String {
        self.id.under(CONTACTS)
    }

    pub(super) fn read(link: &Link<Contact>) -> Result<Option<Self>, NotASegment> {
        let (id, name) = match link {
            Link::Absent => return Ok(None),
            Link::Path(path) => (path, None),
            Link::Here(contact) => (&contact.id, contact.name.clone()),
        };
        let id = Segment::from_path(CONTACTS, id).ok_or(NotASegment)?;
        Ok(Some(Self { id, name }))
    }
}

/// An id in an answer or payload that isn't a single segment of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is not one segment of a path")]
pub struct NotASegment;

/// A person as TextUs knows them.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// The id, usually as `/contacts/…`.
    pub id: String,
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    #[serde(default)]
    phones: Link<Collection<Link<ContactPhone>>>,
    /// Free-form.
    #[serde(default)]
    pub data: Value,
}

impl Contact {
    /// Returns the id as TextUs writes it, `/contacts/…`, even if the answer held the bare slug.
    #[must_use]
    pub fn raw_id(&self) -> String {
        self.segment().map_or_else(|| self.id.clone(), |id| id.under(CONTACTS))
    }

    #[must_use]
    pub fn segment(&self) -> Option<Segment> {
        Segment::from_path(CONTACTS, &self.id)
    }

    #[must_use]
    pub fn phones(&self) -> PhonesRef {
        match &self.phones {
            Link::Absent => PhonesRef::None,
            Link::Path(_) => PhonesRef::Link,
            Link::Here(phones) => {
                let here: Vec<&ContactPhone> = phones.members.iter().filter_map(Link::here).collect();
                if !phones.is_whole() || here.len() != phones.members.len() {
                    return PhonesRef::Link;
                }
                PhonesRef::Known(Numbers::of(here))
            }
        }
    }
}

/// The phones of a contact, as far as one answer or payload tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhonesRef {
    Known(Numbers),
    /// The phones are elsewhere, or not all of them are here.
    Link,
    None,
}

/// The numbers of a contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Each number once, with its type (`Mobile`, `Work`), in the sender's order.
    pub usable: Vec<(Phone, String)>,
    /// How many numbers can't be read. The count keeps any from being dropped silently.
    pub unreadable: usize,
}

impl Numbers {
    pub(super) fn of<'a>(phones: impl IntoIterator<Item = &'a ContactPhone>) -> Self {
        let mut numbers = Self::default();
        for phone in phones {
            match phone.typed() {
                // An extension isn't part of a number, so two entries may have the same number.
                Some((phone, _)) if numbers.usable.iter().any(|(known, _)| *known == phone) => {}
                Some(typed) => numbers.usable.push(typed),
                // An entry without any number loses nothing.
                None => numbers.unreadable += usize::from(phone.has_text()),
            }
        }
        numbers
    }
}

/// One number of a contact.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContactPhone {
    #[serde(default, deserialize_with = "text")]
    pub id: Option<String>,
    #[serde(default, alias = "number", deserialize_with = "text_or_number")]
    phone_number: Option<String>,
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    #[serde(default)]
    contact: Link<Contact>,
}

impl ContactPhone {
    #[must_use]
    pub fn phone(&self) -> Option<Phone> {
        self.phone_number.as_deref().and_then(Phone::parse)
    }

    /// Returns the number and its type; `None` if the text isn't a number.
    #[must_use]
    pub fn typed(&self) -> Option<(Phone, String)> {
        let kind = self.kind.as_deref().unwrap_or(DEFAULT_PHONE_TYPE);
        self.phone().map(|phone| (phone, kind.to_owned()))
    }

    fn has_text(&self) -> bool {
        self.phone_number.as_deref().is_some_and(|text| !text.trim().is_empty())
    }

    /// Returns the contact that has this number.
    #[must_use]
    pub fn contact(&self) -> Option<NamedContact> {
        NamedContact::read(&self.contact).ok().flatten()
    }
}

debug_by_id!(Contact.id, NamedContact.id, ContactPhone.id);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn phones_that_are_not_all_here_are_elsewhere() {
        let phone = json!({"phoneNumber": "+12025550147", "type": "Work"});
        let contact =
            |phones: Value| -> Contact { serde_json::from_value(json!({"id": "a", "phones": phones})).unwrap() };
        let known = Numbers { usable: vec![(Phone::parse("+12025550147").unwrap(), "Work".to_owned())], unreadable: 0 };

        assert_eq!(contact(json!({"members": [phone], "totalItems": 1})).phones(), PhonesRef::Known(known.clone()));
        assert_eq!(contact(json!([{"number": "1-202-555-0147", "type": "Work"}])).phones(), PhonesRef::Known(known));
        assert_eq!(contact(json!({"members": [phone], "totalItems": 2})).phones(), PhonesRef::Link);
        assert_eq!(contact(json!({"members": ["/contact_phones/x"], "totalItems": 1})).phones(), PhonesRef::Link);
        assert_eq!(contact(json!("/contacts/a/phones")).phones(), PhonesRef::Link);
        assert_eq!(contact(json!(null)).phones(), PhonesRef::None);
        let of_nobody = contact(json!([{"number": "nobody"}, {"number": ""}, {"number": null}])).phones();
        assert_eq!(of_nobody, PhonesRef::Known(Numbers { usable: Vec::new(), unreadable: 1 }));
    }

    #[test]
    fn a_person_is_shown_by_id_only() {
        let contact: Contact = serde_json::from_value(json!({"id": "/contacts/a", "name": "Marisol"})).unwrap();

        assert_eq!(format!("{contact:?}"), r#"Contact { id: "/contacts/a", .. }"#);
    }
}
