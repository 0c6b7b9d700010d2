//! Makes one HTTP request to a destination and interprets its answer: gate, time-outs, capped bodies, status classes,
//! metrics, and a record for `events show`. The folder of each destination knows its resources.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use hookline_common::json;
use hookline_common::names::{Operation, OperationClass};
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::testing::crash_point;
use hookline_common::time::Timestamp;
use hookline_store::model::RequestRecord;
use reqwest::dns::Resolve;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, redirect};
use url::Url;

use super::coalesce;
use super::held::{in_time, paused_until};
use super::log::{CallLog, Turn};
use super::world::World;
use crate::destinations::error::DestinationError;
use crate::destinations::error_text;
use crate::destinations::limits::Limits;
use crate::destinations::redact::{cut, redact};
use crate::destinations::status;
use crate::destinations::status::Meaning;
use crate::gate::{After, Gate, Search};
use crate::on_drop::OnDrop;

/// Shorter than the whole time-out, to tell a time-out while connecting (surely not sent) from a later one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes read of an error body. The error's text is at its start.
const MAX_ERROR_BYTES: usize = 64 * 1024;
const MAX_CAUSE_BYTES: usize = 300;
const NOT_ITS_SHAPE: &str = "its body is not what this call answers";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Client of one destination. Clones share connections and requests in flight.
#[derive(Clone)]
pub(crate) struct Http {
    inner: Arc<Inner>,
    in_flight: coalesce::InFlight<Ended>,
}

struct Inner {
    client: Client,
    gate: Arc<Gate>,
    /// `None` where there is no sandbox that could be taken for the destination.
    world: Option<Arc<World>>,
    metrics: Arc<Metrics>,
    timeout: Duration,
    max_response_bytes: usize,
    media_type: HeaderValue,
    read_limits: ReadLimits,
    read_refusal: Option<ReadRefusal>,
    pauses_on_gone: Option<&'static str>,
    is_final: fn(u16) -> bool,
}

/// Reads what an answer says about the destination's rate limit. The second argument is the time of the answer.
pub(crate) type ReadLimits = Arc<dyn Fn(&HeaderMap, Timestamp) -> Limits + Send + Sync>;

/// Reads what the body of a failure says beyond its status, and when to call again.
pub(crate) type ReadRefusal = fn(u16, &[u8], &mut Limits) -> Refusal;

/// What a failure says that its status does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The status says everything.
    AsItsStatus,
    /// The credentials may not do such a thing at all, to whatever resource.
    MissingScope,
    /// The destination takes no calls for a while, for this reason.
    Away(&'static str),
    /// A person has to look before any other call is made, for this reason.
    Stops(&'static str),
    /// The session of these credentials has ended, and others may be had at once. The call took no effect.
    SessionEnded,
    /// Nothing was done and another try may succeed, whatever the status. This says nothing about other calls.
    Passing,
    /// The resource is not there, whatever the status.
    Gone,
}

impl Refusal {
    fn meaning(self, status: u16, is_final: fn(u16) -> bool) -> Meaning {
        match self {
            Self::AsItsStatus => status::meaning(status, is_final),
            // The destination works, and nothing is known about the credentials.
            Self::MissingScope | Self::SessionEnded | Self::Stops(_) | Self::Passing => Meaning::Forbidden,
            Self::Gone => Meaning::Worked,
            Self::Away(_) => Meaning::TooMany,
        }
    }
}

pub(crate) struct HttpOptions {
    /// Sent with every request.
    pub(crate) headers: HeaderMap,
    /// The media type of request bodies.
    pub(crate) media_type: HeaderValue,
    pub(crate) timeout: Duration,
    pub(crate) max_response_bytes: usize,
    pub(crate) read_limits: ReadLimits,
    /// Resolves the names of hosts; `None` leaves that to the system.
    pub(crate) resolver: Option<Arc<dyn Resolve>>,
    /// For a destination whose status alone does not tell what to do.
    pub(crate) read_refusal: Option<ReadRefusal>,
    /// Why the destination is paused once it answers 410; `None` where a 410 is about one resource.
    pub(crate) pauses_on_gone: Option<&'static str>,
    /// Tells whether another try would get the same answer. Statuses with a meaning of their own, such as 401 and 429,
    /// keep it.
    pub(crate) is_final: fn(u16) -> bool,
}

/// Shows the destination whose call this is.
pub(crate) enum Credentials {
    Bearer(HeaderValue),
    /// A call may wait for its turn, and a signature has the time in it, so it is made when the call is.
    Signature(Sign),
    /// Headers that are known when the call is prepared; none where the body has the credentials.
    Headers(HeaderMap),
}

/// Makes the headers that sign a body.
pub(crate) type Sign = Box<dyn FnOnce(&[u8]) -> HeaderMap + Send + Sync>;

/// One request.
pub(crate) struct Call {
    pub(crate) operation: Operation,
    /// The class whose breaker counts this call.
    pub(crate) class: OperationClass,
    pub(crate) credentials: Credentials,
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Path and query with phone numbers masked.
    pub(crate) shown: String,
    pub(crate) body: Option<Bytes>,
    pub(crate) idempotency_key: Option<String>,
    /// Texts in this request that must not appear in an error, such as names.
    pub(crate) private: Vec<String>,
    /// `None` for any call that is no search.
    pub(crate) search: Option<Search>,
    /// Asked when the gate has let the call through: a limit that the gate does not know.
    pub(crate) last_look: Option<LastLook>,
}

/// Returns why a call must not be made now after all.
pub(crate) type LastLook = Box<dyn FnOnce() -> Result<(), DestinationError> + Send>;

/// A 2xx answer.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The body, or why it couldn't be read whole: for a write that needs nothing from it, the status is enough.
    body: Result<Bytes, DestinationError>,
}

