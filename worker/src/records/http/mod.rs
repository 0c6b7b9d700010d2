//! A system of record of the user's own: each change is posted to one URL as a JSON document, signed by Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>). The page
//! docs/systems-of-record/http.md describes the documents, and docs/http-connector.schema.json is their schema.
//!
//! Every write may be repeated: a repeat has the same id and the same body, and a thread is known by its `thread_id`. So
//! nothing is looked up after an answer that was lost.
//!
//! The receiver may know people of its own. If it answers `people.find` with `people`, these are the people. Otherwise
//! the person is TextUs's, with an empty id, which documents show as `null`.

mod answer;
mod document;
mod probe;
mod resolver;
mod signature;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use hookline_common::names::{Destination, Operation};
use hookline_common::phone::Phone;
use hookline_common::private_address::{is_private, literal, names_loopback};
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::{HttpRecordSettings, Settings};
use hookline_common::time::{Timestamp, millis};
use hookline_store::Store;
use hookline_store::model::PersonFacts;
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::document::Document;
use self::resolver::{Reach, Resolver};
use self::signature::Keys;
use super::person_fields::PersonFields;
use super::{
    Cost, FlagWrite, Idempotency, NoteError, NotePart, Notes, OptOutFlag, Person, PersonId, SystemOfRecord, Upserted,
};
use crate::calls::held::paused_until;
use crate::calls::http::{Answer, Call, Credentials, Http, HttpOptions};
use crate::calls::log::CallLog;
use crate::delivery::handler::{Attempt, HandlerError};
use crate::destinations::error::DestinationError;
use crate::destinations::limits::{GateRules, IN_HAND_MAX, Limits};
use crate::destinations::pause_reason::WANTS_NO_MORE;
use crate::destinations::retry_after;
use crate::gate::{CheckResult, Gate};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Longest answer that is read. An answer names a few people at most.
const MAX_RESPONSE_BYTES: usize = 1 << 20;
/// How often a receiver that refused a signature is asked whether it accepts one now.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// How far apart probes are of a receiver that fails.
const OPEN_MIN: Duration = Duration::from_secs(5);
const OPEN_MAX: Duration = Duration::from_secs(60);

/// The connector to the user's own URL.
pub struct HttpRecords {
    name: String,
    http: Http,
    gate: Arc<Gate>,
    url: Url,
    keys: RwLock<Keys>,
    fields: PersonFields,
    /// 0 if the configuration sets no pace.
    per_second: u32,
}

/// What became of a document.
enum Taken {
    Now(Answer),
    /// The receiver had it already.
    Before,
}

/// Returns kind and instance of the system at this URL.
pub(super) fn name(url: &Url) -> String {
    format!("http {url}")
}

impl HttpRecords {
    /// Builds the connector from the settings.
    ///
    /// # Errors
    /// When a key is missing, a secret signs nothing, the URL's address is private, or the TLS set-up fails.
    pub fn new(settings: &HttpRecordSettings, store: &Store, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let url = settings.url.clone().context("[system_of_record.http] url is not set")?;
        let reach = reach(&url, settings)?;
        let rules = rules(settings);
        let gate = Gate::new(Destination::SystemOfRecord, store.clone(), Arc::clone(metrics), rules);
        let gate = Arc::new(gate);
        let options = HttpOptions {
            headers: HeaderMap::from_iter([(ACCEPT, JSON)]),
            media_type: JSON,
            timeout: settings.timeout,
            max_response_bytes: MAX_RESPONSE_BYTES,
            read_limits: Arc::new(read_limits),
            resolver: Some(Arc::new(Resolver::new(reach))),
            read_refusal: None,
            pauses_on_gone: Some(WANTS_NO_MORE),
            is_final,
        };
        let http = Http::new(options, Arc::clone(&gate), None, Arc::clone(metrics))?;
        let keys = RwLock::new(Keys::of(&settings.secrets)?);
        Ok(Self {
            name: name(&url),
            http,
            gate,
            url,
            keys,
            per_second: settings.max_per_second,
            fields: PersonFields::default(),
        })
    }

