//! `check --connect`: tries each thing that the configuration names separately, so that one failure hides no other.

use std::fs::OpenOptions;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use hookline_broker::Publish as _;
use hookline_broker::rabbitmq::Difference;
use hookline_common::names::Destination;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::settings::{HttpRecordSettings, OnBrokerOutage, Settings, SystemOfRecordKind};
use hookline_store::{Found, Store};
use hookline_worker::calls::log::CallLog;
use hookline_worker::destinations::error::DestinationError;
use hookline_worker::gate::Gate;
use hookline_worker::open as stores;
use hookline_worker::records::SystemOfRecord as _;
use hookline_worker::records::http::HttpRecords;
use hookline_worker::textus::client::TextUs;
use hookline_worker::textus::limits;
use serde_json::{Value, json};

use super::{hubspot, salesforce};
use crate::open::StoreForCalls;
use crate::{open, webhooks};

/// The result of one check.
pub(super) struct Finding {
    pub(super) what: &'static str,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    Ok(String),
    /// The check failed; `remedy` says what to do.
    Failed {
        why: String,
        remedy: String,
    },
    /// The check could not be made, for the given reason.
    NotChecked(String),
}

impl Finding {
    pub(super) fn is_failure(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { .. })
    }

    pub(super) fn line(&self) -> String {
        match &self.outcome {
            Outcome::Ok(found) => format!("ok           {}: {found}\n", self.what),
            Outcome::Failed { why, remedy } => format!("failed       {}: {why}; {remedy}\n", self.what),
            Outcome::NotChecked(why) => format!("not checked  {}: {why}\n", self.what),
        }
    }

    /// Returns the JSON document; `ok` is `null` if the check could not be made.
    pub(super) fn document(&self) -> Value {
        let (ok, detail, remedy) = match &self.outcome {
            Outcome::Ok(found) => (Some(true), found.as_str(), None),
            Outcome::Failed { why, remedy } => (Some(false), why.as_str(), Some(remedy)),
            Outcome::NotChecked(why) => (None, why.as_str(), None),
        };
        json!({ "check": self.what, "ok": ok, "detail": detail, "remedy": remedy })
    }
}

/// `creates` makes what is missing in the system of record.
pub(super) async fn try_all(settings: &Settings, creates: bool) -> Vec<Finding> {
    let mut findings =
        vec![finding("data directory", data_dir(settings), "let this user write there, or set data_dir")];
    findings.extend(spool(settings));
    findings.extend(broker(settings).await);
    let (store, tried) = match store(settings).await {
        Ok((store, words)) => (Some(store), Ok(words)),
        Err(error) => (None, Err(error)),
    };
    let answers = tried.is_ok();
    findings.push(finding("store", tried, store_remedy(settings)));
    if answers {
        findings.extend(connections(settings).await);
    }
    let store_for_calls = match store {
        Some(Found::Store(store)) => Ok(Some(StoreForCalls::from(store))),
        Some(Found::Nothing) => StoreForCalls::new().await.map(Some),
        Some(Found::Older) | None => Ok(None),
    };
    let what = "system of record";
    let mut receiver = Finding { what, outcome: Outcome::NotChecked(NO_STORE.to_owned()) };
    match store_for_calls {
        Ok(store) => {
            let store = store.as_ref().map(|store| &store.store);
            findings.push(token(settings, store).await);
            findings.extend(subscription(settings, store).await);
            if let (SystemOfRecordKind::Http, Some(store)) = (settings.system_of_record.kind, store) {
                let tried = ask_receiver(&settings.system_of_record.http, store).await;
                receiver = finding(what, tried, RECEIVER_REMEDY);
            }
        }
        Err(error) => findings.push(finding("TextUs token", Err(error), "let this user write where TMPDIR names")),
    }
    match settings.system_of_record.kind {
        SystemOfRecordKind::Builtin => {
            findings.push(Finding { what, outcome: Outcome::Ok("built in, part of the store".to_owned()) });
        }
        SystemOfRecordKind::HubSpot => findings.extend(hubspot::try_all(settings, creates).await),
        SystemOfRecordKind::Salesforce => findings.extend(salesforce::try_all(settings).await),
        SystemOfRecordKind::Http => findings.push(receiver),
    }
    findings
}

fn finding(what: &'static str, tried: anyhow::Result<String>, remedy: &str) -> Finding {
    let outcome = match tried {
        Ok(found) => Outcome::Ok(found),
        Err(error) => Outcome::Failed { why: format!("{error:#}"), remedy: remedy.to_owned() },
    };
    Finding { what, outcome }
}