#[derive(Clone)]
struct Ended {
    /// `None` if no request was made.
    record: Option<RequestRecord>,
    /// The start of a failure's body, where the destination says there what to do.
    told: Option<Bytes>,
    result: Result<Answer, DestinationError>,
}

impl Http {
    /// `world` is compared with each answer, for a destination whose sandbox marks its answers.
    pub(crate) fn new(
        options: HttpOptions,
        gate: Arc<Gate>,
        world: Option<Arc<World>>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        // An error means that this process already has a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .user_agent(concat!("hookline/", env!("CARGO_PKG_VERSION")))
            .default_headers(options.headers)
            .redirect(redirect::Policy::none())
            // Only `common::settings` reads environment variables. A proxy that nobody configured must not see the
            // token.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT.min(options.timeout / 2))
            .timeout(options.timeout);
        if let Some(resolver) = options.resolver {
            client = client.dns_resolver(resolver);
        }
        let client = client.build().context("the HTTP client could not be set up")?;
        let inner = Inner {
            client,
            gate,
            world,
            metrics,
            timeout: options.timeout,
            max_response_bytes: options.max_response_bytes,
            media_type: options.media_type,
            read_limits: options.read_limits,
            read_refusal: options.read_refusal,
            pauses_on_gone: options.pauses_on_gone,
            is_final: options.is_final,
        };
        Ok(Self { inner: Arc::new(inner), in_flight: coalesce::InFlight::default() })
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    /// Makes a GET. Callers that ask for the same URL at the same time share one request.
    pub(crate) async fn get(&self, log: &CallLog, call: Call) -> Result<Answer, DestinationError> {
        self.ask(log, call).await.0
    }

    /// Makes a request that changes something. Such a request is never shared.
    pub(crate) async fn write(&self, log: &CallLog, call: Call) -> Result<Answer, DestinationError> {
        self.change(log, call).await.0
    }

    /// Makes any request, as [`Http::get`] or [`Http::write`] do, and also returns what the body of a failure says,
    /// unredacted.
    pub(crate) async fn ask(&self, log: &CallLog, call: Call) -> (Result<Answer, DestinationError>, Option<Bytes>) {
        if call.method != Method::GET {
            return self.change(log, call).await;
        }
        let key = call.url.to_string();
        let (inner, turn) = (Arc::clone(&self.inner), log.turn());
        let ended = self.in_flight.join(&key, || async move { inner.exchange(call, &turn).await }).await;
        match ended {
            Some(ended) => note(log, ended),
            None => (Err(DestinationError::NoAnswer { detail: "the request was given up".to_owned() }), None),
        }
    }

    async fn change(&self, log: &CallLog, call: Call) -> (Result<Answer, DestinationError>, Option<Bytes>) {
        // Runs even if the caller is cancelled, because the write may have been made.
        let _ended = OnDrop(|| self.in_flight.write_ended());
        note(log, self.inner.exchange(call, &log.turn()).await)
    }
}

impl Inner {
    async fn exchange(&self, mut call: Call, turn: &Turn) -> Ended {
        let Call { operation, class, search, .. } = call;
        let (_place, permit) = match self.gate.enter(turn.priority, operation, class, search, turn.place()).await {
            Ok(entered) => entered,
            Err(held) => return Ended { record: None, told: None, result: Err(held.into()) },
        };
        if let Some(Err(error)) = call.last_look.take().map(|look| look()) {
            return Ended { record: None, told: None, result: Err(error) };
        }
        let (method, shown) = (call.method.to_string(), call.shown.clone());
        let private = call.private.clone();
        let clock = Instant::now();
        crash_point("call.before");
        let mut told = None;
        let (status, failed_probe, result) = match self.request(call).send().await {
            Ok(mut response) => {
                crash_point("call.answered");
                let status = response.status().as_u16();
                let mut limits = (self.read_limits)(response.headers(), Timestamp::now());
                let (body, refusal) = self.refusal(status, &mut response, &mut limits).await;
                told.clone_from(&body);
                self.metrics.worker.budget(self.gate.destination(), limits.limit, limits.remaining);
                // Report the answer before reading the rest of it: a closing must bind calls that start meanwhile.
                let After { closed_for, failed_probe, sent_ms } =
                    permit.answered(refusal.meaning(status, self.is_final), &limits);
                let (closed_until, failed_probe) = (in_time(closed_for), failed_probe.map(in_time));
                let result = match self.may_go_on(&response, refusal, closed_until, sent_ms).await {
                    Ok(()) => self.classify((status, refusal), (response, body), &limits, closed_until, &private).await,
                    Err(stopped) => Err(stopped),
                };
                (Some(status), failed_probe, result)
            }
            Err(error) => (None, permit.failed().failed_probe.map(in_time), Err(self.no_answer(error))),
        };
        let result = result.map_err(|error| match failed_probe {
            Some(until) => error.of_probe(until),
            None => error,
        });
        let took = clock.elapsed();
        let usable = !matches!(&result, Ok(Answer { body: Err(_), .. }));
        let counted = status.filter(|_| usable);
        self.metrics.worker.api_call(self.gate.destination(), operation, counted, took);
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Ended { record: Some(RequestRecord { method, path: shown, status, duration_ms }), told, result }
    }

