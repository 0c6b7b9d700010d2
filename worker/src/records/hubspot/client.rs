//! The calls to HubSpot: paths of one version, and the token.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use hookline_common::names::{Operation, OperationClass};
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::HubSpotSettings;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::errors::{self, BatchError};
use super::limits;
use crate::calls::http::{self, Answer, Call, Http, HttpOptions, unreadable};
use crate::calls::log::CallLog;
use crate::destinations::error::DestinationError;
use crate::destinations::segment::encode;
use crate::destinations::status;
use crate::gate::{CheckResult, Gate, Search};

/// The version of the API, which is supported until March 2028
/// (<https://developers.hubspot.com/docs/developer-tooling/platform/versioning>).
pub(super) const API_VERSION: &str = "2026-09";
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/json");
/// A page of results with all properties that are asked for is far below this.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

#[derive(Clone)]
pub(super) struct Client {
    http: Http,
    gate: Arc<Gate>,
    base: Url,
    credentials: Arc<RwLock<Credentials>>,
    /// Whether the scope that was missing last is one for reads.
    refused_reads: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Credentials {
    /// Must not appear in an error.
    token: Secret,
    bearer: HeaderValue,
}

impl Credentials {
    fn of(settings: &HubSpotSettings) -> anyhow::Result<Self> {
        let token = settings.token.clone().context("[system_of_record.hubspot] token is not set")?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .ok()
            .context("[system_of_record.hubspot] token holds characters that a header cannot")?;
        bearer.set_sensitive(true);
        Ok(Self { token, bearer })
    }
}

/// One call, before it has a token and a host.
#[derive(Clone)]
pub(super) struct Request {
    operation: Operation,
    class: OperationClass,
    method: Method,
    /// Encoded path and query.
    path: String,
    /// The path without personal data, where it holds some.
    shown: Option<String>,
    body: Option<Value>,
    private: Vec<String>,
    /// Whether a missing scope pauses the destination.
    needs_scope: bool,
    search: Option<Search>,
}

impl Request {
    /// `path` follows the version: `contacts/101`.
    pub(super) fn of_objects(operation: Operation, method: Method, path: &str) -> Self {
        Self::new(operation, method, format!("/crm/objects/{API_VERSION}/{path}"))
    }

    /// `path` follows the version: `contacts/sms_opted_out`. What the token may read of the account's set-up says
    /// nothing about what it may do with records.
    pub(super) fn of_properties(operation: Operation, method: Method, path: &str) -> Self {
        Self { needs_scope: false, ..Self::new(operation, method, format!("/crm/properties/{API_VERSION}/{path}")) }
    }

    /// Looks for the owner with this e-mail address. Few tokens may do that, and one that may not is good for all else.
    pub(super) fn of_owners(email: &str) -> Self {
        let path = |email: &str| format!("/crm/owners/{API_VERSION}?email={email}");
        let request = Self::new(Operation::FindOwner, Method::GET, path(&encode(email)));
        Self { shown: Some(path("…")), needs_scope: false, private: vec![email.to_owned()], ..request }
    }

    fn new(operation: Operation, method: Method, path: String) -> Self {
        Self {
            operation,
            class: operation.class(),
            method,
            path,
            shown: None,
            body: None,
            private: Vec::new(),
            needs_scope: true,
            search: None,
        }
    }

    pub(super) fn with_body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Texts of the body that must not appear in an error.
    pub(super) fn hiding(mut self, private: impl IntoIterator<Item = String>) -> Self {
        self.private.extend(private);
        self
    }

    /// Counts the call towards another class than its operation's.
    pub(super) fn in_class(self, class: OperationClass) -> Self {
        Self { class, ..self }
    }
}

/// A contact, communication or note.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) id: String,
    #[serde(default)]
    pub(super) properties: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub(super) created_at: Option<String>,
    /// Whether an upsert created the record.
    #[serde(default, rename = "new")]
    pub(super) is_new: Option<bool>,
}

impl Record {
    /// Returns the value of a property; `None` if it is empty.
    pub(super) fn get(&self, property: &str) -> Option<&str> {
        self.properties.get(property)?.as_deref().map(str::trim).filter(|value| !value.is_empty())
    }
}

/// One page of a list or a search.
#[derive(Deserialize)]
pub(super) struct Page<T> {
    pub(super) results: Vec<T>,
    #[serde(default)]
    paging: Option<Paging>,
}

#[derive(Deserialize)]
struct Paging {
    #[serde(default)]
    next: Option<Next>,
}

#[derive(Deserialize)]
struct Next {
    after: String,
}