/// Creates and removes a file in the data directory. If the directory doesn't exist yet, its nearest existing ancestor
/// is tried, in which the first start would create it.
fn data_dir(settings: &Settings) -> anyhow::Result<String> {
    let dir = std::path::absolute(&settings.data_dir)?;
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(&dir);
    tempfile::NamedTempFile::new_in(there).with_context(|| format!("cannot write in {}", there.display()))?;
    let shown = settings.data_dir.display();
    Ok(if there == dir { format!("{shown} is writable") } else { format!("{shown} can be made, at the first start") })
}

async fn broker(settings: &Settings) -> Vec<Finding> {
    if settings.broker.url.is_empty() {
        return vec![finding("queues", queues(settings).await, "let this user read and write broker.db in data_dir")];
    }
    let broker = match open::rabbit(settings).await {
        Ok(broker) => broker,
        Err(error) => {
            let unknown = Outcome::NotChecked("RabbitMQ cannot be asked".to_owned());
            let remedy = "check [broker] url, the user's permissions on ^hookline\\. and that RabbitMQ runs";
            return vec![finding("broker", Err(error), remedy), Finding { what: "topology", outcome: unknown }];
        }
    };
    let differences = broker.differences().await;
    broker.close().await;
    let mut findings = vec![finding("broker", Ok("RabbitMQ answers".to_owned()), "")];
    match differences {
        Err(error) => findings.push(finding("topology", Err(error.into()), "ask again")),
        Ok(differences) if differences.is_empty() => {
            findings.push(finding("topology", Ok("every exchange and queue is there".to_owned()), ""));
        }
        // Before the first start nothing exists yet, and ingest and workers declare the topology. `hookline topology`
        // is the strict check.
        Ok(differences) => findings.extend(differences.iter().map(|difference| {
            let outcome = match difference {
                Difference::Missing { object } => {
                    Outcome::Ok(format!("{object} is not there; the services declare it"))
                }
                Difference::LeftOver { object } => {
                    Outcome::Ok(format!("{object} is left over; {}", difference.remedy()))
                }
                Difference::Other { object, words } | Difference::Unknown { object, words } => {
                    Outcome::Failed { why: format!("{object}: {words}"), remedy: difference.remedy().to_owned() }
                }
            };
            Finding { what: "topology", outcome }
        })),
    }
    findings
}

async fn queues(settings: &Settings) -> anyhow::Result<String> {
    let Some(broker) = open::broker_if_there(settings).await? else {
        return Ok("none yet; the first start makes them".to_owned());
    };
    let queues = broker.queues().await?;
    broker.close().await;
    let waiting: u64 = queues.iter().map(|depth| depth.messages).sum();
    Ok(format!("{} queues, {waiting} messages", queues.len()))
}

fn store_remedy(settings: &Settings) -> &'static str {
    if settings.store.url.is_some() {
        "check [store] url, the user's rights on its database and that PostgreSQL runs"
    } else {
        "see docs, or restore store.db and ledger.key from one backup"
    }
}

async fn store(settings: &Settings) -> anyhow::Result<(Found, String)> {
    let found = open::store_if_there(settings).await?;
    let words = match &found {
        Found::Store(store) => {
            let accepted = store.counts().await?.iter().map(|counts| counts.accepted).max().unwrap_or(0);
            format!("opens; {accepted} events at most in any handler's account")
        }
        Found::Nothing => "none yet; the first start makes it".to_owned(),
        Found::Older => "of an earlier version; the next start brings it up to date".to_owned(),
    };
    Ok((found, words))
}

/// Compares what one process opens with what PostgreSQL allows; `None` for SQLite.
async fn connections(settings: &Settings) -> Option<Finding> {
    let opens = settings.store.connections;
    let tried = match hookline_store::connections_allowed(&stores::location(settings)).await {
        Ok(None) => return None,
        Ok(Some(allowed)) if usize::try_from(allowed).is_ok_and(|allowed| allowed >= opens) => {
            Ok(format!("{allowed} are allowed in all; each worker and each running command opens up to {opens}"))
        }
        Ok(Some(allowed)) => Err(anyhow!("only {allowed} are allowed in all, and each worker opens up to {opens}")),
        Err(error) => Err(error.into()),
    };
    let remedy = "lower [store] connections, or raise the limit of the role (ALTER ROLE … CONNECTION LIMIT), the database or \
                  the server (max_connections)";
    Some(finding("store connections", tried, remedy))
}

