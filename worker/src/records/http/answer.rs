//! Reads what a receiver answers. A body is optional for every document, so that a receiver need not know people.

use hookline_common::json;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use serde_json::Value;

use crate::calls::http::unreadable;
use crate::destinations::error::DestinationError;
use crate::records::{Person, PersonId};

/// Returns the people that the receiver named. If it named none because it knows none, the person is TextUs's.
///
/// # Errors
/// `NoAnswer` if the body is a page, or its people have another form than documented. A maintenance page with status 200
/// must not make a stranger of somebody whom the receiver knows.
pub(super) fn people(
    body: &[u8],
    contact_id: Option<&str>,
    phone: Option<&Phone>,
) -> Result<Vec<Person>, DestinationError> {
    if body.trim_ascii_start().starts_with(b"<") {
        return Err(unreadable("its body is a page, not people"));
    }
    let answered = json::read(body);
    let people = answered.as_ref().and_then(|value| value.get("people")).filter(|people| !people.is_null());
    let Some(people) = people else { return Ok(vec![textus_own(contact_id, phone)]) };
    let people = people.as_array().ok_or_else(|| unreadable("its people are no list"))?;
    let mut found: Vec<Person> = Vec::new();
    for value in people {
        let person = person(value, contact_id, phone)?;
        // Whoever is asked for by number alone must have that number in full: a search finds similar ones.
        let is_asked_for = contact_id.is_some() || phone.is_none_or(|phone| person.phones.contains(phone));
        if is_asked_for && !found.iter().any(|known| known.id == person.id) {
            found.push(person);
        }
    }
    Ok(found)
}

/// Returns the id from `{"person":{"id"}}`; empty if the answer is anything else.
pub(super) fn person_id(body: &[u8]) -> String {
    json::read(body).as_ref().and_then(|value| value.get("person")).and_then(id).unwrap_or_default()
}

fn person(value: &Value, contact_id: Option<&str>, phone: Option<&Phone>) -> Result<Person, DestinationError> {
    let id = id(value).ok_or_else(|| unreadable("one of its people has no id"))?;
    let phones = value.get("phones").and_then(Value::as_array).into_iter().flatten();
    let phones: Vec<Phone> = phones.filter_map(Value::as_str).filter_map(Phone::parse).collect();
    let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    // Somebody without the number was found by the contact's id.
    let by_contact = contact_id.filter(|_| phone.is_none_or(|phone| !phones.contains(phone)));
    Ok(Person {
        id: PersonId(id),
        contact_id: text("contact_id").or(by_contact).map(str::to_owned),
        phones,
        name: text("name").map(str::to_owned),
        has_owner: value.get("has_owner").and_then(Value::as_bool).unwrap_or(false),
        created_at: text("created_at").and_then(Timestamp::parse),
    })
}

/// Reads an id, which many systems have as a number.
fn id(value: &Value) -> Option<String> {
    match value.get("id")? {
        Value::String(id) => (!id.is_empty()).then(|| id.clone()),
        Value::Number(id) => Some(id.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn textus_own(contact_id: Option<&str>, phone: Option<&Phone>) -> Person {
    Person {
        id: PersonId(String::new()),
        contact_id: contact_id.map(str::to_owned),
        phones: phone.cloned().into_iter().collect(),
        name: None,
        has_owner: false,
        created_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACT: &str = "/contacts/Bn3RkQ8";

    fn phone() -> Phone {
        Phone::parse("+12025550147").unwrap()
    }

    /// The ids, and the contact ids, of those who are found.
    fn found(body: &str, contact_id: Option<&str>, phone: Option<&Phone>) -> Vec<(String, Option<String>)> {
        let people = people(body.as_bytes(), contact_id, phone).unwrap();
        people.into_iter().map(|person| (person.id.0, person.contact_id)).collect()
    }

    #[test]
    fn without_people_the_person_is_textus_own() {
        for body in ["", "ok", "{}", "null", "[]", "7", r#"{"people":null}"#, r#"{"status":"ok"}"#] {
            let people = people(body.as_bytes(), Some(CONTACT), Some(&phone())).unwrap();

            let [person] = people.as_slice() else { panic!("{body}: {} people", people.len()) };
            assert_eq!(person.id.0, "", "{body}");
            assert_eq!((person.contact_id.as_deref(), &person.phones), (Some(CONTACT), &vec![phone()]), "{body}");
        }
        assert!(people(br#"{"people":[]}"#, Some(CONTACT), None).unwrap().is_empty(), "nobody is an answer");
    }

    #[test]
    fn a_number_is_compared_in_full() {
        let body = r#"{"people":[
            {"id":"p1","phones":["+12025550147","+12025550100"],"name":"Sam Doe"},
            {"id":"p2","phones":["+442025550147"]},
            {"id":"p3"},
            {"id":"p1","phones":["+12025550147"]}
        ]}"#;

        assert_eq!(found(body, None, Some(&phone())), [("p1".to_owned(), None)]);
    }

    #[test]
    fn somebody_without_the_number_was_found_by_the_contacts_id() {
        let body = r#"{"people":[{"id":17,"phones":["+12025550100"],"name":""}]}"#;
        let expected = [("17".to_owned(), Some(CONTACT.to_owned()))];

        assert_eq!(found(body, Some(CONTACT), Some(&phone())), expected);
        assert_eq!(found(body, Some(CONTACT), None), expected);
    }

    #[test]
    fn people_of_another_form_are_no_answer() {
        for body in [
            "<html>Back soon</html>",
            "\n <!doctype html>",
            r#"{"people":{}}"#,
            r#"{"people":"none"}"#,
            r#"{"people":[{"phones":["+12025550147"]}]}"#,
            r#"{"people":[{"id":""}]}"#,
            r#"{"people":[{"id":null}]}"#,
            r#"{"people":["p1"]}"#,
        ] {
            let Err(error) = people(body.as_bytes(), None, Some(&phone())) else { panic!("{body}") };
            assert!(matches!(error, DestinationError::NoAnswer { .. }), "{body}: {error}");
        }
    }

    #[test]
    fn an_id_is_read_where_the_answer_has_one() {
        for (body, expected) in [
            (r#"{"person":{"id":"p1"}}"#, "p1"),
            (r#"{"person":{"id":17}}"#, "17"),
            (r#"{"person":{"id":null}}"#, ""),
            (r#"{"person":{}}"#, ""),
            (r#"{"id":"p1"}"#, ""),
            ("created", ""),
            ("", ""),
        ] {
            assert_eq!(person_id(body.as_bytes()), expected, "{body}");
        }
    }
}
