//! Checks that involve more than one key: keys must not contradict each other, and the keys that a program needs must
//! be there.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::time::Duration;

use super::visit::Visit;
use super::{
    HttpRecordSettings, Needs, Preference, RetrySettings, Role, SalesforceSettings, Settings, SystemOfRecordKind,
};
use crate::certificates::{self, CertificateError, CertificateFile};
use crate::keywords;
use crate::names::HandlerName;
use crate::private_address::{is_private, literal, names_loopback};
use crate::time::Timestamp;

pub(super) fn check(v: &mut Visit<'_, '_>, s: &Settings, needs: Needs) {
    listeners(v, s, needs);
    tls(v);
    buffered(v, s);
    sources(v, s);
    webhook_url(v, s);
    for handler in HandlerName::ALL {
        retry(v, *handler, &s.handlers.basics(*handler).retry);
    }
    accounts(v, "handlers.record_opt_out.accounts", &s.handlers.record_opt_out.accounts);
    stop_words(v, "handlers.record_opt_out.keywords", &s.handlers.record_opt_out.keywords);
    accounts(v, "handlers.create_contact.accounts", &s.handlers.create_contact.accounts);
    let breaker = &s.textus.breaker;
    ordered(v, "textus.breaker.open_min", "textus.breaker.open_max", breaker.open_min <= breaker.open_max);
    if needs.ingest {
        ingest(v, s);
    }
    if needs.worker {
        worker(v, s);
        system_of_record(v, s);
    }
    distributed(v, s, needs.role);
    history(v, s, needs.role);
    if needs.certificates {
        certificates(v, s, needs);
    }
}

/// Requires that the key `smaller` is not above the key `larger`. The problem is reported where `larger` is given, else
/// where `smaller` is.
fn ordered(v: &mut Visit<'_, '_>, smaller: &str, larger: &str, holds: bool) {
    if holds || v.is_bad(smaller) || v.is_bad(larger) {
        return;
    }
    let path = if v.is_given(larger) { larger } else { smaller };
    v.problem(path, format!("{larger} is below {smaller}"), "raise the one or lower the other");
}

fn listeners(v: &mut Visit<'_, '_>, s: &Settings, needs: Needs) {
    let taken = |port: u16| port != 0;
    if matches!(needs.role, Role::Run | Role::Dev)
        && s.admin.listen == Some(s.ingest.listen)
        && taken(s.ingest.listen.port())
    {
        v.problem("admin.listen", "admin.listen is ingest.listen too", "give each its own port");
    }
}

fn tls(v: &mut Visit<'_, '_>) {
    let (cert, key) = ("ingest.tls.cert", "ingest.tls.key");
    for (given, missing) in [(cert, key), (key, cert)] {
        if v.is_given(given) && !v.is_given(missing) {
            v.problem(missing, format!("{missing} is missing"), format!("add it, or take {given} out"));
        }
    }
}

/// A listener's certificate that ends sooner than this is a warning.
const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

fn certificates(v: &mut Visit<'_, '_>, s: &Settings, needs: Needs) {
    if let Some(ca) = s.broker.ca.as_ref().filter(|_| !v.is_bad("broker.ca"))
        && let Err(error) = certificates::authorities(ca)
    {
        v.problem("broker.ca", format!("broker.ca: {}", error.what), error.remedy);
    }
    let Some((cert, key)) = s.ingest.tls.files().filter(|_| needs.ingest) else { return };
    let made = match certificates::server_certificate(cert, key) {
        Ok(made) => made,
        Err(CertificateError { file, what, remedy }) => {
            let path = match file {
                CertificateFile::Certificate => "ingest.tls.cert",
                CertificateFile::Key => "ingest.tls.key",
            };
            return v.problem(path, format!("{path}: {what}"), remedy);
        }
    };
    let (path, now) = ("ingest.tls.cert", Timestamp::now());
    let renew = "renew it: a running ingest reads the files again by itself";
    if made.not_after <= now {
        v.problem(path, format!("{path}: {} has expired on {}", cert.display(), made.not_after), renew);
    } else if made.not_before > now {
        let what = format!("{path}: {} counts only from {} on", cert.display(), made.not_before);
        v.problem(path, what, "look at this machine's clock, or give one that counts now");
    } else if made.not_after.since(now) < ENDS_SOON {
        v.warning(path, format!("{path}: {} expires on {}", cert.display(), made.not_after), renew);
    }
}

