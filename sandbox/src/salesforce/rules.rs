//! What an administrator may set up against a write: duplicate rules and validation rules.

use serde_json::{Value, json};

use super::error;
use super::object::SalesforceObject;
use super::org::Org;
use super::record::{Fields, Record};
use super::schema::Kind;
use crate::answer::Answer;

/// Finds records of the same kind that have the same value in one of the fields. Phone numbers are compared by their
/// digits.
#[derive(Clone, Debug)]
pub(crate) struct DuplicateRule {
    pub(crate) object: SalesforceObject,
    pub(crate) fields: Vec<String>,
    /// Whether a header of the request may override the rule.
    pub(crate) allow_save: bool,
}

/// Refuses a write after which the field's value contains the text.
#[derive(Clone, Debug)]
pub(crate) struct ValidationRule {
    pub(crate) object: SalesforceObject,
    pub(crate) field: String,
    pub(crate) text: String,
    pub(crate) message: String,
}

/// Checks a write against the duplicate rules. `after` is the record as it would be, `id` that of an existing one.
pub(crate) fn check_duplicates(
    org: &Org,
    object: SalesforceObject,
    id: Option<&str>,
    after: &Fields,
    (version, overrides): (&str, bool),
) -> Result<(), Answer> {
    for rule in org.duplicate_rules.iter().filter(|rule| rule.object == object) {
        if overrides && rule.allow_save {
            continue;
        }
        let is_alike = |record: &&Record| {
            Some(record.id.as_str()) != id && rule.fields.iter().any(|field| is_same(org, record, field, after))
        };
        let url = |record: &Record| format!("/services/data/v{version}/sobjects/{object}/{}", record.id);
        let found: Vec<Value> = org
            .live(object)
            .filter(is_alike)
            .map(|record| json!({ "attributes": { "type": object.name(), "url": url(record) }, "Id": record.id }))
            .collect();
        if !found.is_empty() {
            return Err(error::answer(400, error::duplicates_body(object.name(), &found, rule.allow_save)));
        }
    }
    Ok(())
}

fn is_same(org: &Org, record: &Record, field: &str, after: &Fields) -> bool {
    let Some(field) = org.schema(record.object).field(field) else { return false };
    let (Some(Value::String(one)), Some(Value::String(other))) =
        (record.fields.get(&field.name), after.get(&field.name))
    else {
        return false;
    };
    if field.kind == Kind::Phone { digits(one) == digits(other) } else { field.same(one, other) }
}

pub(crate) fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

pub(crate) fn check_validation(org: &Org, object: SalesforceObject, after: &Fields) -> Result<(), Answer> {
    let broken = org.validation_rules.iter().filter(|rule| rule.object == object).find(|rule| {
        let value = after.get(&rule.field).and_then(Value::as_str).unwrap_or_default();
        value.contains(&rule.text)
    });
    match broken {
        Some(rule) => {
            Err(error::refused_write("FIELD_CUSTOM_VALIDATION_EXCEPTION", &rule.message, &[rule.field.as_str()]))
        }
        None => Ok(()),
    }
}
