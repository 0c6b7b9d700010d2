//! The whole configuration, complete before anything starts: `hookline.toml`, `HOOKLINE__SECTION__KEY` variables
//! over it, `env:NAME` and `file:PATH` values inside it. This file says what there is to set. Each key's name, kind
//! and description stand once, in `keys.rs`, and its default once, in `defaults.rs`; reading, the search for unknown
//! keys, the annotated example, the JSON schema and the masked summary all come from those two.

mod catalogue;
mod check;
mod defaults;
mod environment;
mod example;
mod keys;
mod kinds;
mod load;
mod problem;
mod schema;
mod source;
mod text;
mod unknown;
mod value;
mod visit;

#[cfg(test)]
mod tests;

pub use example::example;
pub use kinds::webhook_url;
pub use load::{Loaded, Needs, Role, load};
pub use problem::{Location, Problem, Problems};
pub use schema::json_schema;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::event::SourceName;
use crate::secret::Secret;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Embedded broker, SQLite store, spool.
    pub data_dir: PathBuf,
    pub shutdown_grace: Duration,
    pub ingest: IngestSettings,
    pub admin: AdminSettings,
    pub broker: BrokerSettings,
    pub store: StoreSettings,
    pub sources: Vec<SourceSettings>,
    /// Sources whose secrets are out of this program's reach: they are not in `sources`.
    pub spared_sources: Vec<SourceName>,
    pub textus: TextUsSettings,
    pub handlers: HandlersSettings,
    pub sandbox: SandboxSettings,
    pub system_of_record: SystemOfRecordSettings,
    pub log: LogSettings,
}

