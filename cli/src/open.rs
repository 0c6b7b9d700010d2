//! Opens what the configuration names: settings, store, broker. The broker is never opened as its owner here, so
//! every command works while `run` is up and while it is down.

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
use hookline_common::settings::{Loaded, Needs, Settings, TlsSettings, load};

pub use hookline_common::service::{WrongUsage, wrong_usage};
use hookline_store::{Found, Location, Store, StoreOptions};
use hookline_worker::open as stores;
pub use hookline_worker::open::data_dir;
use tempfile::TempDir;

/// Short writes that long work has under way at once: they share commits, and leave room for the workers' own.
pub(crate) const AT_ONCE: usize = 32;

/// All that `hookline dev` keeps, whatever the configuration says: it never meets what `run` works with.
const DEV_DIR: &str = "./.hookline/dev";
/// The account of `dev`'s webhooks, where none is configured.
const DEV_ACCOUNT: &str = "acme";

/// Where a command looks: at what the configuration names, or at what `hookline dev` keeps.
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

/// Reads the configuration and starts logging. Problems are wrong usage.
pub fn settings<'a>(place: impl Into<Place<'a>>) -> anyhow::Result<Settings> {
    loaded(place).map(|loaded| loaded.settings)
}

/// As [`settings`], with what could not be read and is not needed by most commands: secrets of ingest and worker.
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

/// Of the configuration `dev` takes what is no place and no secret: `Needs::DEV` has left out those.
fn as_dev(settings: &mut Settings) {
    settings.data_dir = dev_dir();
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

/// The store that is there. Only who begins to work makes one: a command in the wrong directory would find an empty one
/// whole, and a pause there would hold nothing.
pub(crate) async fn store(settings: &Settings) -> anyhow::Result<Store> {
    store_or_none(settings).await?.ok_or_else(|| nothing_here(settings))
}

/// As [`store`]; `None` where there is none.
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

/// The store, where any other finding is no failure.
pub(crate) async fn store_if_there(settings: &Settings) -> anyhow::Result<Found> {
    stores::store_if_there(settings).await
}

/// The store whose pauses and rate limit bind a command's calls.
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
    /// Where nothing has ever been called no rate limit is known: one that ends with the command.
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

/// The broker, for reads and short writes beside whoever owns it.
pub(crate) async fn broker(settings: &Settings) -> anyhow::Result<Arc<dyn Broker>> {
    match broker_if_there(settings).await? {
        Some(broker) => Ok(broker),
        None => bail!(
            "there are no queues in {}: the first start of `hookline run` makes them",
            settings.data_dir.display()
        ),
    }
}

/// As [`broker`]; `None` where there is no file of the embedded one.
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

/// Where the embedded broker's queues are.
pub(crate) fn queue_files(settings: &Settings) -> EmbeddedOptions {
    EmbeddedOptions {
        retention: settings.store.retention,
        ..EmbeddedOptions::new(&settings.data_dir, settings.handlers.enabled())
    }
}

/// RabbitMQ, connected.
pub(crate) async fn rabbit(settings: &Settings) -> anyhow::Result<Arc<RabbitBroker>> {
    rabbit_within(settings, READY_WITHIN).await
}

/// RabbitMQ, connected `within` that time.
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
