//! Every key: its name, what it is for, what it can be, and the field that holds it. This is the one place where a
//! key is written; reading, the example, the JSON schema and the masked summary follow.

use std::time::Duration;

use super::kinds::{
    Account, Address, AmqpUrl, BaseUrl, Choice, FilePath, Flag, KeywordText, Number, PostgresUrl, SecretText, Size,
    Slug, Span, WebhookUrl, Whole,
};
use super::visit::Visit;
use super::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const ON_BROKER_OUTAGE: Choice<OnBrokerOutage> =
    Choice { options: &[("spool", OnBrokerOutage::Spool), ("reject", OnBrokerOutage::Reject)], not_yet: &[] };
const SOURCE_KIND: Choice<SourceKind> = Choice { options: &[("textus", SourceKind::TextUs)], not_yet: &[] };
const MESSAGE_LOOKUP: Choice<MessageLookup> = Choice {
    options: &[
        ("auto", MessageLookup::Auto),
        ("contact", MessageLookup::Contact),
        ("message", MessageLookup::Message),
        ("none", MessageLookup::None),
    ],
    not_yet: &[],
};
const ON_UNKNOWN_CONTACT: Choice<OnUnknownContact> = Choice {
    options: &[
        ("dead_letter", OnUnknownContact::DeadLetter),
        ("create", OnUnknownContact::Create),
        ("skip", OnUnknownContact::Skip),
    ],
    not_yet: &[],
};
const SYSTEM_OF_RECORD_KIND: Choice<SystemOfRecordKind> =
    Choice { options: &[("builtin", SystemOfRecordKind::Builtin)], not_yet: &["salesforce", "hubspot", "http"] };
const LOG_FORMAT: Choice<LogFormat> =
    Choice { options: &[("text", LogFormat::Text), ("json", LogFormat::Json)], not_yet: &[] };

pub(super) fn walk(v: &mut Visit<'_, '_>, s: &mut Settings) {
    v.key(
        "data_dir",
        "Where the embedded broker, SQLite and the spool live; `hookline dev` has ./.hookline/dev instead.",
        FilePath,
        &mut s.data_dir,
    );
    v.key(
        "shutdown_grace",
        "After SIGTERM or SIGINT: how long what is in flight may take to finish.",
        Span::ANY,
        &mut s.shutdown_grace,
    );
    v.table("ingest", "Where webhooks come in.", |v| ingest(v, &mut s.ingest));
    v.table("admin", "/livez, /readyz and /metrics.", |v| {
        v.optional(
            "listen",
            "Left out: 127.0.0.1:9464, and 127.0.0.1:9465 for hookline-worker.",
            Address,
            "\"127.0.0.1:9464\"",
            &mut s.admin.listen,
        );
    });
    v.table("console", "Pages for people, and the same facts as JSON: checked, but not served in this version.", |v| {
        v.key("listen", "Anything but loopback needs the token.", Address, &mut s.console.listen);
        v.optional("token", "What requests have to show.", SecretText, "\"env:CONSOLE_TOKEN\"", &mut s.console.token);
    });
    v.table("broker", "The queues.", |v| {
        v.list(
            "url",
            "RabbitMQ: amqps:// for TLS, the virtual host at the end (/ is %2F). A list is tried in random order. Left out: \
             the embedded broker, for `hookline run` on one machine.",
            AmqpUrl,
            "[\"env:BROKER_URL\"]",
            &mut s.broker.url,
        );
        v.optional(
            "ca",
            "With amqps://: certificates that sign the broker's, as PEM, beside the system's.",
            FilePath,
            "\"/etc/hookline/rabbitmq-ca.pem\"",
            &mut s.broker.ca,
        );
        v.key(
            "missing_after",
            "A delivery that nobody began, or that is a minute late after it was parked, while its handler's queue was found \
             empty for so long, is published anew from the history: its message may have been lost. Longer than workers keep \
             deliveries in hand; opt-outs wait no longer than 45 s.",
            Span::SECONDS,
            &mut s.broker.missing_after,
        );
    });
    v.table("store", "What was done, what is known, and the opt-out ledger.", |v| store(v, &mut s.store));
    v.tables("sources", "Who posts webhooks, one table each.", blank_source, &mut s.sources, source);
    v.table("textus", "The TextUs API.", |v| textus(v, &mut s.textus));
    v.table("handlers", "What is done about an event: one table each.", |v| handlers(v, &mut s.handlers));
    v.table("sandbox", "What stands in for TextUs in `hookline dev`.", |v| {
        v.key("listen", "Port 0: any free one.", Address, &mut s.sandbox.listen);
    });
    v.table("system_of_record", "Where people and notes live.", |v| {
        v.key("kind", "\"builtin\": in the store.", SYSTEM_OF_RECORD_KIND, &mut s.system_of_record.kind);
    });
    v.table("log", "What is written to stderr; RUST_LOG says how much.", |v| {
        v.optional(
            "format",
            "\"text\" or \"json\". Left out: text on a terminal, one JSON object a line otherwise.",
            LOG_FORMAT,
            "\"json\"",
            &mut s.log.format,
        );
    });
}

