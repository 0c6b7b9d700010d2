//! What Salesforce's failures mean, by `errorCode` and not by status: a locked record is a 400, and the end of the daily
//! allocation a 403 (<https://developer.salesforce.com/docs/platform/api-rest/guide/errorcodes.html>). A code that is not
//! listed here means what its status means.

use std::time::Duration;

use bytes::Bytes;
use hookline_common::names::Destination;
use serde::Deserialize;
use serde_json::Value;

use crate::calls::http::Refusal;
use crate::delivery::handler::HandlerError;
use crate::destinations::error::DestinationError;
use crate::destinations::limits::{Limits, MAX_WAIT};
use crate::destinations::pause_reason::SALESFORCE_API_DISABLED;
use crate::destinations::status;

/// Concurrent requests that were too many are over soon; the daily allocation is not.
const CONCURRENT_WAIT: Duration = Duration::from_mins(1);
const AWAY_WAIT: Duration = Duration::from_secs(30);

const LIMIT_REACHED: &str = "calls to system_of_record are held: Salesforce's limit of requests is reached \
    (REQUEST_LIMIT_EXCEEDED)";
const API_AWAY: &str =
    "calls to system_of_record are held: Salesforce's API is away for a while (API_CURRENTLY_DISABLED)";

/// Codes of a call that took no effect and may work when it is made again, though some come with a final status.
const PASSING: [&str; 4] = ["UNABLE_TO_LOCK_ROW", "QUERY_TIMEOUT", "REQUEST_RUNNING_TOO_LONG", "SERVER_UNAVAILABLE"];
/// Codes that may be about the set-up: a field or an object that is missing, or may not be seen or written. A path with
/// the name of a missing field is answered 404.
const OF_SET_UP: [&str; 7] = [
    "INVALID_FIELD",
    "INVALID_FIELD_FOR_INSERT_UPDATE",
    "INVALID_TYPE",
    "INVALID_TYPE_FOR_OPERATION",
    "INSUFFICIENT_ACCESS_OR_READONLY",
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
    "NOT_FOUND",
];
/// Codes that may be about the person whom a Task names: merged, deleted, converted, or not to be seen.
const OF_PERSON: [&str; 7] = [
    "ENTITY_IS_DELETED",
    "INVALID_CROSS_REFERENCE_KEY",
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
    "INSUFFICIENT_ACCESS_OR_READONLY",
    "CANNOT_UPDATE_CONVERTED_LEAD",
    "FIELD_INTEGRITY_EXCEPTION",
    "MALFORMED_ID",
];
/// Codes that may be about the owner whom a Task names: inactive, of another kind, unknown, or out of reach.
const OF_OWNER: [&str; 8] = [
    "INACTIVE_OWNER_OR_USER",
    "OP_WITH_INVALID_USER_TYPE_EXCEPTION",
    "INVALID_CROSS_REFERENCE_KEY",
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
    "INSUFFICIENT_ACCESS_OR_READONLY",
    "FIELD_INTEGRITY_EXCEPTION",
    "MALFORMED_ID",
    "TRANSFER_REQUIRES_READ",
];

/// One member of the list that an error's body is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    #[serde(rename = "errorCode")]
    code: String,
    message: String,
    fields: Vec<String>,
    /// The vendor's spelling.
    #[serde(rename = "duplicateResut", alias = "duplicateResult")]
    duplicates: Value,
}

/// A failed call, with what Salesforce said about it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: DestinationError,
    told: Vec<Told>,
}

impl From<DestinationError> for Failure {
    fn from(error: DestinationError) -> Self {
        Self { error, told: Vec::new() }
    }
}

impl From<Failure> for HandlerError {
    fn from(failure: Failure) -> Self {
        failed(failure.error)
    }
}

impl Failure {
    pub(super) fn of(error: DestinationError, body: Option<&Bytes>) -> Self {
        let told = body.map(|body| read(body)).unwrap_or_default();
        let code = told.first().map(|told| told.code.clone()).filter(|code| is_code(code));
        // An administrator finds the code in the vendor's documents.
        let coded = |detail: String| match (&code, without_query(detail)) {
            (Some(code), detail) if detail.is_empty() => code.clone(),
            (Some(code), detail) => format!("{code}: {detail}"),
            (None, detail) => detail,
        };
        let error = error.map_detail(&coded);
        Self { error, told }
    }