    /// Fails if the answer says more than its status about later calls.
    async fn may_go_on(
        &self,
        response: &Response,
        refusal: Refusal,
        closed_until: Timestamp,
        sent_ms: i64,
    ) -> Result<(), DestinationError> {
        if let Some(world) = &self.world {
            world.answered(response.headers(), sent_ms).await?;
        }
        match refusal {
            Refusal::AsItsStatus | Refusal::Passing | Refusal::Gone => Ok(()),
            Refusal::MissingScope | Refusal::SessionEnded => {
                let status = response.status().as_u16();
                Err(DestinationError::CredentialsRefused { status, until: paused_until() })
            }
            Refusal::Away(why) => {
                Err(DestinationError::GateClosed { until: closed_until, why: why.to_owned(), is_paused: false })
            }
            Refusal::Stops(reason) => {
                self.gate.stop(sent_ms, reason);
                let why = format!("calls to {} are held: paused: {reason}", self.gate.destination());
                Err(DestinationError::GateClosed { until: paused_until(), why, is_paused: true })
            }
        }
    }

    fn request(&self, call: Call) -> reqwest::RequestBuilder {
        let mut request = self.client.request(call.method, call.url);
        request = match call.credentials {
            Credentials::Bearer(bearer) => request.header(AUTHORIZATION, bearer),
            Credentials::Signature(sign) => request.headers(sign(call.body.as_deref().unwrap_or_default())),
            Credentials::Headers(headers) => request.headers(headers),
        };
        if let Some(key) = call.idempotency_key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        if let Some(body) = call.body {
            request = request.header(CONTENT_TYPE, self.media_type.clone()).body(body);
        }
        request
    }

    /// Reads the body of a failure, if the destination says there what to do.
    async fn refusal(&self, status: u16, response: &mut Response, limits: &mut Limits) -> (Option<Bytes>, Refusal) {
        if let Some(reason) = self.pauses_on_gone.filter(|_| status == 410) {
            return (None, Refusal::Stops(reason));
        }
        let Some(read) = self.read_refusal.filter(|_| !(200..300).contains(&status)) else {
            return (None, Refusal::AsItsStatus);
        };
        let body = start_of_body(response).await;
        let refusal = read(status, &body, limits);
        (Some(body), refusal)
    }