fn ingest(v: &mut Visit<'_, '_>, s: &mut IngestSettings) {
    v.key("listen", "POST /webhooks/{source} is here; port 0 means any free one.", Address, &mut s.listen);
    v.key("max_body_bytes", "A longer body is refused with 413.", Size::between(KIB, 8 * MIB), &mut s.max_body_bytes);
    v.key(
        "request_timeout",
        "From a request's head to the last byte of its body.",
        Span::ABOVE_ZERO,
        &mut s.request_timeout,
    );
    v.key(
        "min_body_rate",
        "Bytes a second: a body that comes slower, after the first second, is given up early. 0: no such limit.",
        Size::between(0, GIB),
        &mut s.min_body_rate,
    );
    v.key(
        "max_in_flight",
        "Requests being read or stored at once; the next one is answered 503 before its body is read.",
        Whole::between(1, 100_000),
        &mut s.max_in_flight,
    );
    v.key(
        "on_broker_outage",
        "While RabbitMQ is away: \"spool\" keeps webhooks in data_dir and forwards them later, \"reject\" answers 503.",
        ON_BROKER_OUTAGE,
        &mut s.on_broker_outage,
    );
    v.key(
        "spool_max_bytes",
        "A spool that has grown this large takes no more: 503. Counted are the bodies and 1 KiB for each event.",
        Size::between(KIB, 1024 * GIB),
        &mut s.spool_max_bytes,
    );
    tls(v, &mut s.tls);
}

/// Both files or neither.
fn tls(v: &mut Visit<'_, '_>, s: &mut Option<TlsSettings>) {
    v.table("tls", "Left out: plain HTTP, for a proxy in front that ends TLS.", |v| {
        let (mut cert, mut key) = s.take().map_or((None, None), |tls| (Some(tls.cert), Some(tls.key)));
        v.optional("cert", "The certificate and its chain, as PEM.", FilePath, "\"/etc/hookline/tls.crt\"", &mut cert);
        v.optional("key", "The certificate's private key, as PEM.", FilePath, "\"/etc/hookline/tls.key\"", &mut key);
        *s = cert.zip(key).map(|(cert, key)| TlsSettings { cert, key });
    });
}

fn store(v: &mut Visit<'_, '_>, s: &mut StoreSettings) {
    v.optional(
        "url",
        "PostgreSQL. Left out: SQLite under data_dir, for one worker process.",
        PostgresUrl,
        "\"env:STORE_URL\"",
        &mut s.url,
    );
    v.key(
        "retention",
        "Payloads and history are kept this long, effects 90 days at least, the opt-out ledger for ever.",
        Span(Duration::from_hours(24)),
        &mut s.retention,
    );
    v.optional(
        "ledger_key",
        "Keys the chain of the opt-out ledger; one for all machines. Left out: made once under data_dir.",
        SecretText,
        "\"env:LEDGER_KEY\"",
        &mut s.ledger_key,
    );
}

fn blank_source() -> SourceSettings {
    let name = SourceName::new("textus").expect("a legal name");
    SourceSettings { name, kind: SourceKind::TextUs, secrets: Vec::new() }
}

