//! Opens the settings, the store and the broker that the configuration names. Commands never open the embedded broker
//! as its owner, so every command works both while `run` is up and while it is down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_broker::metrics::BrokerMetrics;
use hookline_broker::rabbitmq::{RabbitBroker, RabbitOptions, RabbitRole};
use hookline_broker::{Broker, Publish as _};
use hookline_common::service::broker_ca;
use hookline_common::service::telemetry::logging;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::settings::{Loaded, Needs, Settings, SystemOfRecordKind, TlsSettings, load};

pub use hookline_common::service::{WrongUsage, wrong_usage};
use hookline_store::{Found, Location, Store, StoreOptions};
use hookline_worker::open as stores;
pub use hookline_worker::open::data_dir;
use tempfile::TempDir;

use crate::dev_file::{DevFile, RecordStandIn};

/// Number of short writes that a long command has in flight at once. They share commits and leave room for the workers'
/// writes.
pub(crate) const AT_ONCE: usize = 32;

/// Directory for all data of `hookline dev`, whatever the configuration says, so that `dev` never touches the data of
/// `run`.
const DEV_DIR: &str = "./.hookline/dev";
/// The account of `dev`'s webhooks if none is configured.
const DEV_ACCOUNT: &str = "acme";

/// The data that a command works on: that of the configuration, or that of `hookline dev`.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub config: Option<&'a Path>,
    pub dev: bool,
}

impl<'a> From<Option<&'a Path>> for Place<'a> {
    fn from(config: Option<&'a Path>) -> Self {
        Self { config, dev: false }
    }
}

/// Reads the configuration and starts logging.
///
/// # Errors
/// Problems of the configuration are reported as wrong usage.
pub fn settings<'a>(place: impl Into<Place<'a>>) -> anyhow::Result<Settings> {
    loaded(place).map(|loaded| loaded.settings)
}

/// Like [`settings`], but also returns warnings about unreadable values that most commands don't need: secrets of
/// ingest and worker.
pub(crate) fn loaded<'a>(place: impl Into<Place<'a>>) -> anyhow::Result<Loaded> {
    let Place { config, dev } = place.into();
    let needs = if dev { Needs::DEV } else { Needs::NOTHING };
    let mut loaded = load(config, needs).map_err(|problems| wrong_usage(problems.to_string()))?;
    logging::init(loaded.settings.log.format, "warn");
    if dev {
        as_dev(&mut loaded.settings);
    }
    Ok(loaded)
}

/// Replaces settings that `dev` doesn't take from the configuration: the places where data and files are. `Needs::DEV`
/// has already left out the secrets.
fn as_dev(settings: &mut Settings) {
    settings.data_dir = dev_dir();
    // A file that cannot be read is reported by the commands that need it.
    let (textus, records) = match DevFile::of_running().ok().flatten() {
        Some(dev) => (dev.textus, dev.system_of_record),
        None => (None, None),
    };
    let are_configured = textus.is_none_or(|textus| textus.configure(settings).is_ok())
        && RecordStandIn::configure(records, settings).is_ok();
    if !are_configured {
        settings.system_of_record.kind = SystemOfRecordKind::Builtin;
    }
    settings.ingest.tls = TlsSettings { cert: None, key: None };
    if settings.textus.account.is_empty() {
        DEV_ACCOUNT.clone_into(&mut settings.textus.account);
    }
    let accounts = &mut settings.handlers.record_opt_out.accounts;
    if accounts.is_empty() {
        accounts.push(settings.textus.account.clone());
    }
}

pub(crate) fn dev_dir() -> PathBuf {
    PathBuf::from(DEV_DIR)
}

/// Opens the existing store. Only services create a store; otherwise a command in the wrong directory would report an
/// empty store as whole, and a pause there would have no effect.
pub(crate) async fn store(settings: &Settings) -> anyhow::Result<Store> {
    store_or_none(settings).await?.ok_or_else(|| nothing_here(settings))
}