impl<T> Page<T> {
    /// Returns where the next page begins.
    pub(super) fn next(&self) -> Option<String> {
        Some(self.paging.as_ref()?.next.as_ref()?.after.clone())
    }
}

/// The answer to a batch. Version 2026-09 declares 200 and 201 only, earlier ones 207 if inputs failed; what failed is
/// in `errors` either way.
#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    results: Vec<Record>,
    #[serde(default)]
    errors: Vec<BatchError>,
}

impl Client {
    /// # Errors
    /// When the token is missing or cannot be sent, or the TLS set-up fails.
    pub(super) fn new(settings: &HubSpotSettings, gate: Arc<Gate>, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let credentials = Arc::new(RwLock::new(Credentials::of(settings)?));
        let options = HttpOptions {
            headers: HeaderMap::new(),
            media_type: MEDIA_TYPE,
            timeout: settings.timeout,
            max_response_bytes: MAX_RESPONSE_BYTES,
            read_limits: Arc::new(limits::read),
            resolver: None,
            read_refusal: Some(errors::read_refusal),
            pauses_on_gone: None,
            is_final: status::is_final,
        };
        let http = Http::new(options, Arc::clone(&gate), None, metrics)?;
        Ok(Self { http, gate, base: settings.base_url.clone(), credentials, refused_reads: Arc::default() })
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(super) fn is_refused_reads(&self) -> bool {
        self.refused_reads.load(Ordering::Acquire)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.http.timeout()
    }

    pub(super) fn take_token(&self, settings: &HubSpotSettings) -> anyhow::Result<bool> {
        let new = Credentials::of(settings)?;
        let mut credentials = self.credentials.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = credentials.token != new.token;
        *credentials = new;
        Ok(is_new)
    }

    pub(super) async fn make(&self, log: &CallLog, request: Request) -> Result<Answer, DestinationError> {
        let Request { operation, class, method, path, shown, body, mut private, needs_scope, search } = request;
        let Credentials { token, bearer } = self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone();
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|_no_url| unreadable("a path that is no URL"))?;
        private.push(token.expose().to_owned());
        let is_read = method == Method::GET;
        let call = Call {
            operation,
            class,
            credentials: http::Credentials::Bearer(bearer),
            method,
            url,
            // Numbers and names are in bodies.
            shown: shown.unwrap_or(path),
            body: body.map(|body| body.to_string().into()),
            idempotency_key: None,
            private,
            search,
            last_look: None,
        };
        let answer = if is_read { self.http.get(log, call).await } else { self.http.write(log, call).await };
        if needs_scope && let Err(DestinationError::CredentialsRefused { status: 403, .. }) = answer {
            tracing::error!(%operation, "hubspot.scope_missing: the token may not do this; `hookline check --connect` names the \
                scopes that it needs. Nothing is lost, deliveries wait");
            if operation != Operation::CheckToken {
                self.refused_reads.store(operation.class() == OperationClass::Reads, Ordering::Release);
            }
            self.gate.check_ended(CheckResult::Refused(403));
        }
        answer
    }

    /// Makes a call whose answer is one record; `None` for a 404.
    pub(super) async fn record(&self, log: &CallLog, request: Request) -> Result<Option<Record>, DestinationError> {
        match self.make(log, request).await {
            Ok(answer) => answer.object().map(Some),
            Err(DestinationError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a search.
    pub(super) async fn search(&self, log: &CallLog, request: Request) -> Result<Page<Record>, DestinationError> {
        let has_searched = log.records().iter().any(|made| made.path.ends_with("/search"));
        let search = if has_searched { Search::Further } else { Search::First };
        self.make(log, Request { search: Some(search), ..request }).await?.object()
    }

    /// Makes a batch call that reads records. Those that are not there are left out.
    pub(super) async fn read_batch(&self, log: &CallLog, request: Request) -> Result<Vec<Record>, DestinationError> {
        let batch: Batch = match self.make(log, request).await {
            Ok(answer) => answer.object()?,
            Err(DestinationError::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        match batch.errors.iter().find(|error| !error.is_absence()) {
            Some(error) => Err(error.as_failure()),
            None => Ok(batch.results),
        }
    }

    /// Makes a batch call that writes one record.
    pub(super) async fn write_one(&self, log: &CallLog, request: Request) -> Result<Record, DestinationError> {
        let private = [request.private.clone(), log.personal()].concat();
        let batch: Batch = self.make(log, request).await?.object()?;
        match (batch.errors.first(), batch.results.into_iter().next()) {
            (Some(error), _) => Err(error.as_failure().without(&private)),
            (None, Some(record)) => Ok(record),
            (None, None) => Err(unreadable("its body has no result")),
        }
    }
}
