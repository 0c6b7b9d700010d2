//! Reads the body of a create or an update, and checks it as Salesforce does: fields, values, references, then what
//! the org requires of the whole record, then its rules.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::api::Call;
use super::object::SalesforceObject;
use super::options::DeletedIds;
use super::org::Org;
use super::record::{Fields, Record};
use super::{error, rules};
use crate::answer::Answer;

/// Checks a write of these fields, of a new record or of the one that has this id. Returns what is to be stored;
/// `Null` clears a field.
pub(crate) fn check(
    org: &Org,
    object: SalesforceObject,
    id: Option<&str>,
    body: &Map<String, Value>,
    call: &Call,
) -> Result<Fields, Answer> {
    if !object.is_writable() || org.options.read_only_objects.contains(&object) {
        let message = format!("insufficient access rights on object id: {}", id.unwrap_or(object.name()));
        return Err(error::refused(403, "INSUFFICIENT_ACCESS_OR_READONLY", message));
    }
    let fields = read(org, object, id.is_none(), body)?;
    check_references(org, &fields, object)?;
    let mut after = before(org, object, id);
    after.extend(fields.clone());
    after.retain(|_, value| !value.is_null());
    check_required(org, object, id.is_none(), &fields, &after)?;
    check_unique(org, object, id, &fields)?;
    rules::check_duplicates(org, object, id, &after, (&call.route.version, call.allows_duplicates))?;
    rules::check_validation(org, object, &after)?;
    Ok(fields)
}

/// Reads the fields and checks each value on its own.
fn read(org: &Org, object: SalesforceObject, is_create: bool, body: &Map<String, Value>) -> Result<Fields, Answer> {
    let schema = org.schema(object);
    let mut given = BTreeMap::new();
    for (name, value) in body.iter().filter(|(name, _)| *name != "attributes") {
        let Some(field) = schema.field(name) else {
            let message = format!("No such column '{name}' on sobject of type {object}");
            return Err(error::refused(400, "INVALID_FIELD", message));
        };
        given.insert(field.name.clone(), (field, value));
    }
    if given.contains_key("Id") {
        let refusal = error::refused(400, "INVALID_FIELD", "The Id field should not be specified in the sobject data.");
        return Err(error::violating(refusal, "the body has an Id"));
    }
    let refused: Vec<&str> = given
        .values()
        .filter(|(field, _)| if is_create { !field.createable } else { !org.is_updateable(object, field) })
        .map(|(field, _)| field.name.as_str())
        .collect();
    if !refused.is_empty() {
        let message = format!(
            "Unable to create/update fields: {}. Please check the security settings of this field and verify that it is \
             read/write for your profile or permission set.",
            refused.join(", ")
        );
        return Err(error::refused_write("INVALID_FIELD_FOR_INSERT_UPDATE", message, &refused));
    }
    given.into_iter().map(|(name, (field, value))| Ok((name, field.stored(value)?))).collect()
}

/// The fields of the record as it is before the write, for a new one its defaults.
fn before(org: &Org, object: SalesforceObject, id: Option<&str>) -> Fields {
    match id.and_then(|id| org.record(id)) {
        Some(record) => record.fields.clone(),
        None => org
            .schema(object)
            .fields
            .iter()
            .filter_map(|field| Some((field.name.clone(), field.default.clone()?)))
            .collect(),
    }
}

fn check_references(org: &Org, fields: &Fields, object: SalesforceObject) -> Result<(), Answer> {
    for (name, value) in fields {
        let Some(id) = value.as_str() else { continue };
        let record = org.record(id);
        match name.as_str() {
            "WhoId" => check_who(org, record)?,
            "OwnerId" => check_owner(record, object, id)?,
            "RecordTypeId" => {
                let is_right = |record: &Record| {
                    record.text("SobjectType") == object.name() && record.value("IsActive") == json!(true)
                };
                if !record.is_some_and(is_right) {
                    let message = format!("Record Type ID: this ID value isn't valid for the user: {id}");
                    return Err(error::refused_write("INVALID_CROSS_REFERENCE_KEY", message, &["RecordTypeId"]));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_who(org: &Org, record: Option<&Record>) -> Result<(), Answer> {
    let unknown = || error::refused_write("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", &[]);
    let record = record.ok_or_else(unknown)?;
    if record.deleted {
        return Err(match org.options.deleted_ids {
            DeletedIds::EntityIsDeleted => error::refused_write("ENTITY_IS_DELETED", "entity is deleted", &[]),
            DeletedIds::NotFound => unknown(),
        });
    }
    if record.value("IsConverted") == json!(true) {
        let message = "cannot reference converted lead";
        return Err(error::refused_write("CANNOT_UPDATE_CONVERTED_LEAD", message, &[]));
    }
    Ok(())
}

fn check_owner(record: Option<&Record>, object: SalesforceObject, id: &str) -> Result<(), Answer> {
    match record {
        None => Err(error::refused_write("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", &[])),
        Some(record) if record.value("IsActive") != json!(true) => {
            let message =
                format!("operation performed with inactive user [{id}] as owner of {}", object.name().to_lowercase());
            Err(error::refused_write("INACTIVE_OWNER_OR_USER", message, &[]))
        }
        Some(_) => Ok(()),
    }
}

/// Checks that the record has after the write what its kind and the org need.
fn check_required(
    org: &Org,
    object: SalesforceObject,
    is_create: bool,
    written: &Fields,
    after: &Fields,
) -> Result<(), Answer> {
    let is_missing = |name: &str| !after.contains_key(name) && (is_create || written.contains_key(name));
    let fields = org.schema(object).fields.iter();
    let missing: Vec<&str> = fields
        .filter(|field| !field.nillable && field.createable && is_missing(&field.name))
        .map(|field| field.name.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("Required fields are missing: [{}]", missing.join(", "));
    Err(error::refused_write("REQUIRED_FIELD_MISSING", message, &missing))
}

/// Checks that no other record has one of these values of a unique field.
fn check_unique(org: &Org, object: SalesforceObject, id: Option<&str>, fields: &Fields) -> Result<(), Answer> {
    for (name, value) in fields {
        let Some(field) = org.schema(object).field(name).filter(|field| field.unique) else { continue };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if value.is_null() {
            continue;
        }
        if let Some(other) = org.find_by(object, field, &text).into_iter().find(|other| Some(other.as_str()) != id) {
            return Err(error::taken(name, &other));
        }
    }
    Ok(())
}
