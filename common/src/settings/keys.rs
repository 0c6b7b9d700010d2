//! Every key of `hookline.toml`, each declared once: its name, type, bounds, default and help. Reading, the search for
//! unknown keys, the annotated example, the JSON schema and the masked summary all come from here. A new key is a line
//! here; `cargo run -p hookline-common --example settings_files` then writes the files in `config/` anew.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::declare::{
    Declared, Table, key, keys_of, list, map, no_key, optional, optional_list, required, required_list, settings,
    table, tables,
};
use super::kinds::{
    Account, Address, AmqpUrl, BaseUrl, Choices, FieldName, FilePath, Filled, Flag, KeywordText, Number, OwnerId,
    PersonTemplate, PostUrl, PostgresUrl, PrivateKeyText, PropertyName, SecretText, SigningSecret, Size, Slug, Span,
    TemplateText, TokenText, Whole, ZoneName, choices, one_of,
};
use super::visit::Visit;
use crate::event::SourceName;
use crate::keywords;
use crate::secret::Secret;
use crate::time_zone::TimeZone;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const WEBHOOK_URL: &str = "https://hooks.example.com/webhooks/textus";
const API_NAME: &str = "the API name of a field such as \"TextUs_Thread_Key__c\"";
const DOCUMENT_URL: &str = "https://crm.example.com/hookline";

