//! The API that workers call. It answers every request after a fixed time and counts them; it may have a limit, and may
//! hang. The sandbox is stricter and records every request, but here the worker's speed is measured, not its
//! correctness.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use hookline_sandbox::RetryAfterForm;
use hookline_sandbox::rate_limit::Quota;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use super::limit::{Caller, LimitSpec, Limited};
use super::{Questions, answer, ready};
use crate::figures::Tally;

const MESSAGES: &str = "/messages/";

#[derive(Serialize, Deserialize)]
pub(crate) struct ApiSpec {
    pub(crate) latency: Duration,
    /// `None` means no limit.
    pub(crate) limit: Option<LimitSpec>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum ApiQuestion {
    /// Asks for a [`Snapshot`].
    Counts,
    /// Asks for every `ApiCall` since the previous request; there are none without a limit.
    Calls,
    /// Lets the API answer no look-up of a message from now on; the answer is a [`Snapshot`].
    Hang,
}

/// The counts since the start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) answered: u64,
    /// Time since the start, on this process's clock.
    pub(crate) at: Duration,
    /// Median time that an answer really took, because timers fire late, never early.
    pub(crate) latency_p50_ms: f64,
}

struct ApiState {
    started: Instant,
    latency: Duration,
    limited: Option<Arc<Limited>>,
    hangs: AtomicBool,
    answered: AtomicU64,
    held: Mutex<Tally>,
}

pub(super) async fn run(questions: &mut Questions) -> anyhow::Result<()> {
    crate::open_files::raise_limit();
    let spec: ApiSpec = questions.spec().await?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.context("the API listens")?;
    let shared = Arc::new(ApiState {
        started: Instant::now(),
        latency: spec.latency,
        limited: spec.limit.map(Limited::start),
        hangs: AtomicBool::new(false),
        answered: AtomicU64::new(0),
        held: Mutex::new(Tally::new()?),
    });
    ready(Some(listener.local_addr()?))?;
    tokio::spawn(accept(listener, Arc::clone(&shared)));
    while let Some(question) = questions.next().await? {
        match question {
            ApiQuestion::Counts => answer(&shared.snapshot())?,
            ApiQuestion::Calls => {
                answer(&shared.limited.as_ref().map(|limited| limited.take_calls()).unwrap_or_default())?;
            }
            ApiQuestion::Hang => {
                shared.hangs.store(true, Ordering::Relaxed);
                answer(&shared.snapshot())?;
            }
        }
    }
    Ok(())
}

impl ApiState {
    fn snapshot(&self) -> Snapshot {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).figures(Duration::from_secs(1));
        Snapshot {
            answered: self.answered.load(Ordering::Relaxed),
            at: self.started.elapsed(),
            latency_p50_ms: held.p50_ms,
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<ApiState>) {
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

async fn connection(stream: TcpStream, shared: Arc<ApiState>) {
    // If the call is refused, nothing is lost, because answers are one write each.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(&shared, request));
    // A connection ends when the client closes it.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(shared: &ApiState, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let arrived = Instant::now();
    let quota = shared.limited.as_ref().map(|limited| limited.count(caller(&request)));
    let (status, body) = answer_to(&request);
    if shared.hangs.load(Ordering::Relaxed) && request.uri().path().starts_with(MESSAGES) {
        std::future::pending::<()>().await;
    }
    // A body that breaks off is its sender's problem; the answer stays the same.
    let _ = request.into_body().collect().await;
    tokio::time::sleep_until((arrived + shared.latency).into()).await;
    shared.answered.fetch_add(1, Ordering::Relaxed);
    shared.held.lock().unwrap_or_else(PoisonError::into_inner).answered(arrived.elapsed());
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(quota) = quota {
        tell(&quota, response.headers_mut());
        if quota.exceeded {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        }
    }
    Ok(response)
}

fn caller(request: &Request<Incoming>) -> Caller {
    if request.method() != Method::PUT {
        return Caller::Ours;
    }
    Caller::OptOut(request.uri().path().rsplit('/').next().unwrap_or_default().to_owned())
}

/// Returns as much of the real answer as its reader needs.
fn answer_to(request: &Request<Incoming>) -> (StatusCode, String) {
    let path = request.uri().path();
    if path.starts_with(MESSAGES) {
        return (StatusCode::OK, format!(r#"{{"id":"{path}"}}"#));
    }
    // Only an answer that names the number proves that the opt-out is recorded; otherwise the worker would PUT it
    // again.
    (StatusCode::CREATED, format!(r#"{{"@type":"OptOut","id":"{path}"}}"#))
}

fn tell(quota: &Quota, headers: &mut HeaderMap) {
    let retry_after = quota.exceeded.then(|| quota.retry_after(RetryAfterForm::Seconds)).flatten();
    let told = quota.headers().into_iter().chain(retry_after.map(|seconds| (RETRY_AFTER.as_str(), seconds)));
    for (name, value) in told {
        // These conversions cannot fail: values are digits, and names are constants here or in the sandbox.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
}
