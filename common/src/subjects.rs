//! Reads whom an event is about from the fields that say so: the numbers and contacts of its conversation, its opt-out
//! or its contact. What somebody wrote in a text does not count, nor do our own numbers.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::json;
use crate::phone::Phone;

/// The people that an event's own fields name.
#[derive(Default)]
pub struct Subjects {
    pub phones: BTreeSet<Phone>,
    /// The last segments of contacts' paths: `Vx9kQ2` of `/contacts/Vx9kQ2`.
    pub contacts: BTreeSet<String>,
    /// The numbers of the accounts themselves.
    pub business: BTreeSet<Phone>,
    /// The body is not a JSON object, even after mending: no field can say whom it is about.
    pub is_unreadable: bool,
}

impl Subjects {
    /// Reads the body of an event of any type.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let mut subjects = Self::default();
        let Some(body) = json::read(body).filter(Value::is_object) else {
            subjects.is_unreadable = true;
            return subjects;
        };
        subjects.conversation(&body["conversation"]);
        subjects.opt_out(&body["optOut"]);
        subjects.contact(&body["contact"]);
        if body["@type"] == "Contact" {
            subjects.contact(&body);
        }
        subjects
    }

    fn conversation(&mut self, said: &Value) {
        self.phones.extend(first_phone(said, &["phoneNumber", "formattedPhoneNumber"]));
        self.business.extend(first_phone(said, &["accountPhoneNumber", "formattedAccountPhoneNumber"]));
        if said["assignedContact"].is_null() {
            // If several contacts share a number, the conversation belongs to none of them in particular.
            if let Some([only]) = members(&said["associatedContacts"]) {
                self.contact_id(only);
            }
        } else {
            self.contact_id(&said["assignedContact"]);
        }
    }

    fn opt_out(&mut self, said: &Value) {
        let in_id = || said["id"].as_str().and_then(|id| id.split_once("/opt_outs/"));
        let by_id = || in_id().and_then(|(_account, number)| Phone::parse(number));
        self.phones.extend(first_phone(said, &["phoneNumber", "formattedPhoneNumber"]).or_else(by_id));
    }

    fn contact(&mut self, said: &Value) {
        self.contact_id(said);
        for one in members(&said["phones"]).unwrap_or_default() {
            self.phones.extend(first_phone(one, &["phoneNumber", "number", "formattedPhoneNumber"]));
        }
    }

    /// Adds a contact from the contact itself or from its path.
    fn contact_id(&mut self, link: &Value) {
        let id = link.as_str().or_else(|| link["id"].as_str());
        self.contacts.extend(id.and_then(contact_slug).map(str::to_owned));
    }
}

/// The last segment of a contact's path; `None` if it is empty.
#[must_use]
pub fn contact_slug(id: &str) -> Option<&str> {
    id.rsplit('/').next().filter(|slug| !slug.is_empty())
}

/// The first of these fields that can be read as a number. The others are other forms of it, and could name somebody
/// else: ten digits of a number from abroad, for example.
fn first_phone(said: &Value, names: &[&str]) -> Option<Phone> {
    names.iter().find_map(|name| phone(&said[*name]))
}

