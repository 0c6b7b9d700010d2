//! All reasons for refusing a request, and the only place that maps them to an HTTP status (docs/reference.md).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;

use crate::sources::Refused;

/// One variant per answer. A fault of ours never becomes a 4xx, because a sender may take a 4xx for final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IngestError {
    NotFound {
        hint: &'static str,
    },
    UnknownSource,
    MethodNotAllowed {
        allow: &'static str,
    },
    Overloaded,
    BodyTooLarge {
        limit: usize,
    },
    RequestTimeout,
    /// The sender disconnected during the body, or the body's chunks are malformed.
    BodyUnreadable,
    Signature {
        header: &'static str,
        refused: Refused,
    },
    NotDurable,
}

/// Seconds until the sender should retry. A burst is over soon; an outage of storage is not.
const OVERLOADED_RETRY_AFTER: &str = "1";
const NOT_DURABLE_RETRY_AFTER: &str = "5";

impl IngestError {
    fn status(self) -> StatusCode {
        match self {
            Self::NotFound { .. } | Self::UnknownSource => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyUnreadable => StatusCode::BAD_REQUEST,
            Self::Signature { .. } => StatusCode::UNAUTHORIZED,
            Self::Overloaded | Self::NotDurable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::BodyUnreadable => "body_unreadable",
            Self::UnknownSource
            | Self::MethodNotAllowed { .. }
            | Self::Overloaded
            | Self::BodyTooLarge { .. }
            | Self::RequestTimeout
            | Self::Signature { .. }
            | Self::NotDurable => self.result().unwrap_or_default(),
        }
    }

    /// Returns the metric label, or `None` for requests that are not counted: unknown paths and unreadable bodies.
    pub(crate) fn result(self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } | Self::BodyUnreadable => None,
            Self::UnknownSource => Some("unknown_source"),
            Self::MethodNotAllowed { .. } => Some("method_not_allowed"),
            Self::Overloaded => Some("overloaded"),
            Self::BodyTooLarge { .. } => Some("body_too_large"),
            Self::RequestTimeout => Some("request_timeout"),
            Self::Signature { refused: Refused::Missing, .. } => Some("signature_missing"),
            Self::Signature { refused: Refused::Mismatch, .. } => Some("signature_mismatch"),
            Self::NotDurable => Some("not_durable"),
        }
    }

    fn message(self) -> String {
        match self {
            Self::NotFound { hint } => format!("nothing is at this path; {hint}"),
            Self::UnknownSource => {
                "no source of this name is configured; check the URL against the [[sources]] names".to_owned()
            }
            Self::MethodNotAllowed { allow } => format!("this path takes {allow} only"),
            Self::Overloaded => "too many requests are being stored right now; send it again shortly".to_owned(),
            Self::BodyTooLarge { limit } => {
                format!("the body is over {limit} bytes; send less, or raise [ingest] max_body_bytes")
            }
            Self::RequestTimeout => "the body did not arrive in time; send it again, faster".to_owned(),
            Self::BodyUnreadable => "the body ended early or its chunks are malformed; send it again whole".to_owned(),
            Self::Signature { header, refused: Refused::Missing } => {
                format!("the header {header} is missing; sign the raw body with the webhook secret")
            }
            Self::Signature { header, refused: Refused::Mismatch } => format!(
                "{header} does not match the body; send one signature of the exact bytes, made with the configured secret"
            ),
            Self::NotDurable => "the event could not be stored; send it again".to_owned(),
        }
    }

    /// Builds the HTTP response. `unread` is the part of the request's body that may still be unread.
    pub(crate) fn response(self, request_id: &str, unread: Payload) -> HttpResponse {
        let mut builder = HttpResponse::build(self.status());
        match self {
            Self::Overloaded => retry_after(&mut builder, OVERLOADED_RETRY_AFTER),
            Self::NotDurable => retry_after(&mut builder, NOT_DURABLE_RETRY_AFTER),
            Self::MethodNotAllowed { allow } => drop(builder.insert_header((header::ALLOW, allow))),
            Self::RequestTimeout => drop(builder.force_close()),
            Self::NotFound { .. }
            | Self::UnknownSource
            | Self::BodyTooLarge { .. }
            | Self::BodyUnreadable
            | Self::Signature { .. } => {}
        }
        let body = serde_json::json!({ "error": { "code": self.code(), "message": self.message() } }).to_string();
        builder
            .content_type("application/json")
            .insert_header((crate::request_id::HEADER, request_id))
            .body(Answer { text: Some(body.into()), _unread: unread })
    }
}

fn retry_after(builder: &mut HttpResponseBuilder, seconds: &'static str) {
    builder.insert_header((header::RETRY_AFTER, seconds));
}

/// A response body that may be sent before the request's body was read. It holds the unread rest of the request until
/// the response is sent, so that actix closes the connection after a bounded time. If the rest were dropped, actix
/// would drain a chunked body for as long as the sender keeps sending.
struct Answer {
    text: Option<Bytes>,
    _unread: Payload,
}

impl MessageBody for Answer {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.text.as_ref().map_or(0, |text| text.len() as u64))
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.text.take().map(Ok))
    }
}
