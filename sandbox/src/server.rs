//! Serves the sandbox's state over HTTP/1.1: accepts connections, takes each request through the state, and applies
//! faults. We use hyper directly because its connections can be dropped without an answer.

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
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Answer;
use crate::echo::{self, EchoCounts};
use crate::fault::Fault;
use crate::fault_rule::{self, Met};
use crate::ledger::RecordedRequest;
use crate::options::EchoTiming;
use crate::rate_limit::Quota;
use crate::reply::{self, Response};
use crate::state::{State, sent_path};
use crate::subject::Subject;
use crate::{raw, route};

/// Header on every answer, faults included, unless a test plays the real API. It lets a client recognise the sandbox.
const MARK: HeaderName = HeaderName::from_static("x-hookline-sandbox");

/// Maximum size of a request's body; no call of the API needs more.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// State shared by the listener, its connections and the echoes.
pub(crate) struct SandboxState {
    state: Mutex<State>,
    pub(crate) echo_counts: Mutex<EchoCounts>,
    pub(crate) client: reqwest::Client,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl SandboxState {
    pub(crate) fn new(state: State, client: reqwest::Client) -> Self {
        Self {
            state: Mutex::new(state),
            echo_counts: Mutex::default(),
            client,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Locks the state. Never hold the guard across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts connections until the sandbox is stopped.
pub(crate) async fn run(listener: TcpListener, shared: Arc<SandboxState>) {
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                shared.tasks.spawn(connection(stream, Arc::clone(&shared)));
            }
            // For example without free descriptors, the next accept would fail again at once.
            Err(error) => {
                tracing::debug!(%error, "sandbox accepted no connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<SandboxState>) {
    // Without this, small answers in several writes would wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(Arc::clone(&shared), request));
    let mut http = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        () = shared.stop.cancelled() => return,
        ended = &mut http => ended,
    };
    let Err(error) = ended else { return };
    let Some(instead) = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Instead>()) else {
        return;
    };
    let mut stream = http.into_parts().io.into_inner();
    match instead {
        // A linger of zero makes the close a reset, which no client can mistake for the end of an answer.
        Instead::Reset => drop(stream.set_zero_linger()),
        Instead::Raw(bytes) => {
            // A client that has disconnected misses the bytes.
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
        }
    }
}

/// What a fault does to the connection instead of an answer from hyper; both end the connection.
#[derive(Debug)]
enum Instead {
    Reset,
    Raw(Bytes),
}

impl std::fmt::Display for Instead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ended by a fault")
    }
}

impl std::error::Error for Instead {}

async fn respond(shared: Arc<SandboxState>, request: Request<Incoming>) -> Result<Response, Instead> {
    let (head, body) = request.into_parts();
    let Arrival { number, quota } = arrive(&shared, &head);
    let mut met = Met::default();
    let mut response = if quota.exceeded {
        let retry_after = quota.retry_after(shared.state().options.retry_after_form);
        reply::throttled(retry_after.as_deref())
    } else {
        match Limited::new(body, MAX_BODY_BYTES).collect().await {
            Ok(body) => {
                let body = body.to_bytes();
                met = meet(&shared, &head, &body);
                serve(&shared, (number, &head, &body), &met).await?
            }
            Err(_) => reply::plain(Answer::bare(StatusCode::PAYLOAD_TOO_LARGE.as_u16())),
        }
    };
    let marked = shared.state().options.marked;
    if marked {
        response.headers_mut().insert(MARK, HeaderValue::from_static("1"));
    }
    for (name, value) in quota.headers() {
        let name = HeaderName::try_from(name).expect("a constant that is a header name");
        // A fault may have set this header itself.
        response.headers_mut().entry(name).or_insert(HeaderValue::try_from(value).expect("digits"));
    }
    let status = response.status();
    let interim = match met.fault {
        Some(Fault::Interim(status)) => StatusCode::from_u16(status).ok().filter(StatusCode::is_informational),
        _ => None,
    };
    shared.state().ledger.answered(number, status.as_u16(), (met.leaves_answer(), marked));
    if status.is_informational() {
        return Err(Instead::Raw(raw::interim_only(&response.into_parts().0)));
    }
    match interim {
        Some(interim) => Err(Instead::Raw(raw::interim_then(interim, response).await)),
        None => Ok(response),
    }
}

struct Arrival {
    number: u64,
    quota: Quota,
}

/// Records and counts a request as soon as its head has arrived, because a client that leaves before the answer has
/// made a request too.
fn arrive(shared: &SandboxState, head: &Parts) -> Arrival {
    let mut state = shared.state();
    let state = &mut *state;
    let route = route::find(&head.method, head.uri.path()).ok();
    let subject = Subject::of(&state.world, head, route.as_ref(), &Bytes::new());
    let idempotency_key = head.headers.get("Idempotency-Key").and_then(|value| value.to_str().ok());

    let who = if state.is_authorized(&head.headers) { state.options.token.as_str() } else { "anonymous" };
    let limit = state.options.rate_limit.unwrap_or(crate::options::DOCUMENTED_RATE_LIMIT);
    let quota = state.limiter.count(who, limit, SystemTime::now());
    let number = state.ledger.record(RecordedRequest {
        at: Timestamp::now(),
        method: head.method.clone(),
        path: sent_path(head),
        endpoint: route.map(|route| route.endpoint),
        account: subject.account,
        phone: subject.phones.into_iter().next(),
        effect: false,
        status: None,
        answered_at: None,
        genuine: false,
        marked: false,
        idempotency_key: idempotency_key.map(str::to_owned),
    });
    Arrival { number, quota }
}

/// Returns the faults that a complete request meets. A rule may match what the body names.
fn meet(shared: &SandboxState, head: &Parts, body: &Bytes) -> Met {
    let mut state = shared.state();
    let state = &mut *state;
    let route = route::find(&head.method, head.uri.path()).ok();
    let subject = Subject::of(&state.world, head, route.as_ref(), body);
    let rules = state.faults.iter_mut().map(|(_, rule)| rule);
    fault_rule::take(rules, (&head.method, &sent_path(head), route.map(|route| route.endpoint)), &subject)
}

async fn serve(
    shared: &Arc<SandboxState>,
    (number, head, body): (u64, &Parts, &Bytes),
    met: &Met,
) -> Result<Response, Instead> {
    let answer = if met.carries_out() {
        carry_out(shared, number, head, body).await
    } else {
        // This answer is never sent: a fault that carries nothing out has its own answer or none.
        Answer::bare(StatusCode::SERVICE_UNAVAILABLE.as_u16())
    };
    let wait = shared.state().options.latency + met.delay;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let response = match met.fault.clone() {
        None | Some(Fault::Interim(_) | Fault::Delay(_) | Fault::Gzip) => reply::plain(answer),
        Some(Fault::Status { status, headers, body }) => reply::status(status, &headers, body),
        Some(Fault::Throttle { retry_after }) => reply::throttled(Some(&retry_after)),
        Some(Fault::Slow(time)) => {
            tokio::time::sleep(time).await;
            reply::plain(answer)
        }
        Some(Fault::Hang(time) | Fault::EffectThenHang(time)) => {
            tokio::time::sleep(time).await;
            return Err(Instead::Reset);
        }
        Some(Fault::LateEffect(time)) => {
            // Runs in its own task, because this one ends when the client disconnects.
            let (late, head, body) = (Arc::clone(shared), head.clone(), body.clone());
            let carried_out = shared.tasks.spawn(async move {
                tokio::time::sleep(time).await;
                carry_out(&late, number, &head, &body).await;
            });
            // Only the task's end counts here; a panic has already been reported.
            let _ = carried_out.await;
            return Err(Instead::Reset);
        }
        Some(Fault::Reset | Fault::EffectThenReset) => return Err(Instead::Reset),
        Some(Fault::EffectThenStatus(status)) => reply::status(status, &[], None),
        Some(Fault::EffectThenBody { status, media_type, body }) => reply::with_body(status, &media_type, body),
        Some(Fault::GarbageBody) => reply::garbage(),
        Some(Fault::HugeBody(bytes)) => reply::huge(bytes),
        Some(Fault::LoneSurrogate) => reply::ending_in(answer, reply::LONE_SURROGATE),
        Some(Fault::CutUtf8) => reply::ending_in(answer, reply::CUT_UTF8),
        Some(Fault::TruncatedBody) => reply::truncated(answer),
        Some(Fault::DripBody(pause)) => reply::dripping(answer, pause),
    };
    Ok(if met.gzip { reply::compressed(response).await } else { response })
}

/// Carries out the whole effect under the lock and without an await, so that a client that disconnects cannot leave it
/// half-done.
async fn carry_out(shared: &Arc<SandboxState>, number: u64, head: &Parts, body: &Bytes) -> Answer {
    let (answer, echoes, timing) = {
        let mut state = shared.state();
        let effects = state.ledger.effects.len();
        let answer = state.carry_out(head, body);
        if state.ledger.effects.len() > effects {
            state.ledger.had_effect(number);
        }
        (answer, std::mem::take(&mut state.outbox), state.options.echo_timing)
    };
    for webhook in echoes {
        let echo = echo::spawn(shared, webhook, timing);
        if timing == EchoTiming::BeforeAnswer {
            // This fails only while the sandbox is being stopped.
            let _ = echo.await;
        }
    }
    answer
}