    /// Adds these fields to each document about a person, by the templates of `[system_of_record.templates] person`.
    #[must_use]
    pub fn filling(self, templates: &BTreeMap<String, String>) -> Self {
        Self { fields: PersonFields::new(templates), ..self }
    }

    /// Asks the receiver about a number that nobody has. Any answer but a refused signature shows that it takes ours.
    ///
    /// # Errors
    /// Any [`DestinationError`].
    pub async fn check(&self, log: &CallLog) -> Result<(), DestinationError> {
        let question = Document::people_find(None, Some(probe::NOBODY), document::a_moment());
        self.send(log, Operation::CheckToken, question).await.map(drop)
    }

    async fn send(&self, log: &CallLog, operation: Operation, document: Document) -> Result<Taken, DestinationError> {
        let Document { id, body, private } = document;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let sign = move |body: &[u8]| keys.headers(&id, body, Timestamp::now());
        let call = Call {
            operation,
            class: operation.class(),
            credentials: Credentials::Signature(Box::new(sign)),
            method: Method::POST,
            url: self.url.clone(),
            shown: self.url.path().to_owned(),
            body: Some(body),
            idempotency_key: None,
            private,
            search: None,
            last_look: None,
        };
        match self.http.write(log, call).await {
            Ok(answer) => Ok(Taken::Now(answer)),
            Err(DestinationError::Rejected { status: 409, .. }) => Ok(Taken::Before),
            // The URL is the only resource, so a 403 is about our signature.
            Err(DestinationError::Forbidden { .. }) => {
                self.gate.check_ended(CheckResult::Refused(403));
                Err(DestinationError::CredentialsRefused { status: 403, until: paused_until() })
            }
            // Nothing on the way to the one URL can be missing but the URL itself.
            Err(DestinationError::NotFound { detail }) => Err(DestinationError::Rejected { status: 404, detail }),
            Err(error) => Err(error),
        }
    }

    async fn people(
        &self,
        log: &CallLog,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<Person>, DestinationError> {
        let question = Document::people_find(contact_id, phone.map(Phone::as_e164), document::a_moment());
        match self.send(log, Operation::FindPerson, question).await? {
            Taken::Now(answered) => answer::people(&answered.bytes()?, contact_id, phone),
            // Every question has an id of its own, so nobody can have answered it before.
            Taken::Before => {
                let detail = "a question is not done already; answer people.find with people, or without a body";
                Err(DestinationError::Rejected { status: 409, detail: detail.to_owned() })
            }
        }
    }

    async fn upsert(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        let document = Document::person_upserted(facts, self.fields.of(facts)?, attempt.event.received_at);
        let (id, created, changed) =
            match self.send(attempt.calls, Operation::UpsertPerson, document).await.map_err(failed)? {
                Taken::Now(answered) => {
                    let is_new = answered.status == 201;
                    let id = answer::person_id(&answered.bytes().map_err(failed)?);
                    (id.clone(), is_new && !id.is_empty(), true)
                }
                // The answer that had the id was lost, and the id is needed.
                Taken::Before => {
                    let people = self
                        .people(attempt.calls, facts.contact_id.as_deref(), facts.phones.first())
                        .await
                        .map_err(failed)?;
                    let id = match people.as_slice() {
                        [only] => only.id.0.clone(),
                        _ => String::new(),
                    };
                    (id, false, false)
                }
            };
        let person = Person {
            id: PersonId(id),
            contact_id: facts.contact_id.clone(),
            phones: facts.phones.clone(),
            name: facts.name.clone(),
            has_owner: false,
            created_at: None,
        };
        Ok(Upserted { person, created, changed })
    }
}

/// Returns how far connections may go.
///
/// # Errors
/// When the URL's host is a private address, and private ones are not allowed.
fn reach(url: &Url, settings: &HttpRecordSettings) -> anyhow::Result<Reach> {
    if settings.allow_private_addresses {
        return Ok(Reach::Anywhere);
    }
    if names_loopback(url) {
        return Ok(Reach::Loopback);
    }
    if literal(url).is_some_and(is_private) {
        bail!("[system_of_record.http] url has a private address, and allow_private_addresses is false");
    }
    Ok(Reach::Public)
}

/// Returns the gate's rules. A receiver states no quota: a 429 says when to come back, and slows later calls down.
fn rules(settings: &HttpRecordSettings) -> GateRules {
    GateRules {
        reserve: 0.0,
        per_second: settings.max_per_second,
        searches: 0,
        // No answer states a window.
        window_ms: 1_000,
        is_rolling: false,
        open_min_ms: millis(OPEN_MIN),
        open_max_ms: millis(OPEN_MAX),
        probe_every_ms: millis(PROBE_EVERY),
        in_hand_ms: millis(settings.timeout.min(IN_HAND_MAX)),
    }
}

/// Other headers about a limit have no meaning that all receivers agree on.
fn read_limits(headers: &HeaderMap, now: Timestamp) -> Limits {
    Limits { retry_after: retry_after::read(headers, now), ..Limits::default() }
}

/// Returns whether a repeat would get the same answer. 408, 421, 423, 425 and 429 are about the moment, not about the
/// document.
fn is_final(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 421 | 423 | 425 | 429)
}

