//! Reads and upserts up to a hundred records at once. Version 2026-09 declares 200 for every batch that is answered,
//! the others 207 where some inputs failed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::account::{self, Account};
use super::api::Call;
use super::object::HubSpotObject;
use super::record::{Properties, now};
use super::{error, objects, write};
use crate::answer::Answer;

/// <https://developers.hubspot.com/docs/api-reference/crm-notes-v3/guide>
const MAX_INPUTS: usize = 100;

pub(crate) fn read(account: &Account, object: HubSpotObject, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&["archived"])?;
    let keys = ["inputs", "properties", "propertiesWithHistory", "idProperty"];
    let fields = write::object_of(&call.body, &keys)?;
    let inputs = inputs_of(fields)?;
    let asked: Vec<String> = match fields.get("properties") {
        None => objects::by_default(object),
        Some(names) => names.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
    };
    let id_property = fields.get("idProperty").and_then(Value::as_str);
    if let Some(property) = id_property {
        objects::check_id_property(account, object, property)?;
    }
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for input in inputs {
        let id = write::text_of(write::object_of(input, &["id"])?, "id")?;
        let record = match id_property {
            Some(property) => account.find_by(object, property, id),
            None => account.find(object, id),
        };
        match record.and_then(|id| account.record(id)) {
            Some(record) => found.push(record.body(Some(&asked))),
            None => absent.push(id.to_owned()),
        }
    }
    let mut errors = Vec::new();
    if !absent.is_empty() {
        errors.push(json!({
            "status": "error",
            "category": "OBJECT_NOT_FOUND",
            "message": format!("Could not get some {object} objects, they may be deleted or not exist."),
            "context": { "ids": absent },
        }));
    }
    Ok(complete(call, found, errors))
}

/// One input of an upsert that has passed every check.
struct Upsert {
    id_property: String,
    id: String,
    properties: Properties,
}

/// Creates or updates each record by its unique value. Inputs that each have a trace id are judged one by one; without
/// these, one bad input refuses all of them.
pub(crate) fn upsert(account: &mut Account, object: HubSpotObject, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&[])?;
    let inputs = inputs_of(write::object_of(&call.body, &["inputs"])?)?;
    let mut ids = BTreeSet::new();
    let mut repeats = |input: &Value| !ids.insert((input["idProperty"].to_string(), input["id"].to_string()));
    if inputs.iter().any(&mut repeats) {
        return Err(error::improper(400, "an id occurs twice in one batch"));
    }
    let one_by_one =
        call.route.version.has_multi_status() && inputs.iter().all(|input| input["objectWriteTraceId"].is_string());
    let (mut results, mut errors, mut violation) = (Vec::new(), Vec::new(), None);
    if !one_by_one {
        for input in inputs {
            checked(account, object, input)?;
        }
    }
    for input in inputs {
        match checked(account, object, input) {
            Ok(upsert) => results.push(carry_out(account, object, upsert, input)),
            Err(refusal) => {
                let mut body = refusal.body.unwrap_or_default();
                body["context"] = json!({ "objectWriteTraceId": [input["objectWriteTraceId"]] });
                errors.push(body);
                violation = violation.or(refusal.violation);
            }
        }
    }
    Ok(Answer { violation, ..complete(call, results, errors) })
}

/// Checks one input against the account as it is now. Associations are no part of it.
fn checked(account: &Account, object: HubSpotObject, input: &Value) -> Result<Upsert, Answer> {
    let fields = write::object_of(input, &["id", "idProperty", "properties", "objectWriteTraceId"])?;
    let (id_property, id) = (write::text_of(fields, "idProperty")?, write::text_of(fields, "id")?);
    objects::check_id_property(account, object, id_property)?;
    let mut properties = write::properties_of(account, object, fields)?;
    let named = properties.entry(id_property.to_owned()).or_insert_with(|| id.to_owned());
    if named != id {
        return Err(error::improper(400, format!("properties have another {id_property} than id")));
    }
    let existing = account.find_by(object, id_property, id).filter(|_| account.keeps_unique(object));
    if existing.is_none() {
        write::check_required(object, &properties)?;
    }
    write::check_unique(account, object, existing, &properties)?;
    Ok(Upsert { id_property: id_property.to_owned(), id: id.to_owned(), properties })
}

fn carry_out(account: &mut Account, object: HubSpotObject, upsert: Upsert, input: &Value) -> Value {
    let existing = account.find_by(object, &upsert.id_property, &upsert.id).filter(|_| account.keeps_unique(object));
    let id = existing.unwrap_or_else(|| account.add(object, Properties::new(), BTreeSet::new()));
    let record = account.record_mut(id).expect("it was found or added");
    account::set(record, upsert.properties);
    record.touch();
    let mut body = record.body(None);
    body["new"] = json!(existing.is_none());
    if let Some(trace) = input.get("objectWriteTraceId") {
        body["objectWriteTraceId"] = trace.clone();
    }
    body
}

fn inputs_of(fields: &serde_json::Map<String, Value>) -> Result<&[Value], Answer> {
    let inputs = write::members_of(fields, "inputs")?;
    match inputs.len() {
        1..=MAX_INPUTS => Ok(inputs),
        count => Err(error::improper(400, format!("a batch has 1 to {MAX_INPUTS} inputs, not {count}"))),
    }
}

fn complete(call: &Call, results: Vec<Value>, errors: Vec<Value>) -> Answer {
    let now = now().to_string();
    let mut body = json!({ "status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now });
    if errors.is_empty() {
        return error::answer(200, body);
    }
    body["numErrors"] = json!(errors.len());
    body["errors"] = json!(errors);
    error::answer(if call.route.version.has_multi_status() { 207 } else { 200 }, body)
}