/// The spool is where ingest runs, which need not be here. `None` if the configuration has none.
fn spool(settings: &Settings) -> Option<Finding> {
    if settings.broker.url.is_empty() || settings.ingest.on_broker_outage != OnBrokerOutage::Spool {
        return None;
    }
    let file = settings.data_dir.join("spool.db");
    let what = "spool";
    if !file.exists() {
        let why = format!(
            "no ingest has one in {}; it is in the data_dir of the machine or container where ingest runs: type \
             `hookline check --connect` there",
            settings.data_dir.display()
        );
        return Some(Finding { what, outcome: Outcome::NotChecked(why) });
    }
    let opened = OpenOptions::new().read(true).write(true).open(&file);
    let tried = opened
        .map(|_| format!("{} can be written", file.display()))
        .with_context(|| format!("{} cannot be written", file.display()));
    Some(finding(what, tried, "let the user that ingest runs as write there"))
}

const NO_TOKEN: &str = "none is configured, and no enabled handler needs one";
const NO_STORE: &str = "calls need the store, for the rate limit";

/// Returns one finding for each problem that keeps webhooks from arriving.
async fn subscription(settings: &Settings, store: Option<&Store>) -> Vec<Finding> {
    let what = "webhook subscription";
    let one = |outcome| vec![Finding { what, outcome }];
    let account = settings.textus.primary_account();
    if settings.textus.token.is_none() || account.is_empty() {
        return one(Outcome::NotChecked("[textus] names no token or no account".to_owned()));
    }
    let Some(store) = store else { return one(Outcome::NotChecked(NO_STORE.to_owned())) };
    let found = match webhooks::subscription(settings, store.clone()).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return one(Outcome::NotChecked(format!("{error}; {}", error.remedy()))),
        Err(error) => return one(Outcome::NotChecked(format!("{error:#}"))),
    };
    let failures: Vec<Finding> = found
        .findings
        .iter()
        .filter(|finding| finding.is_failure)
        .map(|finding| {
            let outcome = Outcome::Failed { why: finding.what.clone(), remedy: finding.remedy.clone() };
            Finding { what, outcome }
        })
        .collect();
    if failures.is_empty() {
        one(Outcome::Ok("TextUs sends what the enabled handlers need".to_owned()))
    } else {
        failures
    }
}

const RECEIVER_REMEDY: &str =
    "check [system_of_record.http] url and secrets, and that the receiver runs and has the same secret";

/// Asks the receiver about a number that nobody has, signed as every document is.
async fn ask_receiver(settings: &HttpRecordSettings, store: &Store) -> anyhow::Result<String> {
    let metrics = Arc::new(Metrics::new(Role::Worker, &[]));
    let records = HttpRecords::new(settings, store, &metrics).context("cannot build the client")?;
    let gate = records.gate().context("the connector has no gate")?;
    // As with TextUs: a pause binds this call too, and the workers learn from its answer unless it refuses.
    gate.refresh().await?;
    let tried = records.check(&CallLog::default()).await;
    if !matches!(tried, Err(DestinationError::CredentialsRefused { .. } | DestinationError::GateClosed { .. })) {
        gate.exchange().await?;
    }
    tried?;
    Ok("the receiver takes documents".to_owned())
}

async fn token(settings: &Settings, store: Option<&Store>) -> Finding {
    let what = "TextUs token";
    let not_checked = |why: &str| Finding { what, outcome: Outcome::NotChecked(why.to_owned()) };
    if settings.textus.token.is_none() {
        return not_checked(NO_TOKEN);
    }
    let Some(store) = store else { return not_checked(NO_STORE) };
    let tried = ask_textus(settings, store.clone()).await;
    finding(what, tried, "check [textus] base_url, account and token; make a new token in TextUs if it was revoked")
}

async fn ask_textus(settings: &Settings, store: Store) -> anyhow::Result<String> {
    let metrics = Arc::new(Metrics::new(Role::Worker, &[]));
    let rules = limits::rules(&settings.textus);
    let gate = Arc::new(Gate::new(Destination::TextUs, store, Arc::clone(&metrics), rules));
    // A `Retry-After` and an operator's pause bind this call too.
    gate.refresh().await?;
    let textus = TextUs::new(&settings.textus, Arc::clone(&gate), metrics).context("cannot build the client")?;
    let textus = textus.only_looking();
    let tried = textus.check_token(&CallLog::default()).await;
    // The workers should also learn the rate limit from the answer, and that the credentials are accepted again.
    // Refused credentials are not passed on, because running workers may hold other credentials. Nothing from an answer
    // of the wrong API (the sandbox's instead of the real one's, or the reverse) is passed on either; that is one cause
    // of `GateClosed`.
    if !matches!(tried, Err(DestinationError::CredentialsRefused { .. } | DestinationError::GateClosed { .. })) {
        gate.exchange().await?;
    }
    tried?;
    Ok(format!("{} takes it", settings.textus.base_url))
}
