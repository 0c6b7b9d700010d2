//! Lists and makes properties and their groups.
//! <https://developers.hubspot.com/docs/api-reference/crm-properties-v3/guide>

use serde_json::{Value, json};

use super::account::Account;
use super::api::Call;
use super::object::HubSpotObject;
use super::schema::{Kind, Property};
use super::{error, write};
use crate::answer::Answer;

/// The most unique properties per kind of object.
const MAX_UNIQUE: usize = 10;
const MAX_NAME: usize = 100;

/// The keys of a new property that the vendor's pages name.
const KEYS: [&str; 15] = [
    "name",
    "label",
    "type",
    "fieldType",
    "groupName",
    "description",
    "options",
    "hasUniqueValue",
    "hidden",
    "formField",
    "displayOrder",
    "externalOptions",
    "referencedObjectType",
    "calculationFormula",
    "dataSensitivity",
];

pub(crate) fn list(account: &Account, object: HubSpotObject, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&["archived", "dataSensitivity", "properties", "locale"])?;
    let properties = &account.schema(object).properties;
    let results: Vec<Value> = properties.iter().map(|(name, property)| property.body(name)).collect();
    Ok(error::answer(200, json!({ "results": results })))
}

pub(crate) fn get(account: &Account, object: HubSpotObject, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&["archived", "dataSensitivity", "properties", "locale"])?;
    let name = call.route.id();
    let property = account.schema(object).properties.get(name).ok_or_else(error::absent)?;
    Ok(error::answer(200, property.body(name)))
}

pub(crate) fn create(account: &mut Account, object: HubSpotObject, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&[])?;
    let fields = write::object_of(&call.body, &KEYS)?;
    let name = write::text_of(fields, "name")?;
    let (label, field_type) = (write::text_of(fields, "label")?, write::text_of(fields, "fieldType")?);
    let (type_name, group) = (write::text_of(fields, "type")?, write::text_of(fields, "groupName")?);
    if !is_name(name) {
        return Err(error::improper(400, format!("{name} is no name for a property")));
    }
    let kind = Kind::named(type_name).filter(|kind| kind.goes_with(field_type));
    let kind = kind.ok_or_else(|| error::improper(400, format!("{type_name} does not go with {field_type}")))?;
    let is_unique = fields.get("hasUniqueValue").is_some_and(|flag| flag == &json!(true));
    if is_unique && !matches!(kind, Kind::Text | Kind::Number) {
        return Err(error::improper(400, format!("a property of type {type_name} has no unique values")));
    }
    let options: Vec<String> =
        fields.get("options").and_then(Value::as_array).into_iter().flatten().map(option).collect();
    if options.is_empty() && kind == Kind::Enumeration {
        return Err(error::improper(400, "an enumeration needs options"));
    }
    let schema = account.schema(object);
    if schema.properties.contains_key(name) {
        let message = format!("A property named '{name}' already exists.");
        return Err(error::refused(409, "OBJECT_ALREADY_EXISTS", message));
    }
    if !schema.groups.contains_key(group) {
        let message = format!("Property group '{group}' does not exist");
        return Err(error::refused(400, "VALIDATION_ERROR", message));
    }
    check_unique_flag(account, object, is_unique)?;
    let property = Property {
        label: label.to_owned(),
        kind,
        field_type: field_type.to_owned(),
        group: group.to_owned(),
        options,
        is_unique,
        is_read_only: false,
        is_custom: true,
    };
    let body = property.body(name);
    account.schema_mut(object).properties.insert(name.to_owned(), property);
    Ok(error::answer(201, body))
}

fn check_unique_flag(account: &Account, object: HubSpotObject, is_unique: bool) -> Result<(), Answer> {
    let is_allowed = object == HubSpotObject::Contact
        || account.options.unique_properties_on_engagements
        || !account.keeps_unique(object);
    if is_unique && !is_allowed {
        let message = format!("Unique properties are not supported for object type {object}");
        return Err(error::refused(400, "VALIDATION_ERROR", message));
    }
    if is_unique && account.schema(object).unique_count() >= MAX_UNIQUE {
        let message = format!("{object} already has {MAX_UNIQUE} unique properties");
        return Err(error::refused(400, "VALIDATION_ERROR", message));
    }
    Ok(())
}

fn option(option: &Value) -> String {
    option["value"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn groups(account: &Account, object: HubSpotObject) -> Answer {
    let one = |(name, label): (&String, &String)| group_body(name, label);
    let results: Vec<Value> = account.schema(object).groups.iter().map(one).collect();
    error::answer(200, json!({ "results": results }))
}

pub(crate) fn create_group(account: &mut Account, object: HubSpotObject, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&[])?;
    let fields = write::object_of(&call.body, &["name", "label", "displayOrder"])?;
    let (name, label) = (write::text_of(fields, "name")?, write::text_of(fields, "label")?);
    if !is_name(name) {
        return Err(error::improper(400, format!("{name} is no name for a group")));
    }
    let groups = &mut account.schema_mut(object).groups;
    if groups.contains_key(name) {
        let message = format!("A property group named '{name}' already exists.");
        return Err(error::refused(409, "OBJECT_ALREADY_EXISTS", message));
    }
    groups.insert(name.to_owned(), label.to_owned());
    Ok(error::answer(201, group_body(name, label)))
}

fn group_body(name: &str, label: &str) -> Value {
    json!({ "name": name, "label": label, "displayOrder": -1, "archived": false })
}

/// Returns whether a text is a lower-case name of letters, digits and underscores that begins with a letter.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
