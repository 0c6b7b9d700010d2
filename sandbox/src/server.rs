//! HTTP/1.1 around the state: the listener, the way of one request, and faults. hyper is used directly because its
//! connections can be dropped without an answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Answer;
use crate::echo::{self, EchoCounts};
use crate::fault::{self, Fault};
use crate::ledger::RecordedRequest;
use crate::options::EchoTiming;
use crate::rate_limit::Quota;
use crate::reply::{self, Response};
use crate::route;
use crate::state::{State, sent_path};

/// No call of the API needs more.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What the listener, its connections and the echoes share.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) echo_counts: Mutex<EchoCounts>,
    pub(crate) client: reqwest::Client,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(state: State, client: reqwest::Client) -> Self {
        Self {
            state: Mutex::new(state),
            echo_counts: Mutex::default(),
            client,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts connections until the stand-in is stopped.
pub(crate) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                shared.tasks.spawn(connection(stream, Arc::clone(&shared)));
            }
            // Out of descriptors, say: the next accept would fail at once again.
            Err(error) => {
                tracing::debug!(%error, "sandbox accepted no connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Small answers in several writes would wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(Arc::clone(&shared), request));
    let mut http = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        () = shared.stop.cancelled() => return,
        ended = &mut http => ended,
    };
    if ended.is_err_and(|error| std::error::Error::source(&error).is_some_and(|source| source.is::<Dropped>())) {
        // Zero linger makes the close a reset, which no client can take for the end of an answer.
        let _ = http.into_parts().io.into_inner().set_zero_linger();
    }
}

/// A fault wants the connection dropped without an answer.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dropped by a fault")
    }
}

impl std::error::Error for Dropped {}

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response, Dropped> {
    let (head, body) = request.into_parts();
    let Arrival { number, quota, fault } = arrive(&shared, &head);
    let mut response = if quota.exceeded {
        let retry_after = quota.retry_after(shared.state().options.retry_after_form);
        reply::throttled(retry_after.as_deref())
    } else {
        match Limited::new(body, MAX_BODY_BYTES).collect().await {
            Ok(body) => serve(&shared, &head, body.to_bytes(), fault).await?,
            Err(_) => reply::plain(Answer::bare(StatusCode::PAYLOAD_TOO_LARGE.as_u16())),
        }
    };
    for (name, value) in quota.headers() {
        let name = HeaderName::try_from(name).expect("a constant that is a header name");
        // A fault may have set its own.
        response.headers_mut().entry(name).or_insert(HeaderValue::try_from(value).expect("digits"));
    }
    shared.state().ledger.answered(number, response.status().as_u16());
    Ok(response)
}

struct Arrival {
    number: u64,
    quota: Quota,
    fault: Option<Fault>,
}

/// Records and counts a request as soon as its head is there: a client that leaves before the answer has asked too.
fn arrive(shared: &Shared, head: &Parts) -> Arrival {
    let mut state = shared.state();
    let state = &mut *state;
    let path = sent_path(head);
    let endpoint = route::find(&head.method, head.uri.path()).ok().map(|route| route.endpoint);
    let idempotency_key = head.headers.get("Idempotency-Key").and_then(|value| value.to_str().ok());

    let who = if state.is_authorized(&head.headers) { state.options.token.as_str() } else { "anonymous" };
    let limit = state.options.rate_limit.unwrap_or(crate::options::DOCUMENTED_RATE_LIMIT);
    let quota = state.limiter.count(who, limit, SystemTime::now());
    let fault = if quota.exceeded { None } else { fault::take(&mut state.faults, &head.method, &path, endpoint) };
    let number = state.ledger.record(RecordedRequest {
        at: Timestamp::now(),
        method: head.method.clone(),
        path,
        endpoint,
        status: None,
        idempotency_key: idempotency_key.map(str::to_owned),
    });
    Arrival { number, quota, fault }
}

async fn serve(shared: &Arc<Shared>, head: &Parts, body: Bytes, fault: Option<Fault>) -> Result<Response, Dropped> {
    let answer = if fault.as_ref().is_none_or(Fault::carries_out) {
        carry_out(shared, head, &body).await
    } else {
        // Never sent: every fault that carries nothing out has an answer of its own, or none.
        Answer::bare(StatusCode::SERVICE_UNAVAILABLE.as_u16())
    };
    let latency = shared.state().options.latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    match fault {
        None => Ok(reply::plain(answer)),
        Some(Fault::Status { status, headers, body }) => Ok(reply::status(status, &headers, body)),
        Some(Fault::Throttle { retry_after }) => Ok(reply::throttled(Some(&retry_after))),
        Some(Fault::Slow(time)) => {
            tokio::time::sleep(time).await;
            Ok(reply::plain(answer))
        }
        Some(Fault::Hang(time) | Fault::EffectThenHang(time)) => {
            tokio::time::sleep(time).await;
            Err(Dropped)
        }
        Some(Fault::Reset | Fault::EffectThenReset) => Err(Dropped),
        Some(Fault::EffectThenStatus(status)) => Ok(reply::status(status, &[], None)),
        Some(Fault::GarbageBody) => Ok(reply::garbage()),
        Some(Fault::HugeBody(bytes)) => Ok(reply::huge(bytes)),
        Some(Fault::TruncatedBody) => Ok(reply::truncated(answer)),
        Some(Fault::DripBody(pause)) => Ok(reply::dripping(answer, pause)),
    }
}

/// The effect is made in one go, under the lock and without an await: a client that leaves cannot halve it.
async fn carry_out(shared: &Arc<Shared>, head: &Parts, body: &Bytes) -> Answer {
    let (answer, echoes, timing) = {
        let mut state = shared.state();
        let answer = state.carry_out(head, body);
        (answer, std::mem::take(&mut state.outbox), state.options.echo_timing)
    };
    for payload in echoes {
        let echo = echo::spawn(shared, &payload, timing);
        if timing == EchoTiming::BeforeAnswer {
            // It only fails where the stand-in is being stopped.
            let _ = echo.await;
        }
    }
    answer
}
