//! Salesforce's errors, which are arrays, those of OAuth, which are objects, and answers for faults that a test sets.
//! <https://developer.salesforce.com/docs/platform/api-rest/guide/errorcodes.html>

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::fault::Fault;

/// The media type of Salesforce's answers.
pub(crate) const MEDIA_TYPE: &str = "application/json;charset=UTF-8";

/// Makes a 400 as for a record that another transaction holds: it may be repeated. Nothing is carried out.
#[must_use]
pub fn lock_row() -> Fault {
    let message = "unable to obtain exclusive access to this record or 1 records: 0035e0000000001AAA";
    fault(400, &about("UNABLE_TO_LOCK_ROW", message, &[]))
}

/// Makes a 403 as at the end of the daily allocation. Nothing is carried out, and the count stays as it is.
#[must_use]
pub fn request_limit() -> Fault {
    fault(403, &plain("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."))
}

/// Makes a 400 as for a query that ran for too long. Nothing is carried out.
#[must_use]
pub fn query_timeout() -> Fault {
    fault(400, &plain("QUERY_TIMEOUT", "Your query request was running for too long."))
}

/// Makes a 503. Nothing is carried out.
#[must_use]
pub fn server_unavailable() -> Fault {
    let message = "The server is temporarily unavailable to handle the request";
    fault(503, &plain("SERVER_UNAVAILABLE", message))
}

/// Makes a 400 as an administrator's validation rule does. Nothing is carried out.
#[must_use]
pub fn validation_rule(field: &str, message: &str) -> Fault {
    fault(400, &about("FIELD_CUSTOM_VALIDATION_EXCEPTION", message, &[field]))
}

/// Makes a 400 as for a record that names another one without the right to do so. Nothing is carried out.
#[must_use]
pub fn insufficient_access(id: &str) -> Fault {
    let message = format!("insufficient access rights on cross-reference id: {id}");
    fault(400, &about("INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", &message, &[]))
}

/// Makes a 400 as a duplicate rule does that found these records, whatever was written. Nothing is carried out.
#[must_use]
pub fn duplicates_detected(entity: &str, ids: &[&str]) -> Fault {
    let records: Vec<Value> = ids.iter().map(|id| json!({ "Id": id })).collect();
    fault(400, &duplicates_body(entity, &records, true))
}

/// Makes an answer with this status, code and message, for example 500 `UNKNOWN_EXCEPTION` or 403
/// `API_DISABLED_FOR_ORG`. Nothing is carried out.
#[must_use]
pub fn status(status: u16, code: &str, message: &str) -> Fault {
    fault(status, &plain(code, message))
}

/// Makes a 400 of the token endpoint with this `error` and `error_description`. No token is issued.
#[must_use]
pub fn oauth(error: &str, description: &str) -> Fault {
    fault(400, &json!({ "error": error, "error_description": description }))
}

fn fault(status: u16, body: &Value) -> Fault {
    let headers = vec![(CONTENT_TYPE.to_string(), MEDIA_TYPE.to_owned())];
    Fault::Status { status, headers, body: Some(body.to_string()) }
}

fn plain(code: &str, message: &str) -> Value {
    json!([{ "message": message, "errorCode": code }])
}

fn about(code: &str, message: &str, fields: &[&str]) -> Value {
    json!([{ "message": message, "errorCode": code, "fields": fields }])
}

pub(crate) fn answer(status: u16, body: Value) -> Answer {
    Answer { media_type: MEDIA_TYPE, ..Answer::resource(status, body) }
}

/// Answers a call that Salesforce refuses before it looks at fields.
pub(crate) fn refused(status: u16, code: &str, message: impl AsRef<str>) -> Answer {
    answer(status, plain(code, message.as_ref()))
}

/// Answers a write that Salesforce refuses, and names the fields.
pub(crate) fn refused_write(code: &str, message: impl AsRef<str>, fields: &[&str]) -> Answer {
    answer(400, about(code, message.as_ref(), fields))
}

/// Marks a refusal as one of a request that a correct client would not have sent.
pub(crate) fn violating(refusal: Answer, what: impl Into<String>) -> Answer {
    Answer { violation: Some(what.into()), ..refusal }
}

/// Answers a request that a correct client would not send, and records it as a violation.
pub(crate) fn improper(status: u16, code: &str, what: impl Into<String>) -> Answer {
    let what = what.into();
    violating(refused(status, code, &what), what)
}

/// Answers a token request that is refused.
pub(crate) fn no_token(error: &str, description: &str) -> Answer {
    let body = json!({ "error": error, "error_description": description });
    Answer { headers: vec![(CACHE_CONTROL, "no-store".to_owned())], ..answer(400, body) }
}

pub(crate) fn invalid_session() -> Answer {
    refused(401, "INVALID_SESSION_ID", "Session expired or invalid")
}

pub(crate) fn request_limit_exceeded() -> Answer {
    refused(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
}

pub(crate) fn absent() -> Answer {
    refused(404, "NOT_FOUND", "The requested resource does not exist")
}

/// Answers a call that names a record by a field that is no external id, or that the user may not see.
pub(crate) fn no_such_key(field: &str) -> Answer {
    refused(404, "NOT_FOUND", format!("Provided external ID field does not exist or is not accessible: {field}"))
}

pub(crate) fn deleted() -> Answer {
    refused(404, "ENTITY_IS_DELETED", "entity is deleted")
}

/// Answers a write that repeats a unique value; the message names the other record.
pub(crate) fn taken(field: &str, other: &str) -> Answer {
    let message = format!("duplicate value found: {field} duplicates value on record with id: {other}");
    refused_write("DUPLICATE_VALUE", message, &[])
}

/// Answers a body with a value that JSON could hold but the field can't.
pub(crate) fn wrong_type(kind: &str, value: &Value) -> Answer {
    let name = match value {
        Value::Null => "VALUE_NULL",
        Value::Bool(true) => "VALUE_TRUE",
        Value::Bool(false) => "VALUE_FALSE",
        Value::Number(number) if number.is_f64() => "VALUE_NUMBER_FLOAT",
        Value::Number(_) => "VALUE_NUMBER_INT",
        Value::String(_) => "VALUE_STRING",
        Value::Array(_) => "START_ARRAY",
        Value::Object(_) => "START_OBJECT",
    };
    let message = format!(
        "Cannot deserialize instance of {kind} from {name} value or request may be missing a required field at \
         [line:1, column:2]"
    );
    violating(refused(400, "JSON_PARSER_ERROR", &message), message.clone())
}

/// The body of a duplicate rule's refusal. `duplicateResut` is the vendor's own spelling.
pub(crate) fn duplicates_body(entity: &str, records: &[Value], allow_save: bool) -> Value {
    let message = if allow_save { "Use one of these records?" } else { "You're creating a duplicate record." };
    let matches: Vec<Value> = records
        .iter()
        .map(|record| {
            json!({ "additionalInformation": [], "fieldDiffs": [], "matchConfidence": 100.0, "record": record })
        })
        .collect();
    json!([{
        "duplicateResut": {
            "allowSave": allow_save,
            "duplicateRule": format!("Standard_{entity}_Duplicate_Rule"),
            "duplicateRuleEntityType": entity,
            "errorMessage": message,
            "matchResults": [{
                "entityType": entity,
                "errors": [],
                "matchEngine": "FuzzyMatchEngine",
                "matchRecords": matches,
                "rule": format!("Standard_{entity}_Match_Rule_v1_1"),
                "size": matches.len(),
                "success": true,
            }],
        },
        "errorCode": "DUPLICATES_DETECTED",
        "message": message,
    }])
}
