//! The API that workers call: answers every request after a fixed time, and counts. The sandbox is stricter and keeps
//! a ledger of every request; here the worker is measured, not its correctness.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use super::{Questions, answer, ready};
use crate::figures::Tally;

#[derive(Serialize, Deserialize)]
pub(crate) struct ApiSpec {
    pub(crate) latency: Duration,
}

/// The answer to any question: what happened since the start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) answered: u64,
    /// On this process's clock.
    pub(crate) at: Duration,
    /// How long an answer really took here: timers come late, never early.
    pub(crate) latency_p50_ms: f64,
}

struct Shared {
    latency: Duration,
    answered: AtomicU64,
    held: Mutex<Tally>,
}

pub(super) async fn run(questions: &mut Questions) -> anyhow::Result<()> {
    crate::open_files::raise_limit();
    let spec: ApiSpec = questions.spec().await?;
    let held = Mutex::new(Tally::new()?);
    let shared = Arc::new(Shared { latency: spec.latency, answered: AtomicU64::new(0), held });
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.context("the API listens")?;
    let started = Instant::now();
    ready(Some(listener.local_addr()?))?;
    tokio::spawn(accept(listener, Arc::clone(&shared)));
    while let Some(serde::de::IgnoredAny) = questions.next().await? {
        let held = shared.held.lock().unwrap_or_else(PoisonError::into_inner).figures(Duration::from_secs(1));
        answer(&Snapshot {
            answered: shared.answered.load(Ordering::Relaxed),
            at: started.elapsed(),
            latency_p50_ms: held.p50_ms,
        })?;
    }
    Ok(())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
            Err(error) => {
                tracing::warn!(%error, "the benchmark's API accepted no connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Refused at worst: answers are one write each.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(&shared, request));
    // The client closing it is how a connection ends.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let arrived = Instant::now();
    // A body that breaks off is its sender's trouble; the answer is the same.
    let _ = request.into_body().collect().await;
    tokio::time::sleep_until((arrived + shared.latency).into()).await;
    shared.answered.fetch_add(1, Ordering::Relaxed);
    shared.held.lock().unwrap_or_else(PoisonError::into_inner).answered(arrived.elapsed());
    let mut response = Response::new(Full::from("{}"));
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}
