//! `/livez`, `/readyz` and `/metrics`: for orchestrators and Prometheus, on the admin listener only.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use hookline_common::telemetry::metrics::Metrics;
use serde_json::json;

use crate::admin::Readiness;
use crate::error::IngestError;
use crate::request_id::request_id;

/// The Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) struct Health {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Readiness,
}

/// Answers every request to the admin listener.
pub(crate) async fn answer(request: HttpRequest, payload: web::Payload, health: web::Data<Health>) -> HttpResponse {
    let route: fn(&Health) -> HttpResponse = match request.path() {
        "/livez" => livez,
        "/readyz" => readyz,
        "/metrics" => metrics,
        _ => {
            let error = IngestError::NotFound { hint: "try /livez, /readyz or /metrics" };
            return error.response(&request_id(request.headers()), payload.into_inner());
        }
    };
    if request.method() == Method::GET || request.method() == Method::HEAD {
        route(&health)
    } else {
        let error = IngestError::MethodNotAllowed { allow: "GET, HEAD" };
        error.response(&request_id(request.headers()), payload.into_inner())
    }
}

fn livez(_: &Health) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive" }))
}

fn readyz(health: &Health) -> HttpResponse {
    let reasons = (health.readiness)();
    if reasons.is_empty() {
        HttpResponse::Ok().json(json!({ "status": "ready" }))
    } else {
        HttpResponse::ServiceUnavailable().json(json!({ "status": "not_ready", "reasons": reasons }))
    }
}

fn metrics(health: &Health) -> HttpResponse {
    HttpResponse::Ok().content_type(METRICS_TYPE).body(health.metrics.render())
}