    pub(super) fn is(&self, code: &str) -> bool {
        self.told.iter().any(|told| told.code == code)
    }

    fn is_one_of(&self, codes: &[&str]) -> bool {
        codes.iter().any(|code| self.is(code))
    }

    fn names_field(&self, name: &str) -> bool {
        self.told.iter().any(|told| told.fields.iter().any(|field| field.eq_ignore_ascii_case(name)))
    }

    /// Whether several records have the key by which the call was made.
    pub(super) fn is_ambiguous_key(&self) -> bool {
        self.error.status() == Some(300)
    }

    pub(super) fn may_be_of_set_up(&self) -> bool {
        self.is_ambiguous_key() || self.is_one_of(&OF_SET_UP)
    }

    pub(super) fn may_be_of_person(&self) -> bool {
        self.is_refusal() && (self.is_one_of(&OF_PERSON) || self.names_field("WhoId"))
    }

    pub(super) fn may_be_of_owner(&self) -> bool {
        self.is_refusal() && (self.is_one_of(&OF_OWNER) || self.names_field("OwnerId"))
    }

    pub(super) fn may_be_of_status(&self) -> bool {
        self.is_refusal() && (self.is("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST") || self.names_field("Status"))
    }

    /// Whether Salesforce refused the call for what was in it, and did nothing.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self.error,
            DestinationError::Rejected { .. } | DestinationError::NotFound { .. } | DestinationError::Forbidden { .. }
        )
    }

    /// Whether the version of the API in the path is none that this org has, as far as an answer can say so.
    pub(super) fn may_be_of_version(&self) -> bool {
        self.is("UNSUPPORTED_API_VERSION") || matches!(self.error.status(), Some(404 | 410))
    }

    /// Returns the ids of the records that a duplicate rule found, each once.
    pub(super) fn duplicates(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let lists = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
        for result in self.told.iter().flat_map(|told| lists(&told.duplicates, "matchResults")) {
            for record in lists(&result, "matchRecords") {
                let id = record["record"]["Id"].as_str().unwrap_or_default().to_owned();
                if !id.is_empty() && !found.contains(&id) {
                    found.push(id);
                }
            }
        }
        found
    }
}

pub(super) fn failed(error: DestinationError) -> HandlerError {
    HandlerError::Destination { destination: Destination::SystemOfRecord, error }
}

/// The failure of a call before a write that was therefore not made leaves nothing in doubt.
pub(super) fn not_made(error: DestinationError) -> DestinationError {
    if let DestinationError::ProbeFailed { until, failure } = error {
        return DestinationError::ProbeFailed { until, failure: Box::new(not_made(*failure)) };
    }
    if error.may_have_taken_effect() { DestinationError::NotSent { detail: error.detail() } } else { error }
}

/// Reads what a failure says beyond its status.
pub(super) fn read_refusal(status: u16, body: &[u8], limits: &mut Limits) -> Refusal {
    let told = read(body);
    let code = told.first().map_or("", |told| told.code.as_str());
    match code {
        "INVALID_SESSION_ID" => Refusal::SessionEnded,
        "REQUEST_LIMIT_EXCEEDED" => {
            let is_concurrent = told.iter().any(|told| told.message.contains("Concurrent"));
            limits.retry_after = Some(if is_concurrent { CONCURRENT_WAIT } else { MAX_WAIT });
            Refusal::Away(LIMIT_REACHED)
        }
        "API_DISABLED_FOR_ORG" => Refusal::Stops(SALESFORCE_API_DISABLED),
        "API_CURRENTLY_DISABLED" => {
            limits.retry_after = limits.retry_after.or(Some(AWAY_WAIT));
            Refusal::Away(API_AWAY)
        }
        "ENTITY_IS_DELETED" => Refusal::Gone,
        code if PASSING.contains(&code) && status < 500 => Refusal::Passing,
        _ if status == 401 => Refusal::SessionEnded,
        _ => Refusal::AsItsStatus,
    }
}

/// A 300 says that several records have one key; a 405 that the path has no such call.
pub(super) fn is_final(status: u16) -> bool {
    status::is_final(status) || matches!(status, 300 | 405)
}