/// Requires room for one body of the largest size: bodies over 64 KiB have half of the buffered bytes.
fn buffered(v: &mut Visit<'_, '_>, s: &Settings) {
    let (path, body) = ("ingest.max_buffered_bytes", "ingest.max_body_bytes");
    if v.is_bad(path) || v.is_bad(body) || s.ingest.max_buffered_bytes / 2 >= s.ingest.max_body_bytes {
        return;
    }
    let at = if v.is_given(path) { path } else { body };
    v.problem(
        at,
        format!("{path} is below twice {body}, so a body of that size could never be read"),
        "raise the one or lower the other",
    );
}

fn sources(v: &mut Visit<'_, '_>, s: &Settings) {
    let mut names = BTreeMap::new();
    for (index, source) in s.sources.iter().enumerate() {
        let name = format!("sources.{index}.name");
        if !v.is_bad(&name) {
            match names.entry(&source.name) {
                btree_map::Entry::Vacant(entry) => {
                    entry.insert(index);
                }
                btree_map::Entry::Occupied(first) => {
                    let what = format!(
                        "{name} is {:?}, which sources.{} is called already",
                        source.name.as_str(),
                        first.get()
                    );
                    v.problem(&name, what, "give each source a name of its own");
                }
            }
        }
    }
}

/// Requires that `webhook_url` ends in the path of a source: TextUs would post where no source listens.
fn webhook_url(v: &mut Visit<'_, '_>, s: &Settings) {
    let path = "textus.webhook_url";
    let Some(url) = s.textus.webhook_url.as_ref().filter(|_| !v.is_bad(path)) else { return };
    if s.sources.is_empty() || s.sources.iter().any(|source| source.takes_posts_to(url)) {
        return;
    }
    let names: Vec<String> = s.sources.iter().map(|source| format!("/webhooks/{}", source.name)).collect();
    v.problem(path, format!("{path} ends in no source's path"), format!("let it end in {}", names.join(" or ")));
}

fn retry(v: &mut Visit<'_, '_>, handler: HandlerName, retry: &RetrySettings) {
    let path = |key: &str| format!("handlers.{handler}.retry.{key}");
    ordered(v, &path("initial"), &path("max"), retry.initial <= retry.max);
    if handler == HandlerName::RecordOptOut && retry.max_attempts != 0 {
        let path = path("max_attempts");
        v.problem(
            &path,
            format!("{path} is {}, but an opt-out is limited by age only", retry.max_attempts),
            format!("take it out; handlers.{handler}.retry.max_age is the limit"),
        );
    }
}

fn accounts(v: &mut Visit<'_, '_>, path: &str, accounts: &[String]) {
    for (index, account) in accounts.iter().enumerate() {
        if accounts[..index].contains(account) {
            v.problem(path, format!("{path} names {account:?} twice"), "name each account once");
        }
    }
}

fn stop_words(v: &mut Visit<'_, '_>, path: &str, words: &[String]) {
    let alike: Vec<String> = words.iter().map(|word| keywords::compared(word)).collect();
    for (index, (word, compared)) in words.iter().zip(&alike).enumerate() {
        if keywords::START.contains(&compared.as_str()) {
            v.problem(path, format!("{path} has {word:?}, which asks for texts again"), "take it out");
        } else if alike[..index].contains(compared) {
            let remedy = "name each once: case, spaces around it and punctuation behind it do not count";
            v.problem(path, format!("{path} names {word:?} twice"), remedy);
        }
    }
}