fn phone(said: &Value) -> Option<Phone> {
    match said {
        Value::String(text) => Phone::parse(text),
        Value::Number(number) => Phone::of_number(number),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The members of a collection, or of a plain list.
fn members(collection: &Value) -> Option<&[Value]> {
    collection.as_array().or_else(|| collection["members"].as_array()).map(Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
        let Subjects { phones, contacts, business, is_unreadable: _ } = Subjects::of(body.as_bytes());
        let texts = |phones: BTreeSet<Phone>| phones.iter().map(|phone| phone.as_e164().to_owned()).collect();
        (texts(phones), contacts.into_iter().collect(), texts(business))
    }

    #[test]
    fn whom_an_event_is_about_is_told_by_its_own_fields() {
        const THEM: &str = "+12025550147";
        const US: &str = "+18005550100";
        for (body, phones, contacts, business) in [
            (
                r#"{"conversation":{"phoneNumber":"+12025550147","accountPhoneNumber":"(800) 555-0100"}}"#,
                vec![THEM],
                vec![],
                vec![US],
            ),
            (r#"{"conversation":{"formattedPhoneNumber":"(202) 555-0147"}}"#, vec![THEM], vec![], vec![]),
            (r#"{"conversation":{"assignedContact":"/contacts/Ab1"}}"#, vec![], vec!["Ab1"], vec![]),
            (
                r#"{"conversation":{"assignedContact":{"id":"/contacts/Ab1"},"associatedContacts":["/contacts/B"]}}"#,
                vec![],
                vec!["Ab1"],
                vec![],
            ),
            (
                r#"{"conversation":{"associatedContacts":{"members":[{"id":"\/contacts\/Ab1"}]}}}"#,
                vec![],
                vec!["Ab1"],
                vec![],
            ),
            (r#"{"conversation":{"associatedContacts":["/contacts/A","/contacts/B"]}}"#, vec![], vec![], vec![]),
            (r#"{"optOut":{"phoneNumber":"+12025550147"}}"#, vec![THEM], vec![], vec![]),
            (r#"{"optOut":{"id":"/acme/opt_outs/2025550147"}}"#, vec![THEM], vec![], vec![]),
            (
                r#"{"contact":{"id":"/contacts/Ab1","phones":{"members":[{"phoneNumber":"1-202-555-0147 x3"}]}}}"#,
                vec![THEM],
                vec!["Ab1"],
                vec![],
            ),
            (r#"{"contact":{"id":"Ab1","phones":[{"number":12025550147}]}}"#, vec![THEM], vec!["Ab1"], vec![]),
            // Ten digits of a number from abroad would be somebody else's number.
            (r#"{"contact":{"id":"Ab1","phones":[{"number":2025550147}]}}"#, vec![], vec!["Ab1"], vec![]),
            (
                r#"{"optOut":{"phoneNumber":"+6561234567","id":"/acme/opt_outs/6561234567"}}"#,
                vec!["+6561234567"],
                vec![],
                vec![],
            ),
            (
                r#"{"conversation":{"phoneNumber":"+393123456789","formattedPhoneNumber":"312 345 6789"}}"#,
                vec!["+393123456789"],
                vec![],
                vec![],
            ),
            (r#"{"contact":"/contacts/Ab1"}"#, vec![], vec!["Ab1"], vec![]),
            (r#"{"@type":"Contact","id":"/contacts/Ab1"}"#, vec![], vec!["Ab1"], vec![]),
            (
                r#"{"message":{"body":"cut \ud83d"},"conversation":{"phoneNumber":"+12025550147"}}"#,
                vec![THEM],
                vec![],
                vec![],
            ),
            (r#"{"message":{"body":"call +12025550147"},"from":"+12025550147"}"#, vec![], vec![], vec![]),
            (r#"{"conversation":7,"optOut":[],"contact":{"phones":"/contacts/a/phones"}}"#, vec![], vec![], vec![]),
            ("+12025550147", vec![], vec![], vec![]),
        ] {
            let expected: [Vec<String>; 3] =
                [phones, contacts, business].map(|texts| texts.into_iter().map(str::to_owned).collect());
            let (phones, contacts, business) = read(body);
            assert_eq!([phones, contacts, business], expected, "{body}");
        }
    }

    #[test]
    fn a_body_without_fields_is_told_from_one_that_names_nobody() {
        for (body, is_unreadable) in [
            ("", true),
            ("STOP", true),
            (r#"{"conversation":{"phoneNumber":"+12025550147""#, true),
            ("2025550147", true),
            (r#"["+12025550147"]"#, true),
            ("{}", false),
            (r#"{"message":{"body":"cut \ud83d"}}"#, false),
        ] {
            assert_eq!(Subjects::of(body.as_bytes()).is_unreadable, is_unreadable, "{body}");
        }
    }
}
