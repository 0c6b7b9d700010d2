//! Serves the sandbox's state over HTTP/1.1: takes each request through the state, and applies faults.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use jiff::Timestamp;
use tokio::net::TcpListener;

use crate::answer::{Answer, MEDIA_TYPE};
use crate::connection::{self, Instead, Life};
use crate::echo::{self, EchoCounts};
use crate::fault_rule::{self, Asked, Met};
use crate::ledger::RecordedRequest;
use crate::options::EchoTiming;
use crate::rate_limit::Quota;
use crate::reply::{self, Response};
use crate::state::{State, sent_path};
use crate::subject::Subject;
use crate::{faulted, route};

/// Header on every answer, faults included, unless a test plays the real API. It lets a client recognise the sandbox.
const MARK: HeaderName = HeaderName::from_static("x-hookline-sandbox");

/// Maximum size of a request's body; no call of the API needs more.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// State shared by the listener, its connections and the echoes.
pub(crate) struct SandboxState {
    state: Mutex<State>,
    pub(crate) echo_counts: Mutex<EchoCounts>,
    pub(crate) client: reqwest::Client,
    pub(crate) life: Life,
}

impl SandboxState {
    pub(crate) fn new(state: State, client: reqwest::Client) -> Self {
        Self { state: Mutex::new(state), echo_counts: Mutex::default(), client, life: Life::default() }
    }

    /// Locks the state. Never hold the guard across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the sandbox is stopped.
pub(crate) async fn run(listener: TcpListener, shared: Arc<SandboxState>) {
    let life = shared.life.clone();
    connection::run(listener, life, move |request| respond(Arc::clone(&shared), request)).await;
}

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
    shared.state().ledger.answered(number, response.status().as_u16(), (met.leaves_answer(), marked));
    faulted::finish(&met, response).await
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
    let endpoint = route.map(|route| route.endpoint.into());
    let asked = Asked { method: &head.method, path: &sent_path(head), endpoint, body };
    fault_rule::take(rules, &asked, &subject)
}

async fn serve(
    shared: &Arc<SandboxState>,
    (number, head, body): (u64, &Parts, &Bytes),
    met: &Met,
) -> Result<Response, Instead> {
    let latency = shared.state().options.latency;
    let (acting, head, body) = (Arc::clone(shared), head.clone(), body.clone());
    let carry_out = move || async move { carry_out(&acting, number, &head, &body).await };
    faulted::serve(met, latency, &shared.life.tasks, MEDIA_TYPE, carry_out).await
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
