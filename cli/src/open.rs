//! Opens what the configuration names: settings, store, broker. The broker is never opened as its owner here, so
//! every command works while `run` is up and while it is down.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use hookline_common::broker::Broker;
use hookline_common::broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_common::settings::{Loaded, Needs, Settings, load};
use hookline_common::telemetry::logging;
use hookline_store::{Location, Store, StoreOptions};

/// The command line or the configuration is wrong, nothing was done: exit code 2.
#[derive(Debug)]
pub(crate) struct WrongUsage(pub(crate) String);

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// An error that ends the command with exit code 2.
pub(crate) fn wrong_usage(text: impl Into<String>) -> anyhow::Error {
    anyhow!(WrongUsage(text.into()))
}

/// Short writes that long work has under way at once: they share commits, and leave room for the workers' own.
pub(crate) const AT_ONCE: usize = 32;

/// Reads the configuration and starts logging. Problems are wrong usage.
pub(crate) fn settings(config: Option<&Path>) -> anyhow::Result<Settings> {
    loaded(config).map(|loaded| loaded.settings)
}

/// As [`settings`], with what could not be read and is not needed by most commands: secrets of ingest and worker.
pub(crate) fn loaded(config: Option<&Path>) -> anyhow::Result<Loaded> {
    let loaded = load(config, Needs::NOTHING).map_err(|problems| wrong_usage(problems.to_string()))?;
    logging::init(loaded.settings.log.format, "warn");
    Ok(loaded)
}

/// Makes the data directory, for this user only, where it is missing.
pub(crate) fn data_dir(settings: &Settings) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(&settings.data_dir).with_context(|| {
        format!("cannot make {}: set data_dir to where this user may write", settings.data_dir.display())
    })
}

pub(crate) async fn store(settings: &Settings) -> anyhow::Result<Store> {
    data_dir(settings)?;
    let ledger_key = match &settings.store.ledger_key {
        Some(key) => key.clone(),
        None => hookline_store::ledger_key_file(&settings.data_dir)
            .with_context(|| format!("cannot read or make the ledger key in {}", settings.data_dir.display()))?,
    };
    let location = match &settings.store.url {
        Some(url) => Location::Url(url.clone()),
        None => Location::Sqlite(settings.data_dir.clone()),
    };
    Store::open(StoreOptions { location, ledger_key })
        .await
        .with_context(|| format!("cannot open the store in {}", settings.data_dir.display()))
}

/// The broker, for reads and short writes beside whoever owns it.
pub(crate) async fn broker(settings: &Settings) -> anyhow::Result<Arc<dyn Broker>> {
    let options = EmbeddedOptions {
        retention: settings.store.retention,
        ..EmbeddedOptions::new(&settings.data_dir, settings.handlers.enabled()).guest()
    };
    Ok(EmbeddedBroker::open(options).await.context("cannot open the queues")?)
}