fn ingest(v: &mut Visit<'_, '_>, s: &Settings) {
    if s.sources.is_empty() && !v.is_given("sources") {
        v.problem(
            "sources",
            "there is no source, so no webhook could be accepted",
            "add [[sources]] with name = \"textus\" and secrets = [\"env:NAME\"]",
        );
    }
}

fn worker(v: &mut Visit<'_, '_>, s: &Settings) {
    let users: Vec<_> = s.handlers.enabled().into_iter().filter(|handler| calls_textus(s, *handler)).collect();
    let Some(user) = users.first() else { return };
    for (path, example) in
        [("textus.account", "account = \"acme\""), ("textus.token", "token = \"env:TEXTUS_API_TOKEN\"")]
    {
        if !v.is_given(path) {
            v.problem(
                path,
                format!("{path} is missing, and the handler {user} needs it"),
                format!("add {example} below [textus], or switch off what calls TextUs"),
            );
        }
    }
}

/// Requires what the configured system of record is reached with.
fn system_of_record(v: &mut Visit<'_, '_>, s: &Settings) {
    let needed: &[(&str, &str)] = match s.system_of_record.kind {
        SystemOfRecordKind::Builtin => &[],
        SystemOfRecordKind::HubSpot => &[("hubspot.token", "token = \"env:HUBSPOT_TOKEN\"")],
        SystemOfRecordKind::Salesforce => &[
            ("salesforce.base_url", "base_url = \"https://acme.my.salesforce.com\""),
            ("salesforce.client_id", "client_id = \"env:SALESFORCE_CLIENT_ID\""),
        ],
        SystemOfRecordKind::Http => &[
            ("http.url", "url = \"https://crm.example.com/hookline\""),
            ("http.secrets", "secrets = [\"env:HTTP_RECORD_SECRET\"]"),
        ],
    };
    for (key, example) in needed {
        let path = format!("system_of_record.{key}");
        if !v.is_given(&path) {
            let (table, _) = path.rsplit_once('.').unwrap_or_default();
            v.problem(
                &path,
                format!("{path} is missing, and the system of record needs it"),
                format!("add {example} below [{table}]"),
            );
        }
    }
    unused_system(v, s.system_of_record.kind);
    authors(v, s);
    preferences(v, &s.system_of_record.prefer);
    match s.system_of_record.kind {
        SystemOfRecordKind::Builtin | SystemOfRecordKind::HubSpot => {}
        SystemOfRecordKind::Salesforce => salesforce(v, &s.system_of_record.salesforce),
        SystemOfRecordKind::Http => private_address(v, &s.system_of_record.http),
    }
}

/// Warns of a system whose table is filled in, but which nothing writes to.
fn unused_system(v: &mut Visit<'_, '_>, kind: SystemOfRecordKind) {
    const GIVEN: [&str; 3] = ["hubspot.token", "salesforce.client_id", "http.url"];
    // Whoever has filled in several tables switches between them, and knows about `kind`.
    if kind != SystemOfRecordKind::Builtin || v.is_given("system_of_record.kind") {
        return;
    }
    for key in GIVEN {
        let path = format!("system_of_record.{key}");
        let (system, _) = key.split_once('.').unwrap_or_default();
        if v.is_given(&path) {
            v.warning(
                &path,
                format!(
                    "{path} is given, but the system of record is the built-in one, so nothing is written to {system}"
                ),
                format!("write kind = \"{system}\" below [system_of_record], or take the key out"),
            );
        }
    }
}

/// Warns of owners that no note can have.
fn authors(v: &mut Visit<'_, '_>, s: &Settings) {
    let path = "system_of_record.authors";
    let has_owners = match s.system_of_record.kind {
        SystemOfRecordKind::HubSpot | SystemOfRecordKind::Salesforce => true,
        SystemOfRecordKind::Builtin | SystemOfRecordKind::Http => false,
    };
    if !has_owners && !s.system_of_record.authors.is_empty() {
        v.warning(path, format!("{path} is given, and notes of this system of record have no owners"), "take it out");
    }
}

