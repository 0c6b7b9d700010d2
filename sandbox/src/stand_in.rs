//! What the stand-ins for systems of record have in common: a server of their own, rules of faults, and a record of the
//! requests. Each of them says through [`Api`] how its API answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use jiff::Timestamp;
use tokio::net::TcpListener;

use crate::answer::Answer;
use crate::connection::{self, Instead, Life};
use crate::fault_rule::{self, AnyEndpoint, Asked, FaultRule, Met};
use crate::ledger::Violation;
use crate::reply::{self, Response};
use crate::sandbox::FaultId;
use crate::state::sent_path;
use crate::subject::Subject;
use crate::{faulted, route};

/// The media type of answers, and of bodies that a fault makes.
pub(crate) const JSON: &str = "application/json";

/// Maximum size of a request's body: a hundred notes of the greatest length, each character in four bytes.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;

/// Maximum number of requests that are kept, which bounds the memory of a run of weeks.
const MAX_REQUESTS: usize = 1_000_000;

/// How one API answers. The state is behind one lock, so each of these functions is one atomic step.
pub(crate) trait Api: Send + 'static {
    /// Returns what the request names, if it names anything. `body` is empty while it has not been read.
    fn endpoint(&self, head: &Parts, body: &Bytes) -> Option<AnyEndpoint>;

    /// Counts a request whose head has arrived.
    fn admit(&mut self, head: &Parts) -> Admission;

    /// Looks at a complete request before any fault decides whether it is carried out. Returns what is wrong with it.
    fn see(&mut self, _head: &Parts, _body: &Bytes) -> Option<String> {
        None
    }

    /// Carries the request out.
    fn carry_out(&mut self, head: &Parts, body: &Bytes) -> Answer;

    /// Time between a request and its answer, in addition to any fault.
    fn latency(&self) -> Duration;
}

/// What an API says about a request before it is carried out.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// The answer to a request that is over a limit.
    pub(crate) refusal: Option<Answer>,
    /// The headers of every answer to this request.
    pub(crate) headers: Vec<(HeaderName, String)>,
}

/// One request that reached a stand-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRequest {
    /// When the request's head was read.
    pub at: Timestamp,
    pub method: Method,
    /// The path as it was sent, without the query.
    pub path: String,
    /// The names in the query, in order. Their values are left out, because they may name people.
    pub query: Vec<String>,
    /// `None` if the request names no endpoint.
    pub endpoint: Option<AnyEndpoint>,
    /// The status that was sent. `None` while there is no answer, and if a fault prevented it or the client
    /// disconnected.
    pub status: Option<u16>,
    /// When the status was sent.
    pub answered_at: Option<Timestamp>,
    /// Whether the request was carried out, successfully or not, whatever was answered.
    pub carried_out: bool,
    /// Whether the answer was the API's own and complete: no fault made it or changed its body.
    pub genuine: bool,
}

#[derive(Debug)]
pub(crate) struct Desk<A> {
    pub(crate) api: A,
    violations: Vec<Violation>,
    requests: VecDeque<ApiRequest>,
    /// The number of the oldest request that is still in `requests`.
    first: u64,
    faults: Vec<(FaultId, FaultRule)>,
    rules_made: u64,
}

impl<A> Desk<A> {
    fn record(&mut self, request: ApiRequest) -> u64 {
        if self.requests.len() == MAX_REQUESTS {
            self.requests.pop_front();
            self.first += 1;
        }
        self.requests.push_back(request);
        self.first + self.requests.len() as u64 - 1
    }

    /// Changes a recorded request, unless it was cleared meanwhile.
    fn update(&mut self, number: u64, change: impl FnOnce(&mut ApiRequest)) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(request) = index.and_then(|index| self.requests.get_mut(index)) {
            change(request);
        }
    }

    fn violation(&mut self, head: &Parts, what: String) {
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        self.violations.push(Violation { at: Timestamp::now(), method, path, what });
    }
}

struct Shared<A> {
    desk: Mutex<Desk<A>>,
    life: Life,
}

impl<A> Shared<A> {
    /// Locks the state. Never hold the guard across an await.
    fn desk(&self) -> MutexGuard<'_, Desk<A>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running stand-in. It ends with [`StandIn::stop`], or when it is dropped.
pub(crate) struct StandIn<A> {
    shared: Arc<Shared<A>>,
    addr: SocketAddr,
}

impl<A: Api> StandIn<A> {
    pub(crate) async fn start(listen: SocketAddr, api: A) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.context("binding the stand-in's listener")?;
        let addr = listener.local_addr()?;
        let desk = Desk {
            api,
            violations: Vec::new(),
            requests: VecDeque::new(),
            first: 0,
            faults: Vec::new(),
            rules_made: 0,
        };
        let shared = Arc::new(Shared { desk: Mutex::new(desk), life: Life::default() });
        let serving = Arc::clone(&shared);
        let respond = move |request| respond(Arc::clone(&serving), request);
        shared.life.tasks.spawn(connection::run(listener, shared.life.clone(), respond));
        Ok(Self { shared, addr })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) async fn stop(&self) {
        self.shared.life.end().await;
    }

