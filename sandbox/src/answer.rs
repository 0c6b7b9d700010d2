//! What an endpoint decided, before it becomes HTTP.

use serde_json::{Value, json};

/// <https://apidocs.next.textus.com/overview/making_requests/>
pub(crate) const MEDIA_TYPE: &str = "application/vnd.textus+jsonld";

/// Validation errors are documented for the retired API only, as plain JSON.
const ERROR_MEDIA_TYPE: &str = "application/json";

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `None`: no body, and no `Content-Type`.
    pub(crate) body: Option<Value>,
    pub(crate) media_type: &'static str,
    /// The value of `Allow`.
    pub(crate) allow: Option<&'static str>,
    /// What a correct client would not have done.
    pub(crate) violation: Option<String>,
}

impl Answer {
    pub(crate) fn bare(status: u16) -> Self {
        Self { status, body: None, media_type: MEDIA_TYPE, allow: None, violation: None }
    }

    pub(crate) fn resource(status: u16, body: Value) -> Self {
        Self { body: Some(body), ..Self::bare(status) }
    }

    pub(crate) fn absent() -> Self {
        Self::bare(404)
    }

    /// A request that can be understood but not fulfilled: `{"error": …}` as the retired API has it.
    pub(crate) fn invalid(message: &str) -> Self {
        Self { body: Some(json!({ "error": message })), media_type: ERROR_MEDIA_TYPE, ..Self::bare(422) }
    }

    /// A request that a correct client would not send: its fault is recorded as a violation.
    pub(crate) fn improper(status: u16, what: impl Into<String>) -> Self {
        let what = what.into();
        Self {
            body: Some(json!({ "error": what })),
            media_type: ERROR_MEDIA_TYPE,
            violation: Some(what),
            ..Self::bare(status)
        }
    }

    pub(crate) fn wrong_method(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::improper(405, "the path has no such method") }
    }
}
