//! The calls to Salesforce: the token, the newest version of the API, and the count of requests.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hookline_common::names::{Operation, OperationClass};
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::{SalesforceSettings, Settings};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::errors::{self, Failure, not_made};
use super::limits::{self, DailyCount};
use super::soql::Record;
use super::token::{Token, Tokens};
use crate::calls::coalesce::InFlight;
use crate::calls::held::{in_time, paused_until};
use crate::calls::http::{self, Answer, Call, Http, HttpOptions, unreadable};
use crate::calls::log::CallLog;
use crate::destinations::error::DestinationError;
use crate::gate::{CheckResult, Gate};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The description of an object with a thousand fields is far below this.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;
/// Most tokens that one call is made with. A busy process may use up a token before each of its calls was made with it.
const MAX_TOKENS: usize = 3;
const DATA: &str = "/services/data/";
/// The oldest version that is used: its answers tell created from changed, and it knows the header of duplicate rules
/// (<https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_duplicaterules.htm>).
const OLDEST_VERSION: u32 = 52;
/// An answer that may be about the version makes this process read the versions again, at most this often.
const READ_VERSIONS_AFTER: Duration = Duration::from_mins(5);
/// Most pages of one query.
const MAX_PAGES: usize = 20;

#[derive(Clone)]
pub(super) struct Client {
    http: Http,
    gate: Arc<Gate>,
    pub(super) tokens: Tokens,
    daily: DailyCount,
    version: Arc<RwLock<Option<Version>>>,
    reading_version: InFlight<Result<Version, DestinationError>>,
}

#[derive(Clone)]
struct Version {
    /// As in paths: `v67.0`.
    name: String,
    read_at: Instant,
}

/// One call, before it has a token, a host and a version.
#[derive(Clone)]
pub(super) struct Request {
    operation: Operation,
    class: OperationClass,
    method: Method,
    /// Encoded path and query, as they follow the version.
    path: String,
    /// The path as logs may show it.
    shown: String,
    body: Option<Value>,
    private: Vec<String>,
    allows_duplicates: bool,
}

impl Request {
    /// `path` follows the version and holds nothing personal: `sobjects/Task/describe`.
    pub(super) fn new(operation: Operation, method: Method, path: impl Into<String>) -> Self {
        let path = path.into();
        let class = operation.class();
        let shown = path.clone();
        let (body, private) = (None, Vec::new());
        Self { operation, class, method, path, shown, body, private, allows_duplicates: false }
    }

    pub(super) fn with_body(mut self, body: Map<String, Value>) -> Self {
        self.body = Some(Value::Object(body));
        self
    }

    /// Texts of the request that must not appear in an error.
    pub(super) fn hiding(mut self, private: impl IntoIterator<Item = String>) -> Self {
        self.private.extend(private);
        self
    }

    /// Shows another path in logs than the one that is called.
    pub(super) fn shown_as(self, shown: impl Into<String>) -> Self {
        Self { shown: shown.into(), ..self }
    }

    /// Counts the call towards another class than its operation's.
    pub(super) fn in_class(self, class: OperationClass) -> Self {
        Self { class, ..self }
    }

    /// Lets duplicate rules that only warn pass, for a record that is there already.
    pub(super) fn allowing_duplicates(self) -> Self {
        Self { allows_duplicates: true, ..self }
    }
}

/// One page of a query.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    records: Vec<Value>,
    #[serde(default)]
    next_records_url: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    version: String,
}

/// Returns the My Domain of the settings.
pub(super) fn base(settings: &SalesforceSettings) -> anyhow::Result<Url> {
    settings.base_url.clone().context("[system_of_record.salesforce] base_url is not set")
}

