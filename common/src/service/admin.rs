//! The admin listener of every service: `/livez`, `/readyz` and `/metrics`, for orchestrators and Prometheus. It is
//! separate from the webhook listener, so that a flood there doesn't hide the state of the process, and strangers don't
//! see that state.
//!
//! It is in this crate and on hyper because the worker serves it too, and must link neither ingest nor its HTTP
//! framework.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::service::telemetry::metrics::Metrics;

/// The default address of `hookline-ingest`, `hookline run` and `hookline dev`.
pub const INGEST_LISTEN: SocketAddr = loopback(9464);
/// The default address of `hookline-worker`.
pub const WORKER_LISTEN: SocketAddr = loopback(9465);

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON_TYPE: &str = "application/json";
/// How many connections are open at a time; a further one ends the oldest. Probes and scrapers are few and quick.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection may take in all: for one request and its answer, since none is kept for a second.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a shutdown waits for open connections. Those are scrapes, so a short time is enough.
const CLOSING: Duration = Duration::from_secs(1);
/// How long we wait after a failed accept: if descriptors ran out, say, the next one would fail at once again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// The state of a process, for `/readyz`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadinessReport {
    /// Why the process is not ready; empty if it is.
    pub not_ready: Vec<String>,
    /// What an operator should know although the process is ready.
    pub degraded: Vec<String>,
}

impl ReadinessReport {
    /// Merges the reports of both halves of one process; a reason that both give appears once.
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

    /// Counts what keeps this half from being ready as degraded, where the other half decides.
    #[must_use]
    pub fn as_degraded(self) -> Self {
        Self::default().and(Self { not_ready: Vec::new(), degraded: [self.not_ready, self.degraded].concat() })
    }
}

/// Called at each `GET /readyz`, so it must be quick.
pub type Readiness = Arc<dyn Fn() -> ReadinessReport + Send + Sync>;

/// A bound listener; [`AdminServer::run`] serves it.
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
    /// Binds `addr`; port 0 means any free port.
    ///
    /// # Errors
    /// If the address cannot be bound.
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

    /// Serves until cancelled. Cancel it after the services, so that `/readyz` still answers while they drain.
    ///
    /// # Errors
    /// If the listener cannot be used.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let listener = TcpListener::from_std(self.listener).context("the admin listener failed")?;
        let open = Arc::new(OpenConnections::default());
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (health, stop) = (Arc::clone(&self.health), shutdown.clone());
                    let place = open.add();
                    connections.spawn(async move {
                        tokio::select! {
                            () = serve(stream, health, stop) => {}
                            () = place.ended_for_another.cancelled() => {}
                            () = tokio::time::sleep(CONNECTION_TIMEOUT) => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "the admin listener accepted no connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        connections.close();
        // Connections that are still open then are cut off when the process ends.
        let _ = tokio::time::timeout(CLOSING, connections.wait()).await;
        Ok(())
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// The connections that are open, oldest first.
#[derive(Default)]
struct OpenConnections {
    accepted: AtomicU64,
    open: Mutex<BTreeMap<u64, CancellationToken>>,
}

/// One open connection's place; dropping it gives the place back.
struct Place {
    open: Arc<OpenConnections>,
    number: u64,
    ended_for_another: CancellationToken,
}

impl OpenConnections {
    /// Adds a connection, and ends the oldest where there are too many: idle ones must not keep a probe waiting.
    fn add(self: &Arc<Self>) -> Place {
        let ended_for_another = CancellationToken::new();
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        let mut open = self.lock();
        open.insert(number, ended_for_another.clone());
        if open.len() > MAX_CONNECTIONS
            && let Some((_, oldest)) = open.pop_first()
        {
            oldest.cancel();
        }
        Place { open: Arc::clone(self), number, ended_for_another }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        // No code panics while it holds this lock, so the map is consistent even if the lock is poisoned.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.lock().remove(&self.number);
    }
}

async fn serve(stream: TcpStream, health: Arc<Health>, stop: CancellationToken) {
    // Without this, a small answer in two writes would wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&health, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(CONNECTION_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A client that goes away or sends nonsense ends only its own connection.
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
