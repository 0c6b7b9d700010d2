//! Every key of `hookline.toml`, each declared once: its name, type, bounds, default and help. Reading, the search for
//! unknown keys, the annotated example, the JSON schema and the masked summary all come from here. A new key is a line
//! here; `cargo run -p hookline-common --example settings_files` then writes the files in `config/` anew.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::declare::{
    Declared, Table, key, keys_of, list, no_key, optional, optional_list, required, required_list, settings, table,
    tables,
};
use super::kinds::{
    Account, Address, AmqpUrl, BaseUrl, Choices, FilePath, Flag, KeywordText, Number, PostgresUrl, SecretText, Size,
    Slug, Span, WebhookUrl, Whole, choices, one_of,
};
use super::visit::Visit;
use crate::event::SourceName;
use crate::keywords;
use crate::secret::Secret;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

settings! {
    /// Configuration of Hookline: hookline.toml
    pub struct Settings {
        /// Where the embedded broker, SQLite and the spool live; `hookline dev` has ./.hookline/dev instead.
        data_dir: PathBuf = key(FilePath, "./.hookline"),
        /// After SIGTERM or SIGINT: how long what is in flight may take to finish.
        // Kubernetes kills 30 s after it asked (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>).
        shutdown_grace: Duration = key(Span::ANY, "25s"),
        ingest: IngestSettings = table(),
        admin: AdminSettings = table(),
        broker: BrokerSettings = table(),
        store: StoreSettings = table(),
        sources: Vec<SourceSettings> = tables(),
        /// Sources whose secrets are out of this program's reach: they are not in `sources`.
        spared_sources: Vec<SourceName> = no_key(),
        textus: TextUsSettings = table(),
        handlers: HandlersSettings = table(),
        sandbox: SandboxSettings = table(),
        system_of_record: SystemOfRecordSettings = table(),
        log: LogSettings = table(),
    }

    /// Where webhooks come in.
    pub struct IngestSettings {
        /// POST /webhooks/{source} is here; port 0 means any free one.
        listen: SocketAddr = key(Address, "127.0.0.1:8080"),
        /// A longer body is refused with 413.
        max_body_bytes: usize = key(Size::between(KIB, 8 * MIB), "1MiB"),
        /// From a request's head to the last byte of its body.
        request_timeout: Duration = key(Span::ABOVE_ZERO, "10s"),
        /// Bytes a second: a body that comes slower, after the first second, is given up early. 0: no such limit.
        min_body_rate: usize = key(Size::between(0, GIB), "1KiB"),
        /// Requests being read or stored at once; the next one is answered 503 before its body is read.
        max_in_flight: usize = key(Whole::between(1, 100_000), 1024),
        /// While RabbitMQ is away: "spool" keeps webhooks in data_dir and forwards them later, "reject" answers 503.
        on_broker_outage: OnBrokerOutage = key(one_of(), "spool"),
        /// A spool that has grown this large takes no more: 503. Counted are the bodies and 1 KiB for each event.
        spool_max_bytes: u64 = key(Size::between(KIB, 1024 * GIB), "4GiB"),
        tls: TlsSettings = table(),
    }

    /// Left out: plain HTTP, for a proxy in front that ends TLS.
    pub struct TlsSettings {
        /// The certificate and its chain, as PEM.
        cert: Option<PathBuf> = optional(FilePath, "/etc/hookline/tls.crt"),
        /// The certificate's private key, as PEM.
        key: Option<PathBuf> = optional(FilePath, "/etc/hookline/tls.key"),
    }

    /// /livez, /readyz and /metrics.
    pub struct AdminSettings {
        /// Left out: 127.0.0.1:9464, and 127.0.0.1:9465 for hookline-worker.
        listen: Option<SocketAddr> = optional(Address, "127.0.0.1:9464"),
    }

    /// The queues.
    pub struct BrokerSettings {
        /// RabbitMQ: amqps:// for TLS, the virtual host at the end (/ is %2F). A list is tried in random order. Left out:
        /// the embedded broker, for `hookline run` on one machine.
        url: Vec<Secret> = optional_list(AmqpUrl, "env:BROKER_URL"),
        /// With amqps://: certificates that sign the broker's, as PEM, beside the system's.
        ca: Option<PathBuf> = optional(FilePath, "/etc/hookline/rabbitmq-ca.pem"),
        /// A delivery that nobody began, or that is a minute late after it was parked, while its handler's queue was found
        /// empty for so long, is published anew from the history: its message may have been lost. Longer than workers keep
        /// deliveries in hand; opt-outs wait no longer than 45 s.
        missing_after: Duration = key(Span::SECONDS, "2m"),
    }

    /// What was done, what is known, and the opt-out ledger.
    pub struct StoreSettings {
        /// PostgreSQL. Left out: SQLite under data_dir, for one worker process.
        url: Option<Secret> = optional(PostgresUrl, "env:STORE_URL"),
        /// Payloads and history are kept this long, effects 90 days at least, the opt-out ledger for ever.
        retention: Duration = key(Span(Duration::from_hours(24)), "30d"),
        /// Keys the chain of the opt-out ledger; one for all machines. Left out: made once under data_dir.
        ledger_key: Option<Secret> = optional(SecretText, "env:LEDGER_KEY"),
    }

    /// Who posts webhooks, one table each.
    pub struct SourceSettings {
        /// The last part of the path: POST /webhooks/{name}.
        name: SourceName = required(Slug, "textus"),
        /// How its signatures and payloads are read.
        kind: SourceKind = key(one_of(), "textus"),
        /// What the source signs with. Several: all are accepted, so that one can be replaced without a gap.
        secrets: Vec<Secret> = required_list(SecretText, "env:TEXTUS_WEBHOOK_SECRET"),
    }

    /// The TextUs API.
    pub struct TextUsSettings {
        /// https; plain http only on loopback.
        // The vendor's documents give this host for every call
        // (<https://apidocs.next.textus.com/overview/making_requests/>).
        base_url: Url = key(BaseUrl, "https://next.textus.com"),
        /// {your-account-name} in the API's paths.
        account: String = optional(Account, "acme"),
        /// The API token.
        token: Option<Secret> = optional(SecretText, "env:TEXTUS_API_TOKEN"),
        /// The primary account, which has the integrations. Left out: account.
        primary_account: Option<String> = optional(Account, "acme"),
        /// Where TextUs reaches this endpoint, as the integration has it: `hookline webhooks`, `check --connect` and the
        /// workers look for it. Left out: the one integration whose URL ends in /webhooks/{source}.
        webhook_url: Option<Url> = optional(WebhookUrl, "https://hooks.example.com/webhooks/textus"),
        /// How often a worker looks whether TextUs sends what the handlers need. "0s": never.
        webhook_check_every: Duration = key(Span::ANY, "1h"),
        /// Of one call, from connecting to the last byte.
        timeout: Duration = key(Span::ABOVE_ZERO, "10s"),
        /// Share of the quota kept for opt-outs; it shrinks to zero over the last fifth of the window.
        opt_out_reserve: f64 = key(Number { least: 0.0, most: 1.0 }, 0.1),
        /// After 401 or 403: one careful probe this often, besides `hookline resume textus`.
        paused_probe: Duration = key(Span::SECONDS, "1m"),
        /// A longer answer is an error.
        max_response_bytes: usize = key(Size::between(KIB, 64 * MIB), "1MiB"),
        /// Length of the window of the rate limit (TextUs: 1,000 requests in 5 minutes); its end comes from the headers.
        rate_limit_window: Duration = key(Span::SECONDS, "5m"),
        breaker: BreakerSettings = table(),
    }

    /// One breaker for each class of operation (opt-out writes, contact writes, reads): while its calls fail, one is made
    /// every open_min to see; after 24 of them each time twice as long.
    pub struct BreakerSettings {
        /// How long calls are held back at first.
        open_min: Duration = key(Span::ABOVE_ZERO, "5s"),
        /// How long at most.
        open_max: Duration = key(Span::ABOVE_ZERO, "5m"),
    }

    /// What is done about an event: one table each.
    pub struct HandlersSettings {
        record_opt_out: RecordOptOutSettings = table(),
        flag_opt_out: FlagOptOutSettings = table(),
        log_note: LogNoteSettings = table(),
        create_contact: CreateContactSettings = table(),
        sync_contact: SyncContactSettings = table(),
        record_history: RecordHistorySettings = table(),
    }

    /// What every handler has.
    pub struct HandlerBasics {
        /// Off: new events pass it by (`hookline events replay` brings them back); what is queued waits.
        enabled: bool = key(Flag, true),
        /// Calls in flight in each worker process; twice as many deliveries are in hand.
        concurrency: u16 = key(Whole::between(1, 1000), 32),
        retry: RetrySettings = table(),
    }

    /// What failed is tried again after a random delay, up to a bound that grows with each attempt.
    pub struct RetrySettings {
        /// The bound of the first delay.
        initial: Duration = key(Span::ABOVE_ZERO, "5s"),
        /// The bound grows by this factor.
        multiplier: f64 = key(Number { least: 1.0, most: 1000.0 }, 2.0),
        /// The bound never exceeds this.
        max: Duration = key(Span::ABOVE_ZERO, "6h"),
        /// After so many attempts: a dead letter. 0: no limit but max_age, and the only value for opt-outs.
        max_attempts: u32 = key(Whole::between(0, 1_000_000), 0),
        /// A delivery older than this is a dead letter.
        max_age: Duration = key(Span::ABOVE_ZERO, "7d"),
    }

    /// An opt-out is PUT to TextUs, and proof of it kept.
    pub struct RecordOptOutSettings {
        basics: HandlerBasics = keys_of(opt_out_basics()),
        /// Where the opt-out is PUT. Left out: `[textus] account`.
        accounts: Vec<String> = optional_list(Account, "acme"),
        /// A text that is one of these alone is an opt-out, whatever its case; spaces around it and punctuation behind it
        /// do not count. START, YES or UNSTOP alone change no state, and let the next opt-out be PUT again. []: off.
        keywords: Vec<String> = list(KeywordText, &keywords::STOP),
    }

    /// An opt-out is flagged on the person's record.
    pub struct FlagOptOutSettings {
        basics: HandlerBasics = keys_of(HandlerBasics::defaults()),
    }

    /// A text message is noted on the person's record.
    pub struct LogNoteSettings {
        basics: HandlerBasics = keys_of(HandlerBasics::defaults()),
        /// How GET /messages/{…} is asked: by "contact" id, by "message" id, "auto" finds out which form works, "none"
        /// makes no call and takes the signed payload.
        message_lookup: MessageLookup = key(one_of(), "auto"),
        /// A message of somebody the system of record does not know: "create" the person, "skip" the message, or leave it
        /// to a person as a "dead_letter".
        on_unknown_contact: OnUnknownContact = key(one_of(), "create"),
        /// A message may be younger than its webhook: asked for again this long, then a dead letter.
        not_found_grace: Duration = key(Span::ANY, "30s"),
    }

    /// A contact is created in TextUs.
    pub struct CreateContactSettings {
        basics: HandlerBasics = keys_of(HandlerBasics::defaults()),
        /// Where the contact is created. Left out: `[textus] account`.
        accounts: Vec<String> = optional_list(Account, "acme"),
    }

    /// A person is created or linked in the system of record.
    pub struct SyncContactSettings {
        basics: HandlerBasics = keys_of(HandlerBasics::defaults()),
    }

    /// Every event is kept in the history.
    pub struct RecordHistorySettings {
        basics: HandlerBasics = keys_of(HandlerBasics::defaults()),
    }

    /// What stands in for TextUs in `hookline dev`.
    pub struct SandboxSettings {
        /// Port 0: any free one.
        listen: SocketAddr = key(Address, "127.0.0.1:0"),
    }

    /// Where people and notes live.
    pub struct SystemOfRecordSettings {
        /// "builtin": in the store.
        kind: SystemOfRecordKind = key(one_of(), "builtin"),
    }

    /// What is written to stderr; RUST_LOG says how much.
    pub struct LogSettings {
        /// "text" or "json". Left out: text on a terminal, one JSON object a line otherwise.
        format: Option<LogFormat> = optional(one_of(), "json"),
    }
}

choices! {
    pub enum OnBrokerOutage { Spool = "spool", Reject = "reject", }

    pub enum SourceKind { TextUs = "textus", }

    pub enum MessageLookup { Auto = "auto", Contact = "contact", Message = "message", None = "none", }

    pub enum OnUnknownContact { DeadLetter = "dead_letter", Create = "create", Skip = "skip", }

    pub enum SystemOfRecordKind { Builtin = "builtin", }

    pub enum LogFormat { Text = "text", Json = "json", }
}

/// An opt-out goes out soon after TextUs takes it again, however long that was away.
fn opt_out_basics() -> HandlerBasics {
    let basics = HandlerBasics::defaults();
    HandlerBasics { retry: RetrySettings { max: Duration::from_mins(5), ..basics.retry }, ..basics }
}
