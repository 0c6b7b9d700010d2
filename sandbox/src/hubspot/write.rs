//! What the vendor checks before it writes: known keys, known properties, values of their kind, required properties,
//! unique values. Nothing is written unless everything holds.

use serde_json::{Map, Value};

use super::account::Account;
use super::error::{self, ErrorDetail};
use super::object::HubSpotObject;
use super::record::Properties;
use crate::answer::Answer;

/// Returns the object that a body is, if it has no keys but these.
pub(crate) fn object_of<'a>(value: &'a Value, keys: &[&str]) -> Result<&'a Map<String, Value>, Answer> {
    let fields = value.as_object().ok_or_else(|| error::improper(400, "an object was expected"))?;
    match fields.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(error::improper(400, format!("there is no key {key}"))),
        None => Ok(fields),
    }
}

/// Returns a required key's text.
pub(crate) fn text_of<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a str, Answer> {
    let text = fields.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| error::improper(400, format!("{key} is required, as a text")))
}

/// Returns a required key's members.
pub(crate) fn members_of<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], Answer> {
    let members = fields.get(key).and_then(Value::as_array).map(Vec::as_slice);
    members.ok_or_else(|| error::improper(400, format!("{key} is required, as an array")))
}

/// Reads `properties` and checks them against the account's schema. Values are texts, as the interface descriptions
/// declare them.
pub(crate) fn properties_of(
    account: &Account,
    object: HubSpotObject,
    fields: &Map<String, Value>,
) -> Result<Properties, Answer> {
    let given = fields.get("properties").and_then(Value::as_object);
    let given = given.ok_or_else(|| error::improper(400, "properties is required, as an object"))?;
    let mut stored = Properties::new();
    let mut errors = Vec::new();
    for (name, value) in given {
        let Some(value) = value.as_str() else {
            return Err(error::improper(400, format!("the value of {name} is not a text")));
        };
        match account.schema(object).properties.get(name) {
            None => {
                let message = format!("Property \"{name}\" does not exist");
                errors.push(ErrorDetail::about(name, "PROPERTY_DOESNT_EXIST", message));
            }
            Some(property) if property.is_read_only => {
                let message = format!("\"{name}\" is a read only property; its value cannot be set.");
                errors.push(ErrorDetail::about(name, "READ_ONLY_VALUE", message));
            }
            Some(_) if name == "hubspot_owner_id" && !value.is_empty() && !account.can_own(value) => {
                let message = format!("{value} was not a valid owner of this account.");
                errors.push(ErrorDetail::about(name, "INVALID_OWNER_ID", message));
            }
            Some(property) => match property.stored(value) {
                Ok(value) => drop(stored.insert(name.clone(), value)),
                Err((code, message)) => errors.push(ErrorDetail::about(name, code, message)),
            },
        }
    }
    if errors.is_empty() { Ok(stored) } else { Err(error::invalid_values(&errors)) }
}

/// Checks that a record has after the write what its kind needs.
pub(crate) fn check_required(object: HubSpotObject, after: &Properties) -> Result<(), Answer> {
    let lacks = |name: &&str| after.get(*name).is_none_or(String::is_empty);
    let missing: Vec<&str> = match object {
        HubSpotObject::Contact => {
            let any = ["email", "firstname", "lastname"];
            if any.iter().all(lacks) { any.to_vec() } else { Vec::new() }
        }
        HubSpotObject::Communication => {
            ["hs_communication_channel_type", "hs_communication_logged_from"].into_iter().filter(lacks).collect()
        }
        HubSpotObject::Note => ["hs_timestamp"].into_iter().filter(lacks).collect(),
    };
    if missing.is_empty() { Ok(()) } else { Err(error::missing_properties(object, &missing)) }
}

/// Checks that no other record has one of these values of a unique property. `id` is `None` for a new record.
pub(crate) fn check_unique(
    account: &Account,
    object: HubSpotObject,
    id: Option<u64>,
    values: &Properties,
) -> Result<(), Answer> {
    if !account.keeps_unique(object) {
        return Ok(());
    }
    for (name, value) in
        values.iter().filter(|(name, value)| account.schema(object).is_unique(name) && !value.is_empty())
    {
        if let Some(other) = account.find_by(object, name, value).filter(|other| Some(*other) != id) {
            let named = (id.map_or("0".to_owned(), |id| id.to_string()), other.to_string());
            return Err(error::taken(account.options.unique_conflict_status, name, value, (&named.0, &named.1)));
        }
    }
    Ok(())
}