settings! {
    /// Configuration of Hookline: hookline.toml.
    pub struct Settings {
        /// This folder holds the embedded broker, the SQLite database and the spool. `hookline dev` uses
        /// ./.hookline/dev instead.
        data_dir: PathBuf = key(FilePath, "./.hookline"),
        /// After SIGTERM or SIGINT, requests and deliveries in flight have this long to finish.
        // Kubernetes kills 30 s after it asked (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>).
        shutdown_grace: Duration = key(Span::ANY, "25s"),
        ingest: IngestSettings = table(),
        admin: AdminSettings = table(),
        broker: BrokerSettings = table(),
        store: StoreSettings = table(),
        sources: Vec<SourceSettings> = tables(),
        /// This program does not need these sources and cannot read their secrets, so `sources` does not have them.
        spared_sources: Vec<SourceName> = no_key(),
        textus: TextUsSettings = table(),
        handlers: HandlersSettings = table(),
        sandbox: SandboxSettings = table(),
        system_of_record: SystemOfRecordSettings = table(),
        log: LogSettings = table(),
    }

    /// Ingest receives webhooks.
    pub struct IngestSettings {
        /// Ingest serves POST /webhooks/{source} on this address. Port 0 takes any free port.
        listen: SocketAddr = key(Address, "127.0.0.1:8080"),
        /// Ingest refuses a longer body with status 413.
        max_body_bytes: usize = key(Size::between(KIB, 8 * MIB), "1MiB"),
        /// A request may take this long, from its head to the last byte of its body.
        request_timeout: Duration = key(Span::ABOVE_ZERO, "10s"),
        /// The bodies that were read and are not stored yet may take this much memory together, of which bodies over
        /// 64 KiB may take half. Beyond that, ingest answers with status 503. The process needs memory for its
        /// connections besides.
        max_buffered_bytes: usize = key(Size::between(MIB, 64 * GIB), "64MiB"),
        /// Ingest reads and stores up to this many requests at once, and answers a further one with status 503 before
        /// it reads the body.
        max_in_flight: usize = key(Whole::between(1, 100_000), 4096),
        /// While RabbitMQ is unreachable, "spool" keeps webhooks in `data_dir` and forwards them later, and "reject"
        /// answers with status 503.
        on_broker_outage: OnBrokerOutage = key(one_of(), "spool"),
        /// The spool may grow to this size, which counts the bodies and 1 KiB for each event. When the spool is full,
        /// ingest answers with status 503.
        spool_max_bytes: u64 = key(Size::between(KIB, 1024 * GIB), "4GiB"),
        tls: TlsSettings = table(),
    }

    /// The webhook listener uses TLS where `cert` and `key` are given. Without them it serves plain HTTP, for a proxy
    /// in front that ends TLS.
    pub struct TlsSettings {
        /// This PEM file holds the certificate and its chain.
        cert: Option<PathBuf> = optional(FilePath, "/etc/hookline/tls.crt"),
        /// This PEM file holds the certificate's private key.
        key: Option<PathBuf> = optional(FilePath, "/etc/hookline/tls.key"),
    }

    /// The admin listener serves /livez, /readyz and /metrics.
    pub struct AdminSettings {
        /// The admin listener has this address. The default is 127.0.0.1:9464, and 127.0.0.1:9465 for hookline-worker.
        listen: Option<SocketAddr> = optional(Address, "127.0.0.1:9464"),
    }

    /// The broker holds the queues.
    pub struct BrokerSettings {
        /// RabbitMQ is reached at this URL: amqp://, or amqps:// for TLS, with the virtual host at the end (write %2F
        /// for a / in its name). Several URLs are tried in random order. Without a URL, `hookline run` uses the
        /// embedded broker, on one machine.
        url: Vec<Secret> = optional_list(AmqpUrl, "env:BROKER_URL"),
        /// This PEM file holds the certificates that sign the broker's certificate, for amqps://. The system's
        /// certificates are trusted too.
        ca: Option<PathBuf> = optional(FilePath, "/etc/hookline/rabbitmq-ca.pem"),
        /// Workers publish a delivery again from the history when its message may be lost: no attempt has begun, or a
        /// parked delivery is a minute late, and its handler's queue has been empty for this long. This time has to be
        /// longer than workers hold a delivery in memory. An opt-out waits for 45 s at most.
        missing_after: Duration = key(Span::SECONDS, "2m"),
    }

    /// The store holds the history, the effects, the gates and the opt-out ledger.
    pub struct StoreSettings {
        /// PostgreSQL is reached at this URL. Without a URL, the store is an SQLite file under `data_dir`, for one
        /// worker process.
        url: Option<Secret> = optional(PostgresUrl, "env:STORE_URL"),
        /// With PostgreSQL, each process opens at most this many connections. With fewer it works, and is slower.
        connections: usize = key(Whole::between(2, 100), 5),
        /// Payloads and history are kept for this long. Effects are kept for at least 90 days, the opt-out ledger for
        /// ever.
        retention: Duration = key(Span(Duration::from_hours(24)), "30d"),
        /// This secret keys the hash chain of the opt-out ledger, and is the same on all machines. If it is left out, a
        /// key is made once under `data_dir`.
        ledger_key: Option<Secret> = optional(SecretText, "env:LEDGER_KEY"),
    }

    /// Each source is a service that posts webhooks, and has a table of its own.
    pub struct SourceSettings {
        /// The source has this name, which is also the last part of its path: POST /webhooks/{name}.
        name: SourceName = required(Slug, "textus"),
        /// Signatures and payloads have this format.
        kind: SourceKind = key(one_of(), "textus"),
        /// The source signs with one of these secrets. A signature by any of them is accepted, so that a secret can be
        /// replaced without a gap.
        secrets: Vec<Secret> = required_list(SecretText, "env:TEXTUS_WEBHOOK_SECRET"),
    }

    /// The workers call the TextUs API.
    pub struct TextUsSettings {
        /// The API is reached at this URL, which must use https except on loopback.
        // The vendor's documents give this host for every call
        // (<https://apidocs.next.textus.com/overview/making_requests/>).
        base_url: Url = key(BaseUrl, "https://next.textus.com"),
        /// The account has this name: {your-account-name} in the API's paths.
        account: String = optional(Account, "acme"),
        /// Calls to the API carry this token.
        token: Option<Secret> = optional(TokenText, "env:TEXTUS_API_TOKEN"),
        /// The primary account, which holds the integrations, has this name. The default is `account`.
        primary_account: Option<String> = optional(Account, "acme"),
        /// TextUs posts webhooks to this URL, as the integration states it. `hookline webhooks`, `hookline check
        /// --connect` and the workers look for this URL. Without it, they look for the one integration whose URL ends
        /// in /webhooks/{source}.
        webhook_url: Option<Url> = optional(PostUrl(WEBHOOK_URL), WEBHOOK_URL),
        /// A worker checks this often that TextUs sends the event types that the handlers need. "0s" switches the check
        /// off.
        webhook_check_every: Duration = key(Span::ANY, "1h"),
        /// One call may take this long, from connecting to the last byte of the answer.
        timeout: Duration = key(Span::ABOVE_ZERO, "10s"),
        /// This fraction of the quota is reserved for opt-outs. The reserve shrinks to zero over the last fifth of the
        /// window.
        opt_out_reserve: f64 = key(Number { least: 0.0, most: 1.0 }, 0.1),
        /// After status 401 or 403 the destination is paused, and one careful probe is made this often. `hookline
        /// resume textus` ends the pause at once.
        paused_probe: Duration = key(Span::SECONDS, "1m"),
        /// A longer answer counts as an error.
        max_response_bytes: usize = key(Size::between(KIB, 64 * MIB), "1MiB"),
        /// The rate limit's window has this length (TextUs allows 1,000 requests in 5 minutes). The answers' headers
        /// tell when a window ends.
        rate_limit_window: Duration = key(Span::SECONDS, "5m"),
        breaker: BreakerSettings = table(),
    }

    /// Each class of operation (opt-out writes, contact writes, reads) has a breaker. While the calls of a class fail,
    /// they are held back, and one probe is made every `open_min`. After 24 failed probes the interval doubles with
    /// each further one, up to `open_max`.
    pub struct BreakerSettings {
        /// Probes are at least this far apart.
        open_min: Duration = key(Span::ABOVE_ZERO, "5s"),
        /// Probes are at most this far apart.
        open_max: Duration = key(Span::ABOVE_ZERO, "5m"),
    }

    /// Each handler makes the API calls for its event types, and has a table of its own.
    pub struct HandlersSettings {
        record_opt_out: RecordOptOutSettings = table(),
        flag_opt_out: FlagOptOutSettings = table(),
        log_note: LogNoteSettings = table(),
        create_contact: CreateContactSettings = table(),
        sync_contact: SyncContactSettings = table(),
        record_history: RecordHistorySettings = table(),
    }

    /// Every handler has these keys.
    pub struct HandlerBasics {
        /// A disabled handler takes no new events (`hookline events replay` brings them back), and its queued
        /// deliveries wait.
        enabled: bool = key(Flag, true),
        /// Each worker process runs up to this many attempts at once, and holds up to twice as many deliveries in
        /// memory.
        concurrency: u16 = key(Whole::between(1, 1000), 32),
        retry: RetrySettings = table(),
    }

    /// A failed attempt is repeated after a random delay. The upper bound of the delay grows with each attempt.
    pub struct RetrySettings {
        /// The first delay is at most this long.
        initial: Duration = key(Span::ABOVE_ZERO, "5s"),
        /// The upper bound grows by this factor with each attempt.
        multiplier: f64 = key(Number { least: 1.0, most: 1000.0 }, 2.0),
        /// The upper bound never exceeds this.
        max: Duration = key(Span::ABOVE_ZERO, "6h"),
        /// After this many attempts the delivery becomes a dead letter. 0 sets no limit except `max_age`. The handler
        /// record_opt_out allows only 0.
        max_attempts: u32 = key(Whole::between(0, 1_000_000), 0),
        /// A delivery older than this becomes a dead letter.
        max_age: Duration = key(Span::ABOVE_ZERO, "7d"),
    }

    /// This handler sends each opt-out to TextUs with a PUT and keeps the proof.
    pub struct RecordOptOutSettings {
        basics: HandlerBasics = keys_of(opt_out_basics()),
        /// The opt-out is sent to these accounts. The default is `[textus] account`.
        accounts: Vec<String> = optional_list(Account, "acme"),
        /// A text that consists of one of these words alone is an opt-out. Case, spaces around the word and punctuation
        /// after it do not count. START, YES or UNSTOP alone change no state, but the next opt-out is then sent again.
        /// An empty list switches keywords off.
        keywords: Vec<String> = list(KeywordText, &keywords::STOP),
    }

    /// This handler flags an opt-out on the person's record in the system of record.
    pub struct FlagOptOutSettings {
        basics: HandlerBasics = keys_of(HandlerBasics::defaults()),
    }

    /// This handler writes each text message as a note on the person's record.
    pub struct LogNoteSettings {
        basics: HandlerBasics = keys_of(HandlerBasics::defaults()),
        /// Workers call GET /messages/{…} in this form: "contact" asks by contact id, "message" asks by message id,
        /// "auto" finds out which form works, and "none" makes no call and takes the signed payload.
        message_lookup: MessageLookup = key(one_of(), "auto"),
        /// When the system of record does not know the person of a message, "create" creates the person, "skip" skips
        /// the message, and "dead_letter" leaves the decision to an operator. The default is "create" where the system
        /// of record is built in, and "dead_letter" otherwise.
        on_unknown_contact: Option<OnUnknownContact> = optional(one_of(), "create"),
        /// A message may be younger than its webhook. A message that is not found is asked for again for this long, and
        /// then becomes a dead letter.
        not_found_grace: Duration = key(Span::ANY, "30s"),
    }

    /// This handler creates a contact in TextUs.
    pub struct CreateContactSettings {
        basics: HandlerBasics = keys_of(HandlerBasics::defaults()),
        /// The contact is created in these accounts. The default is `[textus] account`.
        accounts: Vec<String> = optional_list(Account, "acme"),
    }

    /// This handler creates the person of a contact in the system of record, or links the person who is already there.
    pub struct SyncContactSettings {
        basics: HandlerBasics = keys_of(HandlerBasics::defaults()),
    }

    /// This handler stores every event in the history. With RabbitMQ this handler cannot be switched off, because an event that
    /// a queue missed is published anew from the history.
    pub struct RecordHistorySettings {
        basics: HandlerBasics = keys_of(HandlerBasics::defaults()),
    }

    /// The sandbox stands in for the TextUs API in `hookline dev`.
    pub struct SandboxSettings {
        /// The sandbox listens on this address. Port 0 takes any free port.
        listen: SocketAddr = key(Address, "127.0.0.1:0"),
    }

    /// People and notes live in the system of record.
    pub struct SystemOfRecordSettings {
        /// "builtin" keeps people and notes in the store, "salesforce" and "hubspot" write them to these systems, and
        /// "http" posts each change as a signed document to a URL of your own.
        kind: SystemOfRecordKind = key(one_of(), "builtin"),
        /// "thread" writes one note for each account, contact's number, business number and day. "message" writes one
        /// note for each text.
        notes: NoteForm = key(one_of(), "thread"),
        /// A thread's note is written at its first text, and then at most this often. The built-in system of record
        /// writes with each text.
        update_every: Duration = key(Span::ANY, "30s"),
        /// "note" adds a text that could not be delivered to the thread's note, and "skip" leaves it out.
        on_failed_message: OnFailedMessage = key(one_of(), "note"),
        /// A thread's day ends at midnight in this time zone, and its note has the times of this zone. Write an IANA
        /// name.
        time_zone: TimeZone = key(ZoneName, "UTC"),
        /// When several people have the number of a text, the first rule that leaves one of them decides: "assigned"
        /// (the contact whom TextUs names), "owner" (a person who has an owner), "newest", "oldest". Without a rule that
        /// decides, the text becomes a dead letter.
        prefer: Vec<Preference> = list(one_of(), &[]),
        /// The owner of a note is the TextUs user who wrote the first outbound text of its thread. An e-mail address that the system
        /// knows needs no line here. Other users are listed by e-mail address or name, with the owner's id in the system:
        /// { "Ana Rivera" = "005Hp00000abcDEF" }.
        authors: BTreeMap<String, String> = map(Filled("the e-mail address or the name of a TextUs user"), OwnerId),
        /// Write true if TextUs's own synchronisation with this system is off, or if doubled notes are wanted.
        acknowledge_vendor_sync: bool = key(Flag, false),
        templates: TemplateSettings = table(),
        hubspot: HubSpotSettings = table(),
        salesforce: SalesforceSettings = table(),
        http: HttpRecordSettings = table(),
    }

    /// The texts of notes come from templates (<https://docs.rs/minijinja/latest/minijinja/syntax/index.html>).
    pub struct TemplateSettings {
        /// This template makes the text of a note. docs/notes.md lists what a template can show.
        note: Option<String> = optional(TemplateText, "{{ day }}"),
        /// These templates fill more fields of a person who is created, by the fields' names in the system of record:
        /// { lifecyclestage = "lead", firstname = "{{ first_name }}" }. docs/notes.md lists what a template can show.
        person: BTreeMap<String, String> = map(FieldName("the name of a field in the system of record"), PersonTemplate),
    }

    /// HubSpot is called with the token of a service key or a private app.
    pub struct HubSpotSettings {
        /// The API is reached at this URL, which must use https except on loopback.
        base_url: Url = key(BaseUrl, "https://api.hubapi.com"),
        /// Calls to the API carry this token.
        token: Option<Secret> = optional(TokenText, "env:HUBSPOT_TOKEN"),
        /// One call may take this long, from connecting to the last byte of the answer.
        timeout: Duration = key(Span::ABOVE_ZERO, "10s"),
        /// A thread is written as a "communication" of the channel SMS, or as a "note".
        object: HubSpotObject = key(one_of(), "communication"),
        /// The unique property of communications or notes that holds a thread's key, where the account allows one.
        key_property: String = key(PropertyName, "textus_thread_key"),
        /// The unique property of contacts that holds the id of the TextUs contact.
        contact_key_property: String = key(PropertyName, "textus_contact_id"),
        /// The property of contacts that says whether a number is opted out. Its dates and its source are in properties
        /// of the same name with _at, and in sms_opted_in_at and sms_opt_out_source.
        opted_out_property: String = key(PropertyName, "sms_opted_out"),
    }

    /// Salesforce is called with the tokens of an external client app: by client credentials, or by a JWT bearer assertion.
    pub struct SalesforceSettings {
        /// The organisation is reached at this URL, its My Domain, which must use https except on loopback.
        base_url: Option<Url> = optional(BaseUrl, "https://acme.my.salesforce.com"),
        /// The consumer key of the external client app.
        client_id: Option<Secret> = optional(TokenText, "env:SALESFORCE_CLIENT_ID"),
        /// The consumer secret of the external client app, for the flow of client credentials.
        client_secret: Option<Secret> = optional(TokenText, "env:SALESFORCE_CLIENT_SECRET"),
        /// The private key whose certificate the external client app has, in PEM, for the flow of a JWT bearer. It takes
        /// the place of `client_secret`.
        jwt_key: Option<Secret> = optional(PrivateKeyText, "env:SALESFORCE_JWT_KEY"),
        /// With a JWT, calls are made as this user.
        username: Option<String> = optional(Filled("the user's name such as \"hookline@acme.example\""), "hookline@acme.example"),
        /// A JWT is made for this login host. The default is test.salesforce.com where `base_url` is that of a
        /// sandbox, and login.salesforce.com otherwise.
        audience: Option<Url> = optional(BaseUrl, "https://login.salesforce.com"),
        /// One call may take this long, from connecting to the last byte of the answer.
        timeout: Duration = key(Span::ABOVE_ZERO, "10s"),
        /// People are looked for among these objects, in this order. The first is created where nobody is found.
        objects: Vec<SalesforceObject> = list(one_of(), &["Contact", "Lead"]),
        /// The field of Task that holds a thread's key: an external id, unique and case-sensitive.
        task_key_field: String = key(FieldName(API_NAME), "TextUs_Thread_Key__c"),
        /// The field of each of `objects` that holds the id of the TextUs contact: an external id, unique and
        /// case-sensitive.
        person_key_field: String = key(FieldName(API_NAME), "TextUs_Contact_Id__c"),
        /// The checkbox of each of `objects` that says whether a number is opted out. Its dates and its source are in
        /// fields of the same name with _At, and in SMS_Opted_In_At__c and SMS_Opt_Out_Source__c.
        opted_out_field: String = key(FieldName(API_NAME), "SMS_Opted_Out__c"),
    }

    /// Each change is posted as a JSON document, signed by Standard Webhooks (<https://www.standardwebhooks.com>).
    pub struct HttpRecordSettings {
        /// The documents are posted to this URL, which must use https except on loopback.
        url: Option<Url> = optional(PostUrl(DOCUMENT_URL), DOCUMENT_URL),
        /// Each secret is "whsec_" and base64 of 24 bytes or more. The first secret signs, and so do the others, so that
        /// a secret can be replaced without a gap.
        secrets: Vec<Secret> = optional_list(SigningSecret, "env:HTTP_RECORD_SECRET"),
        /// One call may take this long, from connecting to the last byte of the answer.
        timeout: Duration = key(Span::ABOVE_ZERO, "10s"),
        /// Write true if documents may go to private addresses, such as those of your own network. Loopback is always allowed where
        /// `url` names it. Each connection is checked, after its name was resolved.
        allow_private_addresses: bool = key(Flag, false),
        /// At most this many documents are posted each second. 0 sets no limit.
        max_per_second: u32 = key(Whole::between(0, 100_000), 0),
    }

    /// The log goes to stderr. RUST_LOG sets its level.
    pub struct LogSettings {
        /// The log is "text" or "json". The default is text on a terminal, and one JSON object per line otherwise.
        format: Option<LogFormat> = optional(one_of(), "json"),
    }
}