fn source(v: &mut Visit<'_, '_>, s: &mut SourceSettings) {
    v.required("name", "The last part of the path: POST /webhooks/{name}.", Slug, "\"textus\"", &mut s.name);
    v.key("kind", "How its signatures and payloads are read.", SOURCE_KIND, &mut s.kind);
    v.list(
        "secrets",
        "What the source signs with. Several: all are accepted, so that one can be replaced without a gap.",
        SecretText,
        "[\"env:TEXTUS_WEBHOOK_SECRET\"]",
        &mut s.secrets,
    );
}

fn textus(v: &mut Visit<'_, '_>, s: &mut TextUsSettings) {
    v.key("base_url", "https; plain http only on loopback.", BaseUrl, &mut s.base_url);
    let mut account = Some(std::mem::take(&mut s.account)).filter(|account| !account.is_empty());
    v.optional("account", "{your-account-name} in the API's paths.", Account, "\"acme\"", &mut account);
    s.account = account.unwrap_or_default();
    v.optional("token", "The API token.", SecretText, "\"env:TEXTUS_API_TOKEN\"", &mut s.token);
    v.optional(
        "primary_account",
        "The primary account, which has the integrations. Left out: account.",
        Account,
        "\"acme\"",
        &mut s.primary_account,
    );
    v.optional(
        "webhook_url",
        "Where TextUs reaches this endpoint, as the integration has it: `hookline webhooks`, `check --connect` and the \
         workers look for it. Left out: the one integration whose URL ends in /webhooks/{source}.",
        WebhookUrl,
        "\"https://hooks.example.com/webhooks/textus\"",
        &mut s.webhook_url,
    );
    v.key(
        "webhook_check_every",
        "How often a worker looks whether TextUs sends what the handlers need. \"0s\": never.",
        Span::ANY,
        &mut s.webhook_check_every,
    );
    v.key("timeout", "Of one call, from connecting to the last byte.", Span::ABOVE_ZERO, &mut s.timeout);
    v.key(
        "opt_out_reserve",
        "Share of the quota kept for opt-outs; it shrinks to zero over the last fifth of the window.",
        Number { least: 0.0, most: 1.0 },
        &mut s.opt_out_reserve,
    );
    v.key(
        "paused_probe",
        "After 401 or 403: one careful probe this often, besides `hookline resume textus`.",
        Span(Duration::from_secs(1)),
        &mut s.paused_probe,
    );
    v.key(
        "max_response_bytes",
        "A longer answer is an error.",
        Size::between(KIB, 64 * MIB),
        &mut s.max_response_bytes,
    );
    v.key(
        "rate_limit_window",
        "Length of the window of the rate limit (TextUs: 1,000 requests in 5 minutes); its end comes from the headers.",
        Span(Duration::from_secs(1)),
        &mut s.rate_limit_window,
    );
    v.table(
        "breaker",
        "One breaker for each class of operation (opt-out writes, contact writes, reads): while its calls fail, one is made \
         every open_min to see; after 24 of them each time twice as long.",
        |v| {
            v.key("open_min", "How long calls are held back at first.", Span::ABOVE_ZERO, &mut s.breaker.open_min);
            v.key("open_max", "How long at most.", Span::ABOVE_ZERO, &mut s.breaker.open_max);
        },
    );
}