/// Like [`store`], but returns `None` if there is no store.
pub(crate) async fn store_or_none(settings: &Settings) -> anyhow::Result<Option<Store>> {
    match store_if_there(settings).await? {
        Found::Store(store) => Ok(Some(store)),
        Found::Nothing => Ok(None),
        Found::Older => bail!(
            "the store {} is of an earlier version, and this command changes none; the next start of `hookline run` or \
             `hookline-worker` of this version brings it up to date",
            stores::place(settings)
        ),
    }
}

/// Opens the store if it exists; any other finding is returned, not treated as a failure.
pub(crate) async fn store_if_there(settings: &Settings) -> anyhow::Result<Found> {
    stores::store_if_there(settings).await
}

/// A store whose pauses and rate limit bind a command's calls.
pub(crate) struct StoreForCalls {
    pub(crate) store: Store,
    _dir: Option<TempDir>,
}

impl From<Store> for StoreForCalls {
    fn from(store: Store) -> Self {
        Self { store, _dir: None }
    }
}

impl StoreForCalls {
    /// Creates a temporary store that ends with the command. It is for a data directory without a store: no call was
    /// ever made there, so no rate limit is known.
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a directory for files that are needed for a moment")?;
        let ledger_key = hookline_store::ledger_key_file(dir.path())?;
        let store = Store::open(StoreOptions { location: Location::Sqlite(dir.path().to_owned()), ledger_key }).await;
        Ok(Self { store: store.context("cannot open a store for this command")?, _dir: Some(dir) })
    }
}

pub(crate) fn nothing_here(settings: &Settings) -> anyhow::Error {
    let beside = if settings.data_dir != dev_dir() && dev_dir().join("store.db").exists() {
        format!("; what `hookline dev` keeps is in {DEV_DIR}: add --dev")
    } else {
        "; look whether this is the directory and --config that Hookline runs with".to_owned()
    };
    anyhow!("there is nothing here: no store {} (the first start makes it){beside}", stores::place(settings))
}

/// How long a command waits for RabbitMQ.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Opens the broker for reads and short writes, beside the process that owns it.
pub(crate) async fn broker(settings: &Settings) -> anyhow::Result<Arc<dyn Broker>> {
    match broker_if_there(settings).await? {
        Some(broker) => Ok(broker),
        None => bail!(
            "there are no queues in {}: the first start of `hookline run` makes them",
            settings.data_dir.display()
        ),
    }
}

/// Like [`broker`], but returns `None` if the embedded broker's file doesn't exist.
pub(crate) async fn broker_if_there(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Broker>>> {
    if !settings.broker.url.is_empty() {
        return Ok(Some(rabbit(settings).await?));
    }
    let files = queue_files(settings);
    if !files.exists() {
        return Ok(None);
    }
    Ok(Some(EmbeddedBroker::open(files.guest()).await.context("cannot open the queues")?))
}

/// Returns where the embedded broker's queues are.
pub(crate) fn queue_files(settings: &Settings) -> EmbeddedOptions {
    EmbeddedOptions {
        retention: settings.store.retention,
        ..EmbeddedOptions::new(&settings.data_dir, settings.handlers.enabled())
    }
}

/// Connects to RabbitMQ.
pub(crate) async fn rabbit(settings: &Settings) -> anyhow::Result<Arc<RabbitBroker>> {
    rabbit_within(settings, READY_WITHIN).await
}

/// Connects to RabbitMQ, and fails if that takes longer than `within`.
pub(crate) async fn rabbit_within(settings: &Settings, within: Duration) -> anyhow::Result<Arc<RabbitBroker>> {
    let metrics = Metrics::new(Role::Worker, &[]);
    let broker = RabbitBroker::start(RabbitOptions::new(
        settings,
        broker_ca(settings)?,
        RabbitRole::Command,
        Arc::new(BrokerMetrics::new(&metrics)),
    ));
    if let Err(error) = broker.wait_ready(within).await {
        broker.close().await;
        return Err(error).with_context(|| {
            format!(
                "RabbitMQ cannot be asked (waited {} s); check [broker] url and that it runs: `hookline check --connect`",
                within.as_secs()
            )
        });
    }
    Ok(broker)
}
