//! HubSpot's error envelope, and answers for faults that a test sets.
//! <https://developers.hubspot.com/docs/api-reference/error-handling>

use hyper::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::object::HubSpotObject;
use crate::answer::Answer;
use crate::fault::Fault;
use crate::model::fresh_slug;

/// The media type of HubSpot's answers.
const MEDIA_TYPE: &str = "application/json;charset=utf-8";

/// Makes a fault with this status and HubSpot's envelope, for example 423, 500 or 503. Nothing is carried out.
#[must_use]
pub fn status(status: u16) -> Fault {
    let (category, message) = match status {
        423 => ("LOCKED", "The resource is locked. Wait at least two seconds before the next request."),
        502..=504 => ("SERVICE_UNAVAILABLE", "The service is not available."),
        _ => ("INTERNAL_ERROR", "There was a problem with the request."),
    };
    fault(status, &[], &envelope(message, category))
}

/// Makes a 429 with this `policyName`: `TEN_SECONDLY_ROLLING`, `SECONDLY` or `DAILY`. Nothing is carried out.
#[must_use]
pub fn throttled(policy: &str) -> Fault {
    fault(429, &[], &rate_limit_body(policy))
}

/// Makes a 477, with which HubSpot says that the account moves to another data centre. Nothing is carried out.
#[must_use]
pub fn migrating(retry_after: &str) -> Fault {
    let headers = [("Retry-After", retry_after)];
    fault(477, &headers, &envelope("This account is being migrated between hosting locations.", "MIGRATION"))
}

/// Makes a 400 as an account's own validation rule does, which version 2026-09 applies. Nothing is carried out.
#[must_use]
pub fn validation_rule(property: &str, message: &str) -> Fault {
    let errors = [ErrorDetail::about(property, "VALIDATION_RULE_VIOLATED", message)];
    fault(400, &[], &with_errors(invalid_values_message(&errors), &errors))
}

fn fault(status: u16, headers: &[(&str, &str)], body: &Value) -> Fault {
    let mut headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    headers.push((CONTENT_TYPE.to_string(), MEDIA_TYPE.to_owned()));
    Fault::Status { status, headers, body: Some(body.to_string()) }
}

/// One member of `errors`.
#[derive(Clone, Debug)]
pub(crate) struct ErrorDetail {
    property: String,
    code: &'static str,
    message: String,
}

impl ErrorDetail {
    pub(crate) fn about(property: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self { property: property.to_owned(), code, message: message.into() }
    }

    fn body(&self) -> Value {
        json!({ "message": self.message, "code": self.code, "context": { "propertyName": [self.property] } })
    }
}

fn envelope(message: &str, category: &str) -> Value {
    json!({ "status": "error", "message": message, "correlationId": fresh_slug(), "category": category })
}

fn with_errors(message: String, errors: &[ErrorDetail]) -> Value {
    let mut body = envelope(&message, "VALIDATION_ERROR");
    body["errors"] = errors.iter().map(ErrorDetail::body).collect();
    body
}

fn invalid_values_message(errors: &[ErrorDetail]) -> String {
    let details = errors.iter().map(
        |error| json!({ "isValid": false, "message": error.message, "error": error.code, "name": error.property }),
    );
    format!("Property values were not valid: {}", Value::Array(details.collect()))
}

fn rate_limit_body(policy: &str) -> Value {
    let what = match policy {
        "SECONDLY" => "secondly",
        "DAILY" => "daily",
        _ => "ten_secondly_rolling",
    };
    json!({
        "status": "error",
        "message": format!("You have reached your {what} limit."),
        "errorType": "RATE_LIMIT",
        "correlationId": fresh_slug(),
        "policyName": policy,
        "requestId": fresh_slug(),
    })
}

pub(crate) fn answer(status: u16, body: Value) -> Answer {
    Answer { media_type: MEDIA_TYPE, ..Answer::resource(status, body) }
}

pub(crate) fn refused(status: u16, category: &str, message: impl AsRef<str>) -> Answer {
    answer(status, envelope(message.as_ref(), category))
}

/// Answers a request that a correct client would not send, and records it as a violation.
pub(crate) fn improper(status: u16, what: impl Into<String>) -> Answer {
    let what = what.into();
    let refusal = refused(status, "VALIDATION_ERROR", format!("Invalid input: {what}"));
    Answer { violation: Some(what), ..refusal }
}

pub(crate) fn rate_limited(policy: &str) -> Answer {
    answer(429, rate_limit_body(policy))
}

pub(crate) fn unauthorized() -> Answer {
    let message = "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find \
                   more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview";
    refused(401, "INVALID_AUTHENTICATION", message)
}

pub(crate) fn missing_scopes(scopes: &[&str]) -> Answer {
    let message = "This app hasn't been granted all required scopes to make this call. Read more about required \
                   scopes here: https://developers.hubspot.com/scopes.";
    let mut body = envelope(message, "MISSING_SCOPES");
    body["errors"] = json!([{
        "message": "One or more of the following scopes are required.",
        "context": { "requiredGranularScopes": scopes },
    }]);
    answer(403, body)
}

pub(crate) fn absent() -> Answer {
    refused(404, "OBJECT_NOT_FOUND", "resource not found")
}

/// Answers a call that names properties or values that the account's schema refuses.
pub(crate) fn invalid_values(errors: &[ErrorDetail]) -> Answer {
    answer(400, with_errors(invalid_values_message(errors), errors))
}

/// Answers a create without a property that the kind of object needs.
pub(crate) fn missing_properties(object: HubSpotObject, properties: &[&str]) -> Answer {
    let message = format!("Error creating {object}. Some required properties were not set.");
    let mut body = envelope(&message, "VALIDATION_ERROR");
    body["context"] = json!({ "properties": properties });
    Answer { violation: Some(format!("{object} without {}", properties.join(", "))), ..answer(400, body) }
}

/// Answers a write that repeats a unique value; the message names the other record.
pub(crate) fn taken(status: u16, property: &str, value: &str, (id, other): (&str, &str)) -> Answer {
    if property == "email" {
        return refused(409, "CONFLICT", format!("Contact already exists. Existing ID: {other}"));
    }
    let category = if status == 409 { "CONFLICT" } else { "VALIDATION_ERROR" };
    let message = format!("Cannot set property {property} to {value} on {id}. {other} already has that value.");
    refused(status, category, message)
}