    async fn classify(
        &self,
        (status, refusal): (u16, Refusal),
        (mut response, body): (Response, Option<Bytes>),
        limits: &Limits,
        closed_until: Timestamp,
        private: &[String],
    ) -> Result<Answer, DestinationError> {
        match refusal.meaning(status, self.is_final) {
            Meaning::Success => {
                let body = self.whole_body(response).await;
                return Ok(Answer { status, body });
            }
            Meaning::TooMany => return Err(DestinationError::Throttled { until: closed_until }),
            Meaning::Refused => return Err(DestinationError::CredentialsRefused { status, until: paused_until() }),
            Meaning::Worked | Meaning::Forbidden | Meaning::Failed | Meaning::NoAnswer => {}
        }
        let body = match body {
            Some(body) => body,
            None => start_of_body(&mut response).await,
        };
        let detail = error_text::find(&body, private);
        if refusal == Refusal::Passing {
            return Err(DestinationError::Failed { status, retry_after: limits.retry_after, detail });
        }
        if refusal == Refusal::Gone {
            return Err(DestinationError::NotFound { detail });
        }
        Err(match status {
            403 => DestinationError::Forbidden { detail },
            404 => DestinationError::NotFound { detail },
            _ if (self.is_final)(status) => DestinationError::Rejected { status, detail },
            _ => DestinationError::Failed { status, retry_after: limits.retry_after, detail },
        })
    }

    async fn whole_body(&self, mut response: Response) -> Result<Bytes, DestinationError> {
        let max = self.max_response_bytes;
        let too_long = || DestinationError::NoAnswer { detail: format!("the answer is longer than {max} bytes") };
        let announced = response.content_length().unwrap_or(0);
        if announced > u64::try_from(max).unwrap_or(u64::MAX) {
            return Err(too_long());
        }
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > max => return Err(too_long()),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body.freeze()),
                Err(error) => return Err(self.no_answer(error)),
            }
        }
    }

    /// Says why no answer came, without the URL, which holds phone numbers.
    fn no_answer(&self, error: reqwest::Error) -> DestinationError {
        let error = error.without_url();
        if error.is_connect() || error.is_builder() {
            return DestinationError::NotSent { detail: cause(&error) };
        }
        let detail =
            if error.is_timeout() { format!("none within {} ms", self.timeout.as_millis()) } else { cause(&error) };
        DestinationError::NoAnswer { detail }
    }
}

impl Answer {
    /// Returns whether the body was read whole and is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.as_ref().is_ok_and(|body| body.trim_ascii().is_empty())
    }

    /// Returns the body.
    ///
    /// # Errors
    /// `NoAnswer` if the body couldn't be read whole.
    pub(crate) fn bytes(self) -> Result<Bytes, DestinationError> {
        self.body
    }

    /// Reads a resource, which is an object. (serde would read a list as an object's fields in order.)
    ///
    /// # Errors
    /// Same as [`Answer::json`].
    pub(crate) fn object<T: serde::de::DeserializeOwned>(self) -> Result<T, DestinationError> {
        let value: serde_json::Value = self.json()?;
        if !value.is_object() {
            return Err(unreadable(NOT_ITS_SHAPE));
        }
        serde_json::from_value(value).map_err(|_quotes_values| unreadable(NOT_ITS_SHAPE))
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// `NoAnswer` if the body couldn't be read whole or isn't JSON of this shape.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, DestinationError> {
        let body = self.body?;
        // A text that was cut within an emoji is no reason to ask again. serde's own messages are dropped, as they
        // quote values.
        serde_json::from_slice(&body)
            .or_else(|_strict| serde_json::from_str(&json::mended(&body)))
            .map_err(|_quotes_values| unreadable(NOT_ITS_SHAPE))
    }
}

/// The error for a 2xx answer that can't be used.
pub(crate) fn unreadable(what: &str) -> DestinationError {
    DestinationError::NoAnswer { detail: what.to_owned() }
}

fn note(log: &CallLog, ended: Ended) -> (Result<Answer, DestinationError>, Option<Bytes>) {
    if let Some(record) = ended.record {
        log.push(record);
    }
    // Mask per caller: callers that share a GET may have different payloads.
    (ended.result.map_err(|error| error.without(&log.personal())), ended.told)
}

/// Reads as much of an error's body as is useful. A read error ends it early.
async fn start_of_body(response: &mut Response) -> Bytes {
    let mut body = BytesMut::new();
    while body.len() < MAX_ERROR_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.freeze()
}

/// Joins the chain of causes: the outermost text alone says only "error sending request".
fn cause(error: &reqwest::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if texts.last().is_none_or(|last| !last.ends_with(&text)) {
            texts.push(text);
        }
        source = error.source();
    }
    cut(redact(&texts.join(": ")), MAX_CAUSE_BYTES)
}
