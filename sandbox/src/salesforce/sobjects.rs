//! Creates, reads, changes, deletes and upserts one record.
//! <https://developer.salesforce.com/docs/platform/api-rest/guide/dome-upsert.html>

use serde_json::{Map, Value, json};

use super::api::Call;
use super::object::SalesforceObject;
use super::options::DeletedIds;
use super::org::Org;
use super::record::{Fields, Record};
use super::schema::{Field, Kind};
use super::{error, ids, write};
use crate::answer::Answer;

/// The first version whose upsert answers an update with a body, and says which of the two it was.
const TELLS_CREATED: u32 = 46;

pub(crate) fn create(org: &mut Org, object: SalesforceObject, call: &Call) -> Result<Answer, Answer> {
    let fields = write::check(org, object, None, &call.body, call)?;
    lock(org, None, &fields)?;
    let id = org.add_for_client(object, fields);
    Ok(error::answer(201, json!({ "id": id, "success": true, "errors": [] })))
}

pub(crate) fn get(org: &Org, object: SalesforceObject, call: &Call) -> Result<Answer, Answer> {
    let id = named(org, object, call.route.id())?;
    body_of(org, &id, call)
}

pub(crate) fn update(org: &mut Org, object: SalesforceObject, call: &Call) -> Result<Answer, Answer> {
    let id = named(org, object, call.route.id())?;
    check_changeable(org, &id)?;
    let fields = write::check(org, object, Some(&id), &call.body, call)?;
    lock(org, Some(&id), &fields)?;
    org.change_for_client(&id, fields);
    Ok(Answer::bare(204))
}

pub(crate) fn delete(org: &mut Org, object: SalesforceObject, call: &Call) -> Result<Answer, Answer> {
    let id = named(org, object, call.route.id())?;
    if !object.is_writable() || org.options.read_only_objects.contains(&object) {
        let message = format!("insufficient access rights on object id: {id}");
        return Err(error::refused(403, "INSUFFICIENT_ACCESS_OR_READONLY", message));
    }
    lock(org, Some(&id), &Fields::new())?;
    org.delete(&id);
    Ok(Answer::bare(204))
}

pub(crate) fn get_by_key(org: &Org, object: SalesforceObject, call: &Call) -> Result<Answer, Answer> {
    let field = key_field(org, object, call)?;
    match &org.find_by(object, field, call.route.value())[..] {
        [] => Err(error::absent()),
        [id] => body_of(org, id, call),
        several => Err(ambiguous(object, several, call)),
    }
}

pub(crate) fn upsert(org: &mut Org, object: SalesforceObject, call: &Call) -> Result<Answer, Answer> {
    let field = key_field(org, object, call)?.clone();
    let (id, created) = write_by_key(org, object, (&field, call.route.value()), &call.body, call)?;
    Ok(upserted(&id, created, call))
}

/// Creates the record that has this key, or changes it. Returns its id and whether it was created.
pub(crate) fn write_by_key(
    org: &mut Org,
    object: SalesforceObject,
    (field, value): (&Field, &str),
    body: &Map<String, Value>,
    call: &Call,
) -> Result<(String, bool), Answer> {
    if body.keys().any(|name| name.eq_ignore_ascii_case(&field.name)) {
        let message = format!("The {} field should not be specified in the sobject data.", field.name);
        return Err(error::violating(error::refused(400, "INVALID_FIELD", &message), message));
    }
    match &org.find_by(object, field, value)[..] {
        [id] => {
            let id = id.clone();
            check_changeable(org, &id)?;
            let fields = write::check(org, object, Some(&id), body, call)?;
            lock(org, Some(&id), &fields)?;
            org.change_for_client(&id, fields);
            Ok((id, false))
        }
        [] if call.query("updateOnly") == Some("true") => Err(error::absent()),
        [] => {
            let mut body = body.clone();
            let number = value.parse::<f64>().ok().filter(|_| field.kind == Kind::Number);
            body.insert(field.name.clone(), number.map_or_else(|| json!(value), |number| json!(number)));
            let fields = write::check(org, object, None, &body, call)?;
            if org.races > 0 {
                org.races -= 1;
                let other = lose_race(org, object, field, &fields);
                return Err(error::taken(&field.name, &other));
            }
            lock(org, None, &fields)?;
            Ok((org.add_for_client(object, fields), true))
        }
        several => Err(ambiguous(object, several, call)),
    }
}

fn upserted(id: &str, created: bool, call: &Call) -> Answer {
    let mut body = json!({ "id": id, "success": true, "errors": [] });
    let tells = call.route.major_version() >= TELLS_CREATED;
    if tells {
        body["created"] = json!(created);
    }
    match (created, tells) {
        (true, _) => error::answer(201, body),
        (false, true) => error::answer(200, body),
        (false, false) => Answer::bare(204),
    }
}