    /// Locks the state and lets the caller look at or change the API's part of it.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut A) -> T) -> T {
        act(&mut self.shared.desk().api)
    }

    pub(crate) fn fault(&self, rule: FaultRule) -> FaultId {
        let mut desk = self.shared.desk();
        desk.rules_made += 1;
        let id = FaultId(desk.rules_made);
        desk.faults.push((id, rule));
        id
    }

    pub(crate) fn remove_fault(&self, id: FaultId) {
        self.shared.desk().faults.retain(|(other, _)| *other != id);
    }

    pub(crate) fn clear_faults(&self) {
        self.shared.desk().faults.clear();
    }

    pub(crate) fn requests(&self) -> Vec<ApiRequest> {
        self.shared.desk().requests.iter().cloned().collect()
    }

    pub(crate) fn requests_to(&self, endpoint: AnyEndpoint) -> usize {
        self.shared.desk().requests.iter().filter(|request| request.endpoint == Some(endpoint)).count()
    }

    pub(crate) fn clear_requests(&self) {
        let mut desk = self.shared.desk();
        desk.first += desk.requests.len() as u64;
        desk.requests.clear();
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.shared.desk().violations.clone()
    }
}

impl<A> Drop for StandIn<A> {
    fn drop(&mut self) {
        self.shared.life.stop.cancel();
    }
}

async fn respond<A: Api>(shared: Arc<Shared<A>>, request: Request<Incoming>) -> Result<Response, Instead> {
    let (head, body) = request.into_parts();
    let (number, admission) = arrive(&shared, &head);
    let mut met = Met::default();
    let mut response = match (admission.refusal, Limited::new(body, MAX_BODY_BYTES).collect().await) {
        (Some(refusal), _) => reply::plain(refusal),
        (None, Ok(body)) => {
            let body = body.to_bytes();
            let latency = shared.desk().api.latency();
            met = meet(&shared, number, &head, &body);
            let (acting, tasks) = (Arc::clone(&shared), shared.life.tasks.clone());
            let carry_out = {
                let head = head.clone();
                move || async move { carry_out(&acting, number, &head, &body) }
            };
            faulted::serve(&met, latency, &tasks, JSON, carry_out).await?
        }
        (None, Err(_)) => reply::plain(Answer::bare(StatusCode::PAYLOAD_TOO_LARGE.as_u16())),
    };
    for (name, value) in admission.headers {
        // A fault may have set this header itself.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().entry(name).or_insert(value);
        }
    }
    let (status, genuine) = (response.status().as_u16(), met.leaves_answer());
    shared.desk().update(number, |request| {
        request.status = Some(status);
        request.answered_at = Some(Timestamp::now());
        request.genuine = genuine;
    });
    faulted::finish(&met, response).await
}

/// Records and counts a request as soon as its head has arrived, because a client that leaves before the answer has
/// made a request too.
fn arrive<A: Api>(shared: &Shared<A>, head: &Parts) -> (u64, Admission) {
    let mut desk = shared.desk();
    let admission = desk.api.admit(head);
    let endpoint = desk.api.endpoint(head, &Bytes::new());
    let query = route::query_pairs(head.uri.query().unwrap_or_default()).unwrap_or_default();
    let number = desk.record(ApiRequest {
        at: Timestamp::now(),
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query: query.into_iter().map(|(name, _)| name).collect(),
        endpoint,
        status: None,
        answered_at: None,
        carried_out: false,
        genuine: false,
    });
    (number, admission)
}

/// Returns the faults that a complete request meets.
fn meet<A: Api>(shared: &Shared<A>, number: u64, head: &Parts, body: &Bytes) -> Met {
    let mut desk = shared.desk();
    let desk = &mut *desk;
    let endpoint = desk.api.endpoint(head, body);
    desk.update(number, |request| request.endpoint = endpoint);
    if let Some(what) = desk.api.see(head, body) {
        desk.violation(head, what);
    }
    let asked = Asked { method: &head.method, path: &sent_path(head), endpoint, body };
    fault_rule::take(desk.faults.iter_mut().map(|(_, rule)| rule), &asked, &Subject::default())
}

/// Carries out the whole effect under the lock, so that a client that disconnects cannot leave it half-done.
fn carry_out<A: Api>(shared: &Shared<A>, number: u64, head: &Parts, body: &Bytes) -> Answer {
    let mut desk = shared.desk();
    let answer = desk.api.carry_out(head, body);
    desk.update(number, |request| request.carried_out = true);
    if let Some(what) = &answer.violation {
        desk.violation(head, what.clone());
    }
    answer
}