fn preferences(v: &mut Visit<'_, '_>, prefer: &[Preference]) {
    let path = "system_of_record.prefer";
    let is_repeated = prefer.iter().enumerate().any(|(place, rule)| prefer[..place].contains(rule));
    if is_repeated && !v.is_bad(path) {
        v.problem(path, format!("{path} names a rule twice"), "name each rule once, in the order in which they decide");
    }
}

/// Requires the keys of exactly one way to get a token, and an object to look for people in.
fn salesforce(v: &mut Visit<'_, '_>, s: &SalesforceSettings) {
    const TABLE: &str = "system_of_record.salesforce";
    let [secret, key, user] = ["client_secret", "jwt_key", "username"].map(|name| format!("{TABLE}.{name}"));
    match (v.is_given(&secret), v.is_given(&key)) {
        (false, false) => v.problem(
            &secret,
            format!("{secret} is missing, and the system of record needs it"),
            format!(
                "add client_secret = \"env:SALESFORCE_CLIENT_SECRET\" below [{TABLE}], or jwt_key and username for a JWT bearer"
            ),
        ),
        (true, true) => v.problem(
            &key,
            format!("{key} and {secret} are both given, and a token is got in one way"),
            "take one of them out",
        ),
        (false, true) if !v.is_given(&user) => v.problem(
            &user,
            format!("{user} is missing, and a JWT bearer calls as this user"),
            format!("add username = \"hookline@acme.example\" below [{TABLE}]"),
        ),
        (true, false) | (false, true) => {}
    }
    let objects = format!("{TABLE}.objects");
    if s.objects.is_empty() && !v.is_bad(&objects) {
        v.problem(
            &objects,
            format!("{objects} is empty, so nobody is looked for"),
            "write [\"Contact\", \"Lead\"] or one of them",
        );
    }
}

/// Refuses a URL whose host is a private address. What a name leads to is looked at on each connection.
fn private_address(v: &mut Visit<'_, '_>, s: &HttpRecordSettings) {
    let path = "system_of_record.http.url";
    let Some(url) = s.url.as_ref().filter(|_| !s.allow_private_addresses && !v.is_bad(path)) else { return };
    if !names_loopback(url) && literal(url).is_some_and(is_private) {
        v.problem(
            path,
            format!("{path} has a private address, which could lead into a network that nobody meant"),
            "write the receiver's public name, or allow_private_addresses = true if the address is meant",
        );
    }
}

fn calls_textus(s: &Settings, handler: HandlerName) -> bool {
    match handler {
        HandlerName::RecordOptOut | HandlerName::CreateContact => true,
        HandlerName::LogNote => s.handlers.log_note.message_lookup != super::MessageLookup::None,
        HandlerName::FlagOptOut | HandlerName::SyncContact | HandlerName::RecordHistory => false,
    }
}

/// Requires RabbitMQ if ingest and workers are separate processes, because both must reach the broker. They also
/// share the store, but a single worker may keep it in SQLite. Only the store shows whether there is a second worker,
/// so `hookline-worker` checks that itself.
fn distributed(v: &mut Visit<'_, '_>, s: &Settings, role: Role) {
    let program = match role {
        Role::Command | Role::Run | Role::Dev => return,
        Role::Ingest => "hookline-ingest",
        Role::Worker => "hookline-worker",
    };
    if s.broker.url.is_empty() && !v.is_given("broker.url") {
        let what = format!("broker.url is missing, and {program} needs RabbitMQ");
        v.problem("broker.url", what, "set it, or use `hookline run`, which brings its own");
    }
}

/// On RabbitMQ the history is what finds an event that a handler's queue missed. `dev` never uses RabbitMQ.
fn history(v: &mut Visit<'_, '_>, s: &Settings, role: Role) {
    let path = "handlers.record_history.enabled";
    if role != Role::Dev && v.is_given("broker.url") && !s.handlers.record_history.basics.enabled {
        v.problem(
            path,
            "handlers.record_history is switched off, and the queues are in RabbitMQ, where the history is what publishes \
             anew an event that a queue missed",
            "switch it on, or leave out broker.url: the embedded broker does without",
        );
    }
}
