//! An endpoint's answer, before it becomes HTTP.

use hyper::header::HeaderName;
use serde_json::{Value, json};

/// The media type of the API: <https://apidocs.next.textus.com/overview/making_requests/>
pub(crate) const MEDIA_TYPE: &str = "application/vnd.textus+jsonld";

/// Media type of validation errors, which are documented only for the retired API, as plain JSON.
const ERROR_MEDIA_TYPE: &str = "application/json";

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `None` means no body and no `Content-Type`.
    pub(crate) body: Option<Value>,
    pub(crate) media_type: &'static str,
    /// The value of the `Allow` header.
    pub(crate) allow: Option<&'static str>,
    /// Further headers.
    pub(crate) headers: Vec<(HeaderName, String)>,
    /// The request's fault, if a correct client would not have sent the request.
    pub(crate) violation: Option<String>,
}

impl Answer {
    pub(crate) fn bare(status: u16) -> Self {
        Self { status, body: None, media_type: MEDIA_TYPE, allow: None, headers: Vec::new(), violation: None }
    }

    pub(crate) fn resource(status: u16, body: Value) -> Self {
        Self { body: Some(body), ..Self::bare(status) }
    }

    pub(crate) fn absent() -> Self {
        Self::bare(404)
    }

    /// Answers a request that can be understood but not fulfilled, with `{"error": …}` as in the retired API.
    pub(crate) fn invalid(message: &str) -> Self {
        Self { body: Some(json!({ "error": message })), media_type: ERROR_MEDIA_TYPE, ..Self::bare(422) }
    }

    /// Answers a request that a correct client would not send, and records it as a violation.
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