impl Client {
    /// # Errors
    /// When a credential is missing or unusable, or the TLS set-up fails.
    pub(super) fn new(settings: &SalesforceSettings, gate: Arc<Gate>, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let daily = DailyCount::default();
        let counted = daily.clone();
        let options = HttpOptions {
            headers: HeaderMap::new(),
            media_type: JSON,
            timeout: settings.timeout,
            max_response_bytes: MAX_RESPONSE_BYTES,
            read_limits: Arc::new(move |headers, _now| counted.read(headers)),
            resolver: None,
            read_refusal: Some(errors::read_refusal),
            pauses_on_gone: None,
            is_final: errors::is_final,
        };
        Ok(Self {
            http: Http::new(options, Arc::clone(&gate), None, Arc::clone(&metrics))?,
            tokens: Tokens::new(settings, base(settings)?, Arc::clone(&gate), metrics)?,
            gate,
            daily,
            version: Arc::default(),
            reading_version: InFlight::default(),
        })
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(super) fn timeout(&self) -> Duration {
        self.http.timeout()
    }

    pub(super) fn take_credentials(&self, settings: &Settings) -> anyhow::Result<bool> {
        self.tokens.take_credentials(&settings.system_of_record.salesforce)
    }

    /// Makes a call. Where Salesforce has ended the session of the token, the call took no effect and is made once more
    /// with a new one, and where it no longer has the version, with another version.
    pub(super) async fn make(&self, log: &CallLog, request: Request) -> Result<Answer, Failure> {
        let mut other_version = None;
        let mut refused_unused = 0;
        for _ in 0..MAX_TOKENS {
            let token = self.tokens.get(log, request.class).await?;
            let version = match other_version.take() {
                Some(version) => version,
                None => self.version(log, &token, request.class).await.map_err(not_made)?,
            };
            let (answer, told) = self.http.ask(log, self.call(log, &token, &version, &request)?).await;
            let error = match answer {
                Ok(answer) => {
                    token.worked();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if let DestinationError::CredentialsRefused { status, .. } = error {
                self.tokens.forget(&token);
                refused_unused += usize::from(!token.has_worked());
                // Salesforce does not take what it has just issued, again and again.
                if refused_unused > 1 {
                    return Err(self.refused(status).into());
                }
                continue;
            }
            if error.status().is_some() {
                token.worked();
            }
            let failure = Failure::of(error, told.as_ref());
            match self.changed_version(log, &token, &version, (&failure, request.class)).await {
                Some(changed) => other_version = Some(changed),
                None => return Err(failure),
            }
        }
        let why = "calls to system_of_record are held: Salesforce ends each session within moments".to_owned();
        Err(DestinationError::GateClosed { until: in_time(Duration::from_secs(2)), why, is_paused: false }.into())
    }

    /// Makes a call whose answer is one record; `None` for one that is not there.
    pub(super) async fn record(&self, log: &CallLog, request: Request) -> Result<Option<Record>, Failure> {
        match self.make(log, request).await {
            Ok(answer) => Ok(Some(Record::of(answer.object()?).ok_or_else(|| unreadable("it has no record"))?)),
            Err(Failure { error: DestinationError::NotFound { .. }, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Makes a query and reads all its pages. Returns `None` where there are more than can be read.
    pub(super) async fn query(&self, log: &CallLog, request: Request) -> Result<Option<Vec<Record>>, Failure> {
        let (operation, class, shown) = (request.operation, request.class, request.shown.clone());
        let mut found = Vec::new();
        let mut request = request;
        for _ in 0..MAX_PAGES {
            let page: Page = self.make(log, request).await?.object()?;
            for record in page.records {
                found.push(Record::of(record).ok_or_else(|| unreadable("it has a record without an id"))?);
            }
            let Some(next) = page.next_records_url else { return Ok(Some(found)) };
            // `/services/data/v67.0/query/01g…-2000`
            let path = next.strip_prefix(DATA).and_then(|path| path.split_once('/')).map(|(_version, path)| path);
            let path =
                path.filter(|path| path.starts_with("query")).ok_or_else(|| unreadable("its next page is no path"))?;
            request = Request::new(operation, Method::GET, path).in_class(class).shown_as(shown.clone());
        }
        Ok(None)
    }

    /// Makes a search and reads its answer, which has one page.
    pub(super) async fn search(&self, log: &CallLog, request: Request) -> Result<Vec<Record>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Found {
            search_records: Vec<Value>,
        }
        let found: Found = self.make(log, request).await?.object()?;
        let records = found.search_records.into_iter();
        let records: Option<Vec<Record>> = records.map(Record::of).collect();
        Ok(records.ok_or_else(|| unreadable("it has a record without an id"))?)
    }

    /// Asks for a new token and makes a cheap call with it.
    pub(super) async fn check(&self, log: &CallLog) -> Result<(), DestinationError> {
        self.tokens.forget_any();
        let request = Request::new(Operation::CheckToken, Method::GET, "limits");
        match self.make(log, request).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_refusal() => Ok(()),
            Err(failure) => Err(failure.error),
        }
    }

    fn call(&self, log: &CallLog, token: &Token, version: &str, request: &Request) -> Result<Call, DestinationError> {
        let instance = token.instance.as_str().trim_end_matches('/');
        let url = format!("{instance}{DATA}{version}/{}", request.path);
        let mut url = Url::parse(&url).map_err(|_no_url| unreadable("a path that is no URL"))?;
        // A fragment is not sent. Reads with different tokens must not share an answer, which may be about the token.
        url.set_fragment(Some(&token.number.to_string()));
        let mut headers = HeaderMap::from_iter([(AUTHORIZATION, token.bearer.clone())]);
        if request.allows_duplicates {
            const RULES: HeaderName = HeaderName::from_static("sforce-duplicate-rule-header");
            headers.insert(RULES, HeaderValue::from_static("allowSave=true"));
        }
        let (daily, gate, priority) = (self.daily.clone(), Arc::clone(&self.gate), log.turn().priority);
        let has_room = move || {
            // The gate counts this call already.
            daily.may(priority, gate.in_flight().saturating_sub(1)).map_err(|wait| {
                let why = limits::why_held(priority).to_owned();
                DestinationError::GateClosed { until: in_time(wait), why, is_paused: false }
            })
        };
        let mut private = request.private.clone();
        private.push(token.secret.expose().to_owned());
        Ok(Call {
            operation: request.operation,
            class: request.class,
            credentials: http::Credentials::Headers(headers),
            method: request.method.clone(),
            url,
            shown: format!("{DATA}{version}/{}", request.shown),
            body: request.body.as_ref().map(|body| body.to_string().into()),
            idempotency_key: None,
            private,
            search: None,
            last_look: Some(Box::new(has_room)),
        })
    }

    /// Pauses the destination: another token would be refused as well. A request for a token finds out when that is over.
    fn refused(&self, status: u16) -> DestinationError {
        tracing::error!(
            "salesforce.token_refused: Salesforce refuses a token that it has just issued; look at the login \
            history of Hookline's user, and at the IP ranges and session settings of its profile"
        );
        self.gate.check_ended(CheckResult::Refused(status));
        DestinationError::CredentialsRefused { status, until: paused_until() }
    }

    /// Returns the newest version of the API that the org has, as in paths. Reads the versions once for each process.
    async fn version(&self, log: &CallLog, token: &Token, class: OperationClass) -> Result<String, DestinationError> {
        if let Some(version) = self.version.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Ok(version.name.clone());
        }
        let (this, log, token) = (self.clone(), log.clone(), token.clone());
        let read = self.reading_version.join("version", || async move { this.read_version(&log, &token, class).await });
        match read.await {
            Some(version) => version.map(|version| version.name),
            None => Err(DestinationError::NotSent { detail: "the request for the versions was given up".to_owned() }),
        }
    }

    async fn read_version(
        &self,
        log: &CallLog,
        token: &Token,
        class: OperationClass,
    ) -> Result<Version, DestinationError> {
        let url = token.instance.join(DATA).map_err(|_no_url| unreadable("its instance_url takes no path"))?;
        // The list of versions is public, so the token stays here.
        let call = Call {
            operation: Operation::ReadSetUp,
            class,
            credentials: http::Credentials::Headers(HeaderMap::new()),
            method: Method::GET,
            url,
            shown: DATA.to_owned(),
            body: None,
            idempotency_key: None,
            private: Vec::new(),
            search: None,
            last_look: None,
        };
        let listed: Vec<Listed> = self.http.get(log, call).await?.json()?;
        let numbered = listed.iter().filter_map(|listed| {
            let (major, minor) = listed.version.split_once('.')?;
            Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        });
        let newest = numbered.max().filter(|(major, _)| *major >= OLDEST_VERSION);
        let (major, minor) =
            newest.ok_or_else(|| unreadable(&format!("its API has no version from v{OLDEST_VERSION}.0 on")))?;
        let version = Version { name: format!("v{major}.{minor}"), read_at: Instant::now() };
        *self.version.write().unwrap_or_else(PoisonError::into_inner) = Some(version.clone());
        Ok(version)
    }

    /// Returns another version to make the call with, where a failure may be about the version and the org has others by
    /// now.
    async fn changed_version(
        &self,
        log: &CallLog,
        token: &Token,
        used: &str,
        (failure, class): (&Failure, OperationClass),
    ) -> Option<String> {
        if !failure.may_be_of_version() {
            return None;
        }
        let is_old = {
            let known = self.version.read().unwrap_or_else(PoisonError::into_inner);
            known.as_ref().is_none_or(|known| known.read_at.elapsed() >= READ_VERSIONS_AFTER)
        };
        if !is_old && !failure.is("UNSUPPORTED_API_VERSION") {
            return None;
        }
        let read = self.read_version(log, token, class).await.ok()?;
        (read.name != used).then_some(read.name)
    }
}