fn handlers(v: &mut Visit<'_, '_>, s: &mut HandlersSettings) {
    v.table("record_opt_out", "An opt-out is PUT to TextUs, and proof of it kept.", |v| {
        basics(v, &mut s.record_opt_out.basics);
        v.list(
            "accounts",
            "Where the opt-out is PUT. Left out: [textus] account.",
            Account,
            "[\"acme\"]",
            &mut s.record_opt_out.accounts,
        );
        v.list_or_none(
            "keywords",
            "A text that is one of these alone is an opt-out, whatever its case; spaces around it and punctuation behind it \
             do not count. START, YES or UNSTOP alone change no state, and let the next opt-out be PUT again. []: off.",
            KeywordText,
            "[\"STOP\", \"STOPALL\", \"UNSUBSCRIBE\", \"CANCEL\", \"END\", \"QUIT\", \"REVOKE\", \"OPTOUT\", \"OPT OUT\"]",
            &mut s.record_opt_out.keywords,
        );
        retry(
            v,
            "What failed is tried again, for max_age and no number of attempts: max_attempts stays 0 for opt-outs.",
            &mut s.record_opt_out.basics.retry,
        );
    });
    v.table("flag_opt_out", "An opt-out is flagged on the person's record.", |v| {
        basics(v, &mut s.flag_opt_out.basics);
        retry(v, RETRY, &mut s.flag_opt_out.basics.retry);
    });
    v.table("log_note", "A text message is noted on the person's record.", |v| log_note(v, &mut s.log_note));
    v.table("create_contact", "A contact is created in TextUs.", |v| {
        basics(v, &mut s.create_contact.basics);
        v.list(
            "accounts",
            "Where the contact is created. Left out: [textus] account.",
            Account,
            "[\"acme\"]",
            &mut s.create_contact.accounts,
        );
        retry(v, RETRY, &mut s.create_contact.basics.retry);
    });
    v.table("sync_contact", "A person is created or linked in the system of record.", |v| {
        basics(v, &mut s.sync_contact.basics);
        retry(v, RETRY, &mut s.sync_contact.basics.retry);
    });
    v.table("record_history", "Every event is kept in the history. With RabbitMQ it cannot be switched off: an event that a queue missed is published \
         anew from there.", |v| {
        basics(v, &mut s.record_history.basics);
        retry(v, RETRY, &mut s.record_history.basics.retry);
    });
}

fn log_note(v: &mut Visit<'_, '_>, s: &mut LogNoteSettings) {
    basics(v, &mut s.basics);
    v.key(
        "message_lookup",
        "How GET /messages/{…} is asked: by \"contact\" id, by \"message\" id, \"auto\" finds out which form works, \
         \"none\" makes no call and takes the signed payload.",
        MESSAGE_LOOKUP,
        &mut s.message_lookup,
    );
    v.key(
        "on_unknown_contact",
        "A message of somebody the system of record does not know: \"create\" the person, \"skip\" the message, or \
         leave it to a person as a \"dead_letter\". The default is \"create\" with the built-in system of record, \
         \"dead_letter\" with any other.",
        ON_UNKNOWN_CONTACT,
        &mut s.on_unknown_contact,
    );
    v.key(
        "not_found_grace",
        "A message may be younger than its webhook: asked for again this long, then a dead letter.",
        Span::ANY,
        &mut s.not_found_grace,
    );
    retry(v, RETRY, &mut s.basics.retry);
}

fn basics(v: &mut Visit<'_, '_>, s: &mut HandlerBasics) {
    v.key(
        "enabled",
        "Off: new events pass it by (`hookline events replay` brings them back); what is queued waits.",
        Flag,
        &mut s.enabled,
    );
    v.key(
        "concurrency",
        "Calls in flight in each worker process; twice as many deliveries are in hand.",
        Whole::between(1, 1000),
        &mut s.concurrency,
    );
}

const RETRY: &str = "What failed is tried again after a random delay, up to a bound that grows with each attempt.";

fn retry(v: &mut Visit<'_, '_>, doc: &'static str, s: &mut RetrySettings) {
    v.table("retry", doc, |v| {
        v.key("initial", "The bound of the first delay.", Span::ABOVE_ZERO, &mut s.initial);
        v.key("multiplier", "The bound grows by this factor.", Number { least: 1.0, most: 1000.0 }, &mut s.multiplier);
        v.key("max", "The bound never exceeds this.", Span::ABOVE_ZERO, &mut s.max);
        v.key(
            "max_attempts",
            "After so many attempts: a dead letter. 0: no limit but max_age.",
            Whole::between(0, 1_000_000),
            &mut s.max_attempts,
        );
        v.key("max_age", "A delivery older than this is a dead letter.", Span::ABOVE_ZERO, &mut s.max_age);
    });
}
