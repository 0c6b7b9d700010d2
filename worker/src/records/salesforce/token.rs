//! The token of this process: got when the first call needs it, kept in memory, and got anew when Salesforce ends its
//! session. No answer says how long a token is good
//! (<https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_client_credentials_flow.htm>).
//!
//! All who wait for a token share one request. A process has a token of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use hookline_common::names::{Operation, OperationClass};
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::SalesforceSettings;
use hookline_common::time::Timestamp;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use url::Url;

use super::errors::not_made;
use super::oauth::{self, Credentials, Issued};
use crate::calls::coalesce::InFlight;
use crate::calls::held::paused_until;
use crate::calls::http::{self, Call, Http, HttpOptions, unreadable};
use crate::calls::log::CallLog;
use crate::destinations::error::DestinationError;
use crate::destinations::limits::Limits;
use crate::destinations::pause_reason::SALESFORCE_STRANGE_INSTANCE;
use crate::gate::Gate;

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Clones share the token.
#[derive(Clone)]
pub(super) struct Tokens {
    http: Http,
    gate: Arc<Gate>,
    base: Url,
    known: Arc<RwLock<Known>>,
    waiting: InFlight<Result<Token, DestinationError>>,
}

struct Known {
    credentials: Credentials,
    /// `None` before the first call, and after Salesforce ended the session.
    token: Option<Token>,
    issued: u64,
}

#[derive(Clone)]
pub(super) struct Token {
    /// Tells tokens apart.
    pub(super) number: u64,
    /// Must not appear in an error.
    pub(super) secret: Secret,
    pub(super) bearer: HeaderValue,
    /// Where calls with this token go.
    pub(super) instance: Url,
    /// The id of the user as whom the calls are made, as far as Salesforce tells.
    pub(super) user_id: String,
    has_worked: Arc<AtomicBool>,
}

impl Token {
    /// Notes that Salesforce took the token.
    pub(super) fn worked(&self) {
        self.has_worked.store(true, Ordering::Release);
    }

    pub(super) fn has_worked(&self) -> bool {
        self.has_worked.load(Ordering::Acquire)
    }
}

impl Tokens {
    /// # Errors
    /// When a credential is missing or unusable, or the TLS set-up fails.
    pub(super) fn new(
        settings: &SalesforceSettings,
        base: Url,
        gate: Arc<Gate>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let options = HttpOptions {
            headers: HeaderMap::new(),
            media_type: FORM,
            timeout: settings.timeout,
            max_response_bytes: MAX_RESPONSE_BYTES,
            read_limits: Arc::new(|_headers, _now| Limits::default()),
            resolver: None,
            read_refusal: Some(oauth::read_refusal),
            pauses_on_gone: None,
            // A delivery is never given up for want of a token.
            is_final: |_status| false,
        };
        Ok(Self {
            http: Http::new(options, Arc::clone(&gate), None, metrics)?,
            gate,
            known: Arc::new(RwLock::new(Known {
                credentials: Credentials::of(settings, &base)?,
                token: None,
                issued: 0,
            })),
            base,
            waiting: InFlight::default(),
        })
    }

    /// Returns the token, and asks Salesforce for one if there is none. `class` is the class of the call that needs it.
    ///
    /// # Errors
    /// Any [`DestinationError`] that leaves nothing in doubt.
    pub(super) async fn get(&self, log: &CallLog, class: OperationClass) -> Result<Token, DestinationError> {
        let issued = match self.look() {
            (Some(token), _) => return Ok(token),
            (None, issued) => issued,
        };
        let (this, log) = (self.clone(), log.clone());
        let request = move || async move {
            // Another caller's request may have ended between the look above and here.
            match this.look() {
                (Some(token), _) => Ok(token),
                (None, _) => this.request(&log, class).await.map_err(not_made),
            }
        };
        match self.waiting.join(&format!("token {issued}"), request).await {
            Some(token) => token,
            None => Err(DestinationError::NotSent { detail: "the request for a token was given up".to_owned() }),
        }
    }

    /// Forgets a token whose session Salesforce has ended, unless another one has taken its place.
    pub(super) fn forget(&self, token: &Token) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.token.as_ref().is_some_and(|other| other.number == token.number) {
            known.token = None;
        }
    }

    /// Forgets any token, so that the next call shows whether the credentials are good.
    pub(super) fn forget_any(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).token = None;
    }

    /// # Errors
    /// When the credentials cannot be used; the previous ones then stay.
    pub(super) fn take_credentials(&self, settings: &SalesforceSettings) -> anyhow::Result<bool> {
        let new = Credentials::of(settings, &self.base)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = known.credentials != new;
        if is_new {
            (known.credentials, known.token) = (new, None);
        }
        Ok(is_new)
    }

    /// Returns the id of the user as whom calls are made, as far as it is known.
    pub(super) fn user_id(&self) -> String {
        self.look().0.map(|token| token.user_id).unwrap_or_default()
    }

    /// Returns the token, and how many were issued.
    fn look(&self) -> (Option<Token>, u64) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.token.clone(), known.issued)
    }

    async fn request(&self, log: &CallLog, class: OperationClass) -> Result<Token, DestinationError> {
        let credentials = self.known.read().unwrap_or_else(PoisonError::into_inner).credentials.clone();
        let form = credentials.form(Timestamp::now())?;
        let url = self.base.join(oauth::PATH).map_err(|_no_url| unreadable("base_url takes no path"))?;
        let began_ms = self.gate.now_ms();
        let call = Call {
            operation: Operation::GetToken,
            class,
            credentials: http::Credentials::Headers(HeaderMap::new()),
            method: Method::POST,
            url,
            shown: oauth::PATH.to_owned(),
            body: Some(form.body.into()),
            idempotency_key: None,
            private: form.private,
            search: None,
            last_look: None,
        };
        let answer = match self.http.write(log, call).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(kind = error.kind(), detail = %error, "salesforce.no_token: Salesforce issued no token");
                return Err(error);
            }
        };
        let mut token = match self.read(answer.object()?) {
            Ok(token) => token,
            Err(why) => return Err(self.strange(began_ms, &why)),
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.issued += 1;
        token.number = known.issued;
        // Others may have been set while the request was made.
        if known.credentials == credentials {
            known.token = Some(token.clone());
        }
        tracing::info!(
            number = token.number,
            host = token.instance.host_str(),
            "salesforce.token: Salesforce issued a token"
        );
        Ok(token)
    }

    fn read(&self, issued: Issued) -> anyhow::Result<Token> {
        let instance = oauth::instance(&issued.instance_url, &self.base).map_err(anyhow::Error::msg)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", issued.access_token))
            .ok()
            .context("its token holds characters that a header cannot")?;
        bearer.set_sensitive(true);
        Ok(Token {
            number: 0,
            secret: Secret::new(issued.access_token),
            bearer,
            instance,
            user_id: issued.id.rsplit('/').next().unwrap_or_default().to_owned(),
            has_worked: Arc::default(),
        })
    }

    /// Pauses the destination, since a token that came with an unexpected host goes nowhere.
    fn strange(&self, began_ms: i64, why: &anyhow::Error) -> DestinationError {
        tracing::error!(%why, "salesforce.token_refused: an answer to a request for a token is not used");
        self.gate.stop(began_ms, SALESFORCE_STRANGE_INSTANCE);
        let why = format!("calls to system_of_record are held: paused: {SALESFORCE_STRANGE_INSTANCE}");
        DestinationError::GateClosed { until: paused_until(), why, is_paused: true }
    }
}
