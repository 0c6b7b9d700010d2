//! Several upserts, or several requests, in one call. Each part succeeds or fails by itself.
//! <https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-sobjects-collections-upsert.html>
//! <https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-batch.html>

use std::collections::HashSet;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, http};
use serde_json::{Map, Value, json};

use super::api::Call;
use super::object::SalesforceObject;
use super::org::Org;
use super::schema::Field;
use super::{error, sobjects};
use crate::answer::Answer;
use crate::stand_in::JSON;

const MAX_RECORDS: usize = 200;
const MAX_REQUESTS: usize = 25;

pub(crate) fn upsert(org: &mut Org, object: SalesforceObject, call: &Call) -> Result<Answer, Answer> {
    let field = org.schema(object).field(call.route.id()).filter(|field| field.external_id).cloned();
    let field = field.ok_or_else(|| error::no_such_key(call.route.id()))?;
    let records = members(&call.body, "records", MAX_RECORDS)?;
    let all_or_none = call.body.get("allOrNone") == Some(&json!(true));
    let before = all_or_none.then(|| org.snapshot());

    let mut seen = HashSet::new();
    let written: Vec<Result<(String, bool), Answer>> =
        records.iter().map(|record| upsert_one(org, object, &field, (record, &mut seen), call)).collect();
    let violation = written.iter().find_map(|one| one.as_ref().err()?.violation.clone());
    let has_failed = written.iter().any(Result::is_err);
    if let Some(before) = before.filter(|_| has_failed) {
        org.restore(before);
    }
    let results = written.into_iter().map(|one| match one {
        Err(refusal) => json!({ "success": false, "errors": errors_of(&refusal) }),
        Ok(_) if all_or_none && has_failed => {
            let message = "Record rolled back because not all records were valid and the request was using AllOrNone \
                           header";
            let error = json!({ "statusCode": "ALL_OR_NONE_OPERATION_ROLLED_BACK", "message": message, "fields": [] });
            json!({ "success": false, "errors": [error] })
        }
        Ok((id, created)) => json!({ "id": id, "success": true, "errors": [], "created": created }),
    });
    Ok(Answer { violation, ..error::answer(200, results.collect()) })
}

fn upsert_one(
    org: &mut Org,
    object: SalesforceObject,
    field: &Field,
    (record, seen): (&Value, &mut HashSet<String>),
    call: &Call,
) -> Result<(String, bool), Answer> {
    let mut fields = record.as_object().cloned().unwrap_or_default();
    let attributes = fields.remove("attributes").unwrap_or_default();
    if attributes["type"] != object.name() {
        let what = format!("each record needs attributes with the type {object}");
        return Err(error::improper(400, "INVALID_TYPE", what));
    }
    let name = fields.keys().find(|name| name.eq_ignore_ascii_case(&field.name)).cloned();
    let key = name.and_then(|name| fields.remove(&name)).as_ref().and_then(Field::key_text);
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        let message = format!("{} not specified", field.name);
        return Err(error::violating(error::refused(400, "MISSING_ARGUMENT", &message), message));
    };
    if !seen.insert(if field.case_sensitive { key.clone() } else { key.to_lowercase() }) {
        let message = format!("Duplicate external id specified: {key}");
        return Err(error::violating(error::refused(400, "DUPLICATE_VALUE", &message), message));
    }
    sobjects::write_by_key(org, object, (field, &key), &fields, call)
}

/// Returns a refusal's errors as they stand in the result of one record.
fn errors_of(refusal: &Answer) -> Vec<Value> {
    let errors = refusal.body.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let error = |error: &Value| match error.get("errorCode") {
        Some(code) => {
            let fields = error.get("fields").cloned().unwrap_or_else(|| json!([]));
            json!({ "statusCode": code, "message": error["message"], "fields": fields })
        }
        // The list of records that share a key.
        None => json!({
            "statusCode": "DUPLICATE_EXTERNAL_ID",
            "message": format!("external id matches more than one record: {error}"),
            "fields": [],
        }),
    };
    errors.iter().map(error).collect()
}

/// Carries several requests out, one after the other.
pub(crate) fn batch(org: &mut Org, call: &Call, head: &Parts) -> Result<Answer, Answer> {
    let requests = members(&call.body, "batchRequests", MAX_REQUESTS)?;
    let halts = call.body.get("haltOnError") == Some(&json!(true));
    let (mut has_errors, mut violation) = (false, None);
    let mut results = Vec::new();
    for request in requests {
        let answer = if has_errors && halts {
            error::refused(412, "BATCH_PROCESSING_HALTED", "Batch processing halted per request")
        } else {
            part(org, request, head)?
        };
        has_errors |= answer.status >= 400;
        violation = violation.or(answer.violation);
        results.push(json!({ "statusCode": answer.status, "result": answer.body }));
    }
    let body = json!({ "hasErrors": has_errors, "results": results });
    Ok(Answer { violation, ..error::answer(200, body) })
}

fn part(org: &mut Org, request: &Value, head: &Parts) -> Result<Answer, Answer> {
    let malformed = || error::improper(400, "JSON_PARSER_ERROR", "a part of a batch needs a method and a url");
    let method: Method = request["method"].as_str().and_then(|name| name.parse().ok()).ok_or_else(malformed)?;
    let url = request["url"].as_str().filter(|url| !url.contains("composite")).ok_or_else(malformed)?;
    let url = format!("/services/data/{}", url.trim_start_matches("/services/data/").trim_start_matches('/'));
    let (mut inner, ()) =
        http::Request::builder().method(method).uri(url).body(()).map_err(|_| malformed())?.into_parts();
    inner.headers = head.headers.clone();
    inner.headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(JSON));
    // Each part counts towards the daily allocation, and the call itself besides.
    if !org.limits.count(org.options.daily_limit) {
        return Ok(error::request_limit_exceeded());
    }
    let body = request.get("richInput").map_or_else(Bytes::new, |input| input.to_string().into());
    Ok(org.answer(&inner, &body).unwrap_or_else(|refusal| refusal))
}

fn members<'a>(body: &'a Map<String, Value>, name: &str, most: usize) -> Result<&'a [Value], Answer> {
    let members = body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if members.is_empty() || members.len() > most {
        return Err(error::improper(400, "JSON_PARSER_ERROR", format!("{name} is a list of 1 to {most}")));
    }
    Ok(members)
}
