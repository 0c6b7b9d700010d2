//! Queries and searches, and the records that they answer
//! (<https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select.htm>).

use hookline_common::names::Operation;
use hookline_common::phone::Phone;
use hookline_common::settings::SalesforceObject;
use hookline_common::time::Timestamp;
use reqwest::Method;
use serde_json::{Map, Value};

use super::client::Request;
use crate::destinations::segment::encode;

/// A record of any object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// With 18 characters.
    pub(super) id: String,
    fields: Map<String, Value>,
}

impl Record {
    /// Reads an object of an answer; `None` if it has no id.
    pub(super) fn of(value: Value) -> Option<Self> {
        let Value::Object(fields) = value else { return None };
        let id = long_id(fields.get("Id")?.as_str()?)?;
        Some(Self { id, fields })
    }

    /// Returns the text in a field; `None` if it is empty.
    pub(super) fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    pub(super) fn is_set(&self, field: &str) -> bool {
        self.fields.get(field) == Some(&Value::Bool(true))
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    pub(super) fn time(&self, field: &str) -> Option<Timestamp> {
        time(self.get(field)?)
    }

    pub(super) fn set(&mut self, field: String, value: Value) {
        self.fields.insert(field, value);
    }
}

/// Returns the call of a query. Its conditions hold numbers and addresses, so logs show the object only.
pub(super) fn query(operation: Operation, fields: &[&str], object: &str, conditions: &str) -> Request {
    query_of("query", operation, fields, object, conditions)
}

/// Does the same as [`query`], and also finds records that were deleted or merged.
pub(super) fn query_all(operation: Operation, fields: &[&str], object: &str, conditions: &str) -> Request {
    query_of("queryAll", operation, fields, object, conditions)
}

fn query_of(resource: &str, operation: Operation, fields: &[&str], object: &str, conditions: &str) -> Request {
    let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {conditions}") };
    let soql = format!("SELECT {} FROM {object}{condition}", fields.join(", "));
    let path = format!("{resource}/?q={}", encode(&soql));
    Request::new(operation, Method::GET, path).shown_as(format!("{resource}/?q=SELECT … FROM {object}"))
}

/// Returns a text as a literal. Nothing in it can end the literal.
pub(super) fn literal(text: &str) -> String {
    let mut literal = String::from("'");
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '\'' | '\\') {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal.push('\'');
    literal
}

/// Returns the condition that a field has one of these values.
pub(super) fn is_one_of(field: &str, values: &[String]) -> String {
    let literals: Vec<String> = values.iter().map(|value| literal(value)).collect();
    match literals.as_slice() {
        [one] => format!("{field} = {one}"),
        _ => format!("{field} IN ({})", literals.join(", ")),
    }
}

/// Returns the usual ways to write a number. A query compares texts, and is not behind as a search is.
pub(super) fn forms(phone: &Phone) -> Vec<String> {
    let (e164, digits, national) = (phone.as_e164(), phone.digits(), phone.national_digits());
    let Some(ten) = phone.plus_one() else {
        let code = digits.strip_suffix(national).unwrap_or_default();
        let spaced = phone.spaced();
        return vec![
            e164.to_owned(),
            digits.to_owned(),
            format!("+{code} {national}"),
            format!("00{digits}"),
            spaced.replace(' ', "-"),
            spaced,
        ];
    };
    let (area, exchange, line) = (&ten[..3], &ten[3..6], &ten[6..]);
    vec![
        e164.to_owned(),
        digits.to_owned(),
        ten.to_owned(),
        // Salesforce's own pages write ten digits so.
        format!("({area}) {exchange}-{line}"),
        format!("{area}-{exchange}-{line}"),
        format!("{area}.{exchange}.{line}"),
        format!("{area} {exchange} {line}"),
        format!("1-{area}-{exchange}-{line}"),
        format!("1 ({area}) {exchange}-{line}"),
        format!("+1 ({area}) {exchange}-{line}"),
        format!("+1 {area}-{exchange}-{line}"),
        format!("+1-{area}-{exchange}-{line}"),
        format!("+1 {area} {exchange} {line}"),
    ]
}

/// Returns the term of a search for a number. Ten digits match however the number was written, with or without its
/// country (<https://developer.salesforce.com/docs/platform/api-rest/guide/dome-search.md>). Fewer digits would match too
/// much or nothing, so they have their country before them.
pub(super) fn search_term(phone: &Phone) -> &str {
    let national = phone.national_digits();
    if national.len() >= 10 { national } else { phone.digits() }
}

/// Returns the kind of person that an id names.
pub(super) fn object_of(id: &str) -> Option<SalesforceObject> {
    match id.get(..3)? {
        "003" => Some(SalesforceObject::Contact),
        "00Q" => Some(SalesforceObject::Lead),
        _ => None,
    }
}

/// Returns an id with 18 characters, of which the last three tell upper from lower case; `None` if it is no id
/// (<https://developer.salesforce.com/docs/platform/object-reference/guide/field-types.html>).
pub(super) fn long_id(text: &str) -> Option<String> {
    const CHECKSUM: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
    let is_id = matches!(text.len(), 15 | 18) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_id {
        return None;
    }
    let mut long = text[..15].to_owned();
    for part in text.as_bytes()[..15].chunks(5) {
        let upper = part.iter().enumerate().filter(|(_, byte)| byte.is_ascii_uppercase());
        let sum: usize = upper.map(|(at, _)| 1 << at).sum();
        long.push(char::from(CHECKSUM[sum]));
    }
    (text.len() == 15 || text == long).then_some(long)
}

/// Reads a date and time as Salesforce answers it: `2026-11-02T15:04:05.000+0000`.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|| {
        let (rest, minutes) = text.split_at_checked(text.len().checked_sub(2)?)?;
        Timestamp::parse(&format!("{rest}:{minutes}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_ends_its_literal() {
        for (text, expected) in [
            ("AbC123", r"'AbC123'"),
            ("O'Neil", r"'O\'Neil'"),
            (r"a\", r"'a\\'"),
            ("' OR Name != '", r"'\' OR Name != \''"),
            ("a\nb", "'ab'"),
        ] {
            assert_eq!(literal(text), expected);
        }
        assert_eq!(is_one_of("K__c", &["a".to_owned()]), "K__c = 'a'");
        assert_eq!(is_one_of("K__c", &["a".to_owned(), "b".to_owned()]), "K__c IN ('a', 'b')");
    }

    #[test]
    fn every_form_of_a_number_is_that_number() {
        for number in ["+14155550123", "+442079460958", "+35315550123"] {
            let phone = Phone::parse(number).unwrap();
            let forms = forms(&phone);
            assert!(forms[0] == number && forms.len() >= 4, "{forms:?}");
            for form in forms.iter().filter(|form| form.contains('+') || number.starts_with("+1")) {
                assert_eq!(Phone::parse(form).as_ref(), Some(&phone), "{form}");
            }
        }
        for (number, term) in
            [("+14155550123", "4155550123"), ("+442079460958", "2079460958"), ("+6561234567", "6561234567")]
        {
            assert_eq!(search_term(&Phone::parse(number).unwrap()), term);
        }
    }

    #[test]
    fn ids_of_both_lengths_are_one() {
        for id in ["00190000001pPvHAAU", "001D000000IqhSLIAZ", "003D000000QV9n2IAD"] {
            assert_eq!(long_id(&id[..15]).as_deref(), Some(id));
            assert_eq!(long_id(id).as_deref(), Some(id));
        }
        for text in ["", "003D000000QV9n2IAX", "003D000000QV9n2/..", "003"] {
            assert_eq!(long_id(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_read_in_both_forms() {
        let at = Timestamp::parse("2026-11-02T15:04:05Z");
        for text in ["2026-11-02T15:04:05.000+0000", "2026-11-02T15:04:05.000Z", "2026-11-02T10:04:05.000-0500"] {
            assert_eq!(time(text), at, "{text}");
        }
        for text in ["", "é", "2026-11-02", "tomorrow"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