/// Creates the record of another writer that was faster. It has the key and what a create needs, so only a repeat of the
/// upsert completes it.
fn lose_race(org: &mut Org, object: SalesforceObject, key: &Field, fields: &Fields) -> String {
    let needed = |name: &String| {
        *name == key.name || org.schema(object).field(name).is_some_and(Field::is_required) || name == "WhoId"
    };
    let fields = fields.iter().filter(|(name, _)| needed(name)).map(|(name, value)| (name.clone(), value.clone()));
    let fields = fields.collect();
    org.add_for_client(object, fields)
}

/// Locks the record that a write changes, and its person's, the former one and the new one.
fn lock(org: &mut Org, id: Option<&str>, fields: &Fields) -> Result<(), Answer> {
    let former = id.and_then(|id| org.record(id)).map(|record| record.text("WhoId").to_owned());
    let new = fields.get("WhoId").and_then(Value::as_str);
    let rows = [id, former.as_deref(), new].into_iter().flatten().filter(|row| !row.is_empty());
    org.lock(&rows.collect::<Vec<_>>()).map_err(|held| {
        let message = format!("unable to obtain exclusive access to this record or 1 records: {held}");
        error::refused_write("UNABLE_TO_LOCK_ROW", message, &[])
    })
}

/// Finds the field by which a path names a record. A value that ends like a file name isn't served. Neither is one with
/// a slash, encoded or not: the vendor says nothing of these, and this is harder on a client.
fn key_field<'a>(org: &'a Org, object: SalesforceObject, call: &Call) -> Result<&'a Field, Answer> {
    let field = org.schema(object).field(call.route.id()).filter(|field| field.external_id);
    let field = field.ok_or_else(|| error::no_such_key(call.route.id()))?;
    let value = call.route.value();
    let looks_like_a_file = value
        .rsplit_once('.')
        .is_some_and(|(_, end)| (2..=4).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_alphabetic()));
    if looks_like_a_file || value.contains('/') {
        let what = "the value of an external id has a slash or ends like a file name";
        return Err(error::violating(error::absent(), what));
    }
    if field.length > 0 && call.route.value().encode_utf16().count() > field.length {
        let message = format!("{}: data value too large (max length={})", field.label, field.length);
        return Err(error::refused_write("STRING_TOO_LONG", message, &[&field.name]));
    }
    Ok(field)
}

/// Returns the id of the record that a path names.
fn named(org: &Org, object: SalesforceObject, text: &str) -> Result<String, Answer> {
    let id = ids::read(text).ok_or_else(|| error::no_such_key(text))?;
    match org.record(&id).filter(|record| record.object == object) {
        None => Err(error::absent()),
        Some(record) if record.deleted => Err(match org.options.deleted_ids {
            DeletedIds::EntityIsDeleted => error::deleted(),
            DeletedIds::NotFound => error::absent(),
        }),
        Some(_) => Ok(id),
    }
}

/// Refuses a change of a converted lead.
fn check_changeable(org: &Org, id: &str) -> Result<(), Answer> {
    if org.record(id).is_some_and(|record| record.value("IsConverted") == json!(true)) {
        let message = "cannot reference converted lead";
        return Err(error::refused_write("CANNOT_UPDATE_CONVERTED_LEAD", message, &[]));
    }
    Ok(())
}

/// Answers a call by a key that several records have.
fn ambiguous(object: SalesforceObject, ids: &[String], call: &Call) -> Answer {
    error::answer(300, ids.iter().map(|id| json!(call.path_of(&format!("sobjects/{object}/{id}")))).collect())
}

fn body_of(org: &Org, id: &str, call: &Call) -> Result<Answer, Answer> {
    let record = org.record(id).ok_or_else(error::absent)?;
    let schema = org.schema(record.object);
    let names: Vec<&str> = match call.query("fields") {
        None => schema.visible().map(|field| field.name.as_str()).collect(),
        Some(list) => list.split(',').map(str::trim).collect(),
    };
    let mut body = attributes(record, call);
    for name in names {
        let field = schema.field(name).ok_or_else(|| {
            error::refused(
                400,
                "INVALID_FIELD",
                format!("No such column '{name}' on sobject of type {}", record.object),
            )
        })?;
        body.insert(field.name.clone(), Org::value(record, field));
    }
    body.insert("Id".to_owned(), json!(record.id));
    Ok(error::answer(200, Value::Object(body)))
}

/// Returns the beginning of a record's answer: its type and its address.
pub(crate) fn attributes(record: &Record, call: &Call) -> Map<String, Value> {
    let url = call.path_of(&format!("sobjects/{}/{}", record.object, record.id));
    let attributes = json!({ "type": record.object.name(), "url": url });
    [("attributes".to_owned(), attributes)].into_iter().collect()
}