fn read(body: &[u8]) -> Vec<Told> {
    let Ok(Value::Array(items)) = serde_json::from_slice(body) else { return Vec::new() };
    items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect()
}

/// Takes off the part of the query that Salesforce repeats before it says what is wrong: a piece of a number is not
/// recognised as one.
fn without_query(detail: String) -> String {
    match detail.find("ERROR at Row") {
        Some(at) => detail[at..].to_owned(),
        None => detail,
    }
}

fn is_code(text: &str) -> bool {
    (1..=80).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(code: &str) -> String {
        format!(r#"[{{"message":"words","errorCode":"{code}","fields":[]}}]"#)
    }

    #[test]
    fn a_failure_is_read_by_its_code() {
        for (status, code, expected, wait) in [
            (401, "INVALID_SESSION_ID", Refusal::SessionEnded, None),
            (403, "INVALID_SESSION_ID", Refusal::SessionEnded, None),
            (401, "INVALID_AUTH_HEADER", Refusal::SessionEnded, None),
            (403, "REQUEST_LIMIT_EXCEEDED", Refusal::Away(LIMIT_REACHED), Some(900)),
            (400, "UNABLE_TO_LOCK_ROW", Refusal::Passing, None),
            (400, "QUERY_TIMEOUT", Refusal::Passing, None),
            (503, "SERVER_UNAVAILABLE", Refusal::AsItsStatus, None),
            (400, "ENTITY_IS_DELETED", Refusal::Gone, None),
            (403, "API_DISABLED_FOR_ORG", Refusal::Stops(SALESFORCE_API_DISABLED), None),
            (400, "INVALID_FIELD", Refusal::AsItsStatus, None),
            (418, "SOMETHING_NEW", Refusal::AsItsStatus, None),
        ] {
            let mut limits = Limits::default();
            assert_eq!(read_refusal(status, body(code).as_bytes(), &mut limits), expected, "{status} {code}");
            assert_eq!(limits.retry_after, wait.map(Duration::from_secs), "{status} {code}");
        }
        for unread in ["", "<html>", "{}", "[]", "[1]"] {
            let mut limits = Limits::default();
            assert_eq!(read_refusal(503, unread.as_bytes(), &mut limits), Refusal::AsItsStatus, "{unread}");
            assert_eq!(read_refusal(401, unread.as_bytes(), &mut limits), Refusal::SessionEnded, "{unread}");
        }
    }

    #[test]
    fn the_matches_of_a_duplicate_rule_are_each_read_once() {
        let record = |id: &str| serde_json::json!({ "record": { "Id": id } });
        let body = serde_json::json!([{ "errorCode": "DUPLICATES_DETECTED", "message": "Use one of these records?",
            "duplicateResut": { "matchResults": [
                { "matchRecords": [record("003A"), record("00QB")] },
                { "matchRecords": [record("003A")] },
            ] } }]);
        let error = DestinationError::Rejected { status: 400, detail: String::new() };
        let failure = Failure::of(error, Some(&Bytes::from(body.to_string())));

        assert_eq!(failure.duplicates(), ["003A", "00QB"]);
        assert_eq!(failure.error.detail(), "rejected with 400: DUPLICATES_DETECTED");
    }

    #[test]
    fn the_query_that_salesforce_repeats_is_left_out_of_every_failure() {
        let words = "FROM Contact WHERE Phone = '4155550123' ERROR at Row:1";
        let failed = DestinationError::Failed { status: 400, retry_after: None, detail: words.to_owned() };
        let probe = failed.clone().of_probe(hookline_common::time::Timestamp::from_millis(5));
        for error in [failed, probe] {
            let detail = Failure::of(error, Some(&Bytes::from(body("QUERY_TIMEOUT")))).error.detail();
            assert!(detail.contains("QUERY_TIMEOUT: ERROR at Row:1") && !detail.contains("415"), "{detail}");
        }
    }

    #[test]
    fn a_failed_call_before_a_write_leaves_nothing_in_doubt() {
        let failure = DestinationError::Failed { status: 503, retry_after: None, detail: String::new() };
        let until = hookline_common::time::Timestamp::from_millis(5);
        for error in [failure.clone(), failure.of_probe(until), DestinationError::NoAnswer { detail: String::new() }] {
            assert!(error.may_have_taken_effect());
            assert!(!not_made(error).may_have_taken_effect());
        }
    }
}
