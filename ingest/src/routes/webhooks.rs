//! `POST /webhooks/{source}`, with the order of decisions that docs/reference.md promises. Source, method, room and
//! declared size are checked before the body is read, the signature before the body is parsed, and durability before
//! the 200.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, web};
use futures::FutureExt;
use hookline_broker::{Stored, topology};
use hookline_common::event::Event;
use hookline_common::service::telemetry::metrics::{Metrics, NO_SOURCE};
use hookline_common::service::telemetry::progress::{Milestone, ProgressFeed};
use hookline_common::time::Timestamp;

use super::body::BodyLimits;
use crate::connection::Busy;
use crate::durable::Durable;
use crate::error::IngestError;
use crate::log_throttle::LogThrottle;
use crate::request_id::{self, request_id, traceparent};
use crate::sources::{Refused, RequestFacts, Source, Sources};

const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// State shared by all requests; `app` creates it once.
pub(crate) struct AppState {
    pub(crate) sources: Sources,
    pub(crate) durable: Durable,
    pub(crate) body: BodyLimits,
    pub(crate) in_flight: InFlightLimit,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) progress: ProgressFeed,
    pub(crate) mismatch_lines: LogThrottle,
    pub(crate) failure_lines: LogThrottle,
    pub(crate) unparsed_lines: LogThrottle,
}

/// Limits how many requests may be read or stored at once.
pub(crate) struct InFlightLimit {
    taken: AtomicUsize,
    limit: usize,
}

struct InFlightPermit<'a>(&'a InFlightLimit);

impl InFlightLimit {
    pub(crate) fn new(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), limit }
    }

    fn take(&self) -> Option<InFlightPermit<'_>> {
        let permit = InFlightPermit(self);
        (self.taken.fetch_add(1, Ordering::Relaxed) < self.limit).then_some(permit)
    }
}

impl Drop for InFlightPermit<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers every request to `/webhooks/{source}`, whatever its method, and counts it once.
pub(crate) async fn receive(request: HttpRequest, payload: web::Payload, state: web::Data<AppState>) -> HttpResponse {
    let connection = Busy::mark(&request);
    let request_id = request_id(request.headers());
    let mut payload = payload.into_inner();
    let wanted = request.match_info().get("source").unwrap_or_default();
    let sources = state.sources.now();
    let source = sources.iter().find(|source| source.name().as_str() == wanted);
    let label = source.map_or(NO_SOURCE, |source| source.name().as_str());

    let answer = match source {
        None => Err(IngestError::UnknownSource),
        Some(source) => AssertUnwindSafe(state.accept(source, &request, &mut payload, &connection, &request_id))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                state.log_failure("a request panicked", &request_id);
                Err(IngestError::NotDurable)
            }),
    };
    match answer {
        Ok(accepted) => {
            state.metrics.ingest.request(label, accepted.result());
            accepted.response(&request_id)
        }
        Err(error) => {
            if let Some(result) = error.result() {
                state.metrics.ingest.request(label, result);
            }
            error.response(&request_id, payload)
        }
    }
}

/// Answers requests to every other path.
pub(crate) async fn not_found(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let _busy = Busy::mark(&request);
    let error = IngestError::NotFound { hint: "webhooks are POSTed to /webhooks/{source}" };
    error.response(&request_id(request.headers()), payload.into_inner())
}

struct Accepted {
    event: Event,
    stored: Stored,
}

impl Accepted {
    /// Returns the metric label. A repeat counts only as `duplicate_seen`, so that the other labels add up to distinct
    /// events.
    fn result(&self) -> &'static str {
        if self.stored.duplicate {
            "duplicate_seen"
        } else if self.event.event_type.is_unparsed() {
            "unparsed"
        } else {
            "accepted"
        }
    }

    fn response(&self, request_id: &str) -> HttpResponse {
        HttpResponse::Ok()
            .content_type("application/json")
            .insert_header((request_id::HEADER, request_id))
            // An event id needs no escaping: it consists of `evt_` and hexadecimal digits.
            .body(format!(r#"{{"event_id":"{}","status":"accepted"}}"#, self.event.id))
    }
}

impl AppState {
    async fn accept(
        &self,
        source: &Source,
        request: &HttpRequest,
        payload: &mut Payload,
        connection: &Busy,
        request_id: &str,
    ) -> Result<Accepted, IngestError> {
        let headers = request.headers();
        if request.method() != Method::POST {
            return Err(IngestError::MethodNotAllowed { allow: "POST" });
        }
        let _place = self.in_flight.take().ok_or(IngestError::Overloaded)?;
        let declared = self.body.check_declared(headers)?;
        let (body, _buffered) = self.body.read(payload, declared, connection).await?;

        let read_at = Instant::now();
        let header = source.signature_header();
        let signatures = headers.get_all(header).map(|value| value.as_bytes());
        let event = source.accept(signatures, body, facts(headers, request_id)).map_err(|refused| {
            self.log_refusal(source, refused, request_id);
            IngestError::Signature { header, refused }
        })?;

        let stored = self.durable.store(&event).await.map_err(|error| {
            self.log_failure(&error.to_string(), request_id);
            IngestError::NotDurable
        })?;

        let accepted = Accepted { event: event.into_inner(), stored };
        self.record(&accepted, read_at, request_id);
        Ok(accepted)
    }

    fn record(&self, accepted: &Accepted, read_at: Instant, request_id: &str) {
        let Accepted { event, stored } = accepted;
        let took = read_at.elapsed();
        self.metrics.ingest.acknowledged(event.source.as_str(), took);
        if stored.duplicate {
            self.metrics.repeated(topology::takers(&event.event_type));
        } else if event.event_type.is_unparsed() {
            self.log_unparsed(event, request_id);
        }
        if self.progress.is_watched() {
            self.progress.record(Milestone::Accepted {
                event_id: event.id.clone(),
                event_type: event.event_type.clone(),
                duplicate: stored.duplicate,
                took,
            });
        }
        tracing::debug!(
            event.id = event.id.as_str(),
            event.r#type = event.event_type.log_label(),
            event.source = event.source.as_str(),
            duplicate = stored.duplicate,
            request.id = request_id,
            "event.accepted"
        );
    }

    fn log_refusal(&self, source: &Source, refused: Refused, request_id: &str) {
        if let Some(held_back) = self.mismatch_lines.pass() {
            tracing::warn!(
                event.source = source.name().as_str(),
                request.id = request_id,
                lines_held_back = held_back,
                "event.refused: {refused}; if these are the source's own posts, the configured secret is not theirs"
            );
        }
    }

    fn log_unparsed(&self, event: &Event, request_id: &str) {
        if let Some(held_back) = self.unparsed_lines.pass() {
            tracing::warn!(
                event.id = event.id.as_str(),
                request.id = request_id,
                lines_held_back = held_back,
                "event.unparsed: signed, and cannot be read: kept, and a dead letter of record_history"
            );
        }
    }

    fn log_failure(&self, reason: &str, request_id: &str) {
        if let Some(held_back) = self.failure_lines.pass() {
            tracing::error!(
                request.id = request_id,
                lines_held_back = held_back,
                "event.not_durable: answered 503, the sender has to send it again: {reason}"
            );
        }
    }
}

fn facts(headers: &HeaderMap, request_id: &str) -> RequestFacts {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .filter(|text| text.len() <= MAX_CONTENT_TYPE_BYTES)
        .map(str::to_owned);
    RequestFacts {
        received_at: Timestamp::now(),
        content_type,
        request_id: Some(request_id.to_owned()),
        traceparent: traceparent(headers),
    }
}
