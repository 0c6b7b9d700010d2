//! The admin listener of every service: `/livez`, `/readyz` and `/metrics`, for orchestrators and Prometheus. Apart
//! from the webhook listener, so that a flood there doesn't hide how the process is, and strangers don't see it.
//!
//! It is here and on hyper because the worker serves it as well, and must link neither ingest nor its HTTP framework.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::service::telemetry::metrics::Metrics;

/// Where `hookline-ingest`, `hookline run` and `hookline dev` answer when nothing is configured.
pub const INGEST_LISTEN: SocketAddr = loopback(9464);
/// Where `hookline-worker` answers when nothing is configured.
pub const WORKER_LISTEN: SocketAddr = loopback(9465);

/// The Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON_TYPE: &str = "application/json";
/// Probes and scrapers are few; whoever opens more connections waits.
const MAX_CONNECTIONS: usize = 256;
/// For a request's head, and for a connection that idles.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What is still open when the process ends are scrapes: they needn't be waited for long.
const CLOSING: Duration = Duration::from_secs(1);
/// Out of descriptors, say: the next accept would fail at once again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How a process stands, for `/readyz`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadinessReport {
    /// Why it is not ready; empty: it is.
    pub not_ready: Vec<String>,
    /// What an operator should know although it is ready.
    pub degraded: Vec<String>,
}

impl ReadinessReport {
    /// Both halves of one process; what both say is told once.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (ours, theirs) in [(&mut self.not_ready, other.not_ready), (&mut self.degraded, other.degraded)] {
            for reason in theirs {
                if !ours.contains(&reason) {
                    ours.push(reason);
                }
            }
        }
        self
    }
}

/// Asked at each `GET /readyz`, so it must be quick.
pub type Readiness = Arc<dyn Fn() -> ReadinessReport + Send + Sync>;

/// Bound, and serving from [`AdminServer::run`] on.
pub struct AdminServer {
    listener: StdListener,
    local_addr: SocketAddr,
    health: Arc<Health>,
}

struct Health {
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

type Answer = Response<Full<Bytes>>;

impl AdminServer {
    /// Binds `addr`; port 0 means any.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub fn bind(addr: SocketAddr, metrics: Arc<Metrics>, readiness: Readiness) -> anyhow::Result<Self> {
        let listening = || {
            let listener = StdListener::bind(addr)?;
            listener.set_nonblocking(true)?;
            let local_addr = listener.local_addr()?;
            Ok::<_, std::io::Error>((listener, local_addr))
        };
        let (listener, local_addr) = listening()
            .with_context(|| format!("[admin] listen: cannot listen on {addr}; choose another address or port"))?;
        Ok(Self { listener, local_addr, health: Arc::new(Health { metrics, readiness }) })
    }

    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until cancelled. Cancel it after the services: while they drain, `/readyz` has something to say.
    ///
    /// # Errors
    /// Where the listener cannot be used.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let listener = TcpListener::from_std(self.listener).context("the admin listener failed")?;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
            };
            match accepted {
                Ok((stream, place)) => {
                    let (health, stop) = (Arc::clone(&self.health), shutdown.clone());
                    connections.spawn(async move {
                        serve(stream, health, stop).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "the admin listener accepted no connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        connections.close();
        // What is not done by then is cut off with the process.
        let _ = tokio::time::timeout(CLOSING, connections.wait()).await;
        Ok(())
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    listener.accept().await.map(|(stream, _)| (stream, place))
}

async fn serve(stream: TcpStream, health: Arc<Health>, stop: CancellationToken) {
    // A small answer in two writes would wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&health, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A client that goes away or talks nonsense ends its own connection only.
    tokio::select! {
        _ = &mut connection => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

fn answer(health: &Health, request: &Request<Incoming>) -> Answer {
    let route: fn(&Health) -> Answer = match request.uri().path() {
        "/livez" => livez,
        "/readyz" => readyz,
        "/metrics" => metrics,
        _ => {
            return error(
                StatusCode::NOT_FOUND,
                "not_found",
                "nothing is at this path; try /livez, /readyz or /metrics",
            );
        }
    };
    if request.method() == Method::GET || request.method() == Method::HEAD {
        return route(health);
    }
    let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes GET, HEAD only");
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    refused
}

fn livez(_: &Health) -> Answer {
    document(StatusCode::OK, &json!({ "status": "alive" }))
}

fn readyz(health: &Health) -> Answer {
    let ReadinessReport { not_ready, degraded } = (health.readiness)();
    let mut told = json!({ "status": if not_ready.is_empty() { "ready" } else { "not_ready" } });
    for (key, reasons) in [("reasons", &not_ready), ("degraded", &degraded)] {
        if !reasons.is_empty() {
            told[key] = json!(reasons);
        }
    }
    document(if not_ready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &told)
}

fn metrics(health: &Health) -> Answer {
    with_type(StatusCode::OK, METRICS_TYPE, health.metrics.render())
}

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    document(status, &json!({ "error": { "code": code, "message": message } }))
}

fn document(status: StatusCode, document: &Value) -> Answer {
    with_type(status, JSON_TYPE, document.to_string())
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_halves_of_one_process_tell_a_shared_reason_once() {
        let half =
            |reason: &str| ReadinessReport { not_ready: vec![reason.to_owned()], degraded: vec!["slow".to_owned()] };

        let both = half("no broker").and(half("no broker")).and(half("no store"));

        assert_eq!(both.not_ready, ["no broker", "no store"]);
        assert_eq!(both.degraded, ["slow"]);
    }
}