choices! {
    /// What ingest does with a webhook while RabbitMQ is unreachable.
    pub enum OnBrokerOutage { Spool = "spool", Reject = "reject", }

    /// The format of a source's signatures and payloads.
    pub enum SourceKind { TextUs = "textus", }

    /// The form of GET /messages/{…}.
    pub enum MessageLookup { Auto = "auto", Contact = "contact", Message = "message", None = "none", }

    /// What happens to a message of a person whom the system of record does not know.
    pub enum OnUnknownContact { DeadLetter = "dead_letter", Create = "create", Skip = "skip", }

    /// The kinds of the system of record.
    pub enum SystemOfRecordKind { Builtin = "builtin", Salesforce = "salesforce", HubSpot = "hubspot", Http = "http", }

    /// What one note holds.
    pub enum NoteForm { Thread = "thread", Message = "message", }

    /// What happens to a text that could not be delivered.
    pub enum OnFailedMessage { Note = "note", Skip = "skip", }

    /// Which of several people with one number gets a note.
    pub enum Preference { Assigned = "assigned", Owner = "owner", Newest = "newest", Oldest = "oldest", }

    /// The object of HubSpot that a thread is written as.
    pub enum HubSpotObject { Communication = "communication", Note = "note", }

    /// An object of Salesforce that a person can be.
    pub enum SalesforceObject { Contact = "Contact", Lead = "Lead", }

    /// The format of the log.
    pub enum LogFormat { Text = "text", Json = "json", }
}

/// An opt-out goes out soon after TextUs takes it again, however long that was away.
fn opt_out_basics() -> HandlerBasics {
    let basics = HandlerBasics::defaults();
    HandlerBasics { retry: RetrySettings { max: Duration::from_mins(5), ..basics.retry }, ..basics }
}
