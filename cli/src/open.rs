//! Opens what the configuration names: settings, store, broker. The broker is never opened as its owner here, so
//! every command works while `run` is up and while it is down.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hookline_common::broker::Broker;
use hookline_common::broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_common::broker::rabbitmq::{RabbitBroker, RabbitRole};
use hookline_common::service::rabbit_options;
use hookline_common::settings::{Loaded, Needs, Settings, load};
use hookline_common::telemetry::logging;
use hookline_common::telemetry::metrics::{Metrics, Role};

pub(crate) use hookline_common::service::{WrongUsage, wrong_usage};
pub(crate) use hookline_worker::open::{data_dir, store};

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

/// How long a command waits for RabbitMQ.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// The broker, for reads and short writes beside whoever owns it.
pub(crate) async fn broker(settings: &Settings) -> anyhow::Result<Arc<dyn Broker>> {
    if !settings.broker.url.is_empty() {
        return Ok(rabbit(settings).await?);
    }
    Ok(EmbeddedBroker::open(queue_files(settings).guest()).await.context("cannot open the queues")?)
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
    let broker = RabbitBroker::start(rabbit_options(settings, RabbitRole::Command, Arc::clone(&metrics.broker))?);
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