fn failed(error: DestinationError) -> HandlerError {
    HandlerError::Destination { destination: Destination::SystemOfRecord, error }
}

#[async_trait]
impl SystemOfRecord for HttpRecords {
    fn name(&self) -> &str {
        &self.name
    }

    fn gate(&self) -> Option<&Arc<Gate>> {
        Some(&self.gate)
    }

    fn settle_after(&self) -> Duration {
        self.http.timeout()
    }

    fn notes(&self) -> &dyn Notes {
        self
    }

    fn cost(&self) -> Cost {
        let calls = (self.per_second > 0).then(|| (u64::from(self.per_second), Duration::from_secs(1)));
        Cost { calls, ..Cost::default() }
    }

    async fn check(&self, calls: &CallLog) -> Result<(), HandlerError> {
        HttpRecords::check(self, calls).await.map_err(failed)
    }

    fn take_credentials(&self, settings: &Settings) -> anyhow::Result<bool> {
        let new = Keys::of(&settings.system_of_record.http.secrets)?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = *keys != new;
        *keys = new;
        Ok(is_new)
    }

    async fn watch(&self, shutdown: CancellationToken) {
        probe::run(self, shutdown).await;
    }

    async fn find_people(
        &self,
        attempt: &Attempt<'_>,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<Person>, HandlerError> {
        if contact_id.is_none() && phone.is_none() {
            return Ok(Vec::new());
        }
        self.people(attempt.calls, contact_id, phone).await.map_err(failed)
    }

    async fn upsert_person(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        self.upsert(attempt, facts).await
    }

    async fn set_opt_out(
        &self,
        attempt: &Attempt<'_>,
        person: &Person,
        phone: &Phone,
        flag: &OptOutFlag,
    ) -> Result<FlagWrite, HandlerError> {
        let document = Document::opt_out_changed(person, phone, flag);
        match self.send(attempt.calls, Operation::SetOptOut, document).await.map_err(failed)? {
            Taken::Now(_) => Ok(FlagWrite::Changed),
            Taken::Before => Ok(FlagWrite::AsItWas),
        }
    }
}

#[async_trait]
impl Notes for HttpRecords {
    fn idempotency(&self) -> Idempotency {
        Idempotency::ByKey
    }

    async fn write(&self, attempt: &Attempt<'_>, person: &Person, part: &NotePart<'_>) -> Result<String, NoteError> {
        let document = Document::thread_written(person, part);
        self.send(attempt.calls, Operation::LogNote, document).await.map_err(failed)?;
        Ok(part.key.to_owned())
    }
}