#[derive(Clone, Debug, PartialEq)]
pub struct IngestSettings {
    pub listen: SocketAddr,
    pub max_body_bytes: usize,
    /// From the request head to the last byte of the body.
    pub request_timeout: Duration,
    /// A body slower than this, after the first second, is given up early. Bytes a second.
    pub min_body_rate: usize,
    /// Requests being read or stored at once; above it 503, before the body is read.
    pub max_in_flight: usize,
    pub on_broker_outage: OnBrokerOutage,
    pub spool_max_bytes: u64,
    pub tls: Option<TlsSettings>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBrokerOutage {
    Spool,
    Reject,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TlsSettings {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// Left out: 127.0.0.1:9464, and 127.0.0.1:9465 for `hookline-worker`.
    pub listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BrokerSettings {
    /// `amqp://` or `amqps://`, tried in random order. Empty: the embedded broker.
    pub url: Vec<Secret>,
    /// Certificates that sign the broker's, as PEM, beside the system's.
    pub ca: Option<PathBuf>,
    /// When a delivery that nobody began is published anew.
    pub missing_after: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StoreSettings {
    /// `postgres://`; left out: SQLite in `data_dir`.
    pub url: Option<Secret>,
    /// Payloads and history; effects are kept 90 days at least, the opt-out ledger for ever.
    pub retention: Duration,
    /// Keys the ledger's chain; left out: made once under `data_dir`.
    pub ledger_key: Option<Secret>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SourceSettings {
    pub name: SourceName,
    pub kind: SourceKind,
    /// Several: all are accepted (rotation). Never empty, none of them empty.
    pub secrets: Vec<Secret>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    TextUs,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TextUsSettings {
    /// No trailing slash.
    pub base_url: url::Url,
    /// `{your-account-name}`: the segment of the API's paths. Empty where not set.
    pub account: String,
    /// `None` where not set.
    pub token: Option<Secret>,
    /// The account that has the integrations; `None`: `account`.
    pub primary_account: Option<String>,
    /// Where TextUs is to post webhooks to; no trailing slash. `None` where not set.
    pub webhook_url: Option<url::Url>,
    /// How often a worker looks whether this endpoint is subscribed; zero: never.
    pub webhook_check_every: Duration,
    pub timeout: Duration,
    /// Share of the quota kept for opt-outs.
    pub opt_out_reserve: f64,
    /// While the credentials are refused: one careful probe this often.
    pub paused_probe: Duration,
    pub breaker: BreakerSettings,
    /// Length of the rate limit's window; its end is what answers tell.
    pub rate_limit_window: Duration,
    /// An answer longer than this is an error.
    pub max_response_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerSettings {
    pub open_min: Duration,
    pub open_max: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HandlersSettings {
    pub record_opt_out: RecordOptOutSettings,
    pub flag_opt_out: FlagOptOutSettings,
    pub log_note: LogNoteSettings,
    pub create_contact: CreateContactSettings,
    pub sync_contact: SyncContactSettings,
    pub record_history: RecordHistorySettings,
}

/// What every handler has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HandlerBasics {
    pub enabled: bool,
    /// Attempts running at once per worker process; prefetch is twice that.
    pub concurrency: u16,
    pub retry: RetrySettings,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RecordOptOutSettings {
    pub basics: HandlerBasics,
    /// Where the opt-out is PUT. Already defaulted to `[textus] account`.
    pub accounts: Vec<String>,
    /// A text that is one of these alone is an opt-out. Empty: no text is.
    pub keywords: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FlagOptOutSettings {
    pub basics: HandlerBasics,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogNoteSettings {
    pub basics: HandlerBasics,
    pub message_lookup: MessageLookup,
    /// Already defaulted by the kind of the system of record.
    pub on_unknown_contact: OnUnknownContact,
    pub not_found_grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageLookup {
    Auto,
    Contact,
    Message,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknownContact {
    DeadLetter,
    Create,
    Skip,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateContactSettings {
    pub basics: HandlerBasics,
    /// Where the contact is created. Already defaulted to `[textus] account`.
    pub accounts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SyncContactSettings {
    pub basics: HandlerBasics,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RecordHistorySettings {
    pub basics: HandlerBasics,
}

/// Full-jitter exponential back-off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetrySettings {
    pub initial: Duration,
    pub multiplier: f64,
    pub max: Duration,
    /// 0: no limit but `max_age`.
    pub max_attempts: u32,
    pub max_age: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SandboxSettings {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SystemOfRecordSettings {
    pub kind: SystemOfRecordKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemOfRecordKind {
    Builtin,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// Left out: text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Settings {
    /// The names of all sources, whether or not their secrets are at hand.
    pub fn source_names(&self) -> impl Iterator<Item = &SourceName> {
        self.sources.iter().map(|source| &source.name).chain(&self.spared_sources)
    }
}

impl SourceSettings {
    /// Whether this is the source that webhooks posted there are from; a proxy in front may have put more before it.
    #[must_use]
    pub fn takes_posts_to(&self, url: &url::Url) -> bool {
        takes_posts_to(&self.name, url)
    }
}

/// Whether a URL ends in the path of the source with this name.
#[must_use]
pub fn takes_posts_to(source: &SourceName, url: &url::Url) -> bool {
    url.path().trim_end_matches('/').strip_suffix(source.as_str()).is_some_and(|rest| rest.ends_with("/webhooks/"))
}

impl TextUsSettings {
    /// The account whose integrations are looked at.
    #[must_use]
    pub fn primary_account(&self) -> &str {
        self.primary_account.as_deref().unwrap_or(&self.account)
    }
}

impl HandlersSettings {
    #[must_use]
    pub fn basics(&self, handler: crate::names::HandlerName) -> HandlerBasics {
        use crate::names::HandlerName;
        match handler {
            HandlerName::RecordOptOut => self.record_opt_out.basics,
            HandlerName::FlagOptOut => self.flag_opt_out.basics,
            HandlerName::LogNote => self.log_note.basics,
            HandlerName::CreateContact => self.create_contact.basics,
            HandlerName::SyncContact => self.sync_contact.basics,
            HandlerName::RecordHistory => self.record_history.basics,
        }
    }

    /// The handlers that are switched on.
    #[must_use]
    pub fn enabled(&self) -> Vec<crate::names::HandlerName> {
        crate::names::HandlerName::ALL.iter().copied().filter(|handler| self.basics(*handler).enabled).collect()
    }
}
