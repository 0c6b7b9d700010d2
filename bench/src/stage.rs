//! The environment for measuring workers: their queues and store, the API they call, and the events that wait when they
//! start.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use hookline_common::event::Event;
use hookline_common::names::HandlerName;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use tempfile::TempDir;

use crate::child::Child;
use crate::options::Options;
use crate::postgresql;
use crate::process::{self, ApiSpec, BrokerSpec, Kind, WorkerSpec};
use crate::rabbitmq::Rabbitmq;

const PUBLISHED_AT_ONCE: usize = 200;

/// The broker and the store of one of our workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) rabbitmq: bool,
    pub(crate) postgresql: bool,
}

impl Backend {
    /// Returns the largest deployment that can be measured. Several workers can share it only with both RabbitMQ and
    /// PostgreSQL.
    pub(crate) fn largest(options: &Options) -> Self {
        let both = !options.broker_urls.is_empty() && options.store_url.is_some();
        Self { rabbitmq: both, postgresql: both }
    }

    pub(crate) const fn is_shared(self) -> bool {
        self.rabbitmq && self.postgresql
    }

    pub(crate) const fn broker(self) -> &'static str {
        if self.rabbitmq { "rabbitmq" } else { "embedded" }
    }

    pub(crate) const fn store(self) -> &'static str {
        if self.postgresql { "postgresql" } else { "sqlite" }
    }
}

/// The resources that the benchmark was given.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) options: &'a Options,
    pub(crate) rabbitmq: Option<&'a Rabbitmq>,
}

impl Stage<'_> {
    /// Empties all queues, and makes the store forget every destination and person.
    pub(crate) async fn begin_anew(&self, backend: Backend) -> anyhow::Result<()> {
        if let Some(rabbitmq) = self.rabbitmq.filter(|_| backend.rabbitmq) {
            rabbitmq.begin_anew().await?;
        }
        match self.options.store_url.as_ref().filter(|_| backend.postgresql) {
            Some(url) => postgresql::forget(url).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn api(&self, spec: &ApiSpec) -> anyhow::Result<Child> {
        Child::start(&self.options.executable, Kind::Api, spec).await
    }

    pub(crate) async fn start(&self, spec: &WorkerSpec) -> anyhow::Result<Child> {
        Child::start(&self.options.executable, Kind::Worker, spec).await
    }

    pub(crate) fn dir(&self) -> anyhow::Result<TempDir> {
        let dir = tempfile::Builder::new().prefix("bench-worker-").tempdir_in(&self.options.data_dir);
        dir.context("making a directory for the benchmark")
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.rabbitmq.map(|rabbitmq| rabbitmq.urls.clone()).unwrap_or_default()
    }

    /// Specifies a worker as it ships, with no API and no account yet.
    pub(crate) fn worker(&self, backend: Backend, dir: &TempDir, handlers: &[HandlerName]) -> WorkerSpec {
        let store_url = self.options.store_url.as_ref().filter(|_| backend.postgresql);
        WorkerSpec {
            broker: BrokerSpec {
                urls: if backend.rabbitmq { self.urls() } else { Vec::new() },
                data_dir: dir.path().to_owned(),
            },
            store_url: store_url.map(|url| url.expose().to_owned()),
            api: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            account: String::new(),
            handlers: handlers.to_vec(),
            concurrency: None,
            timeout: None,
            rate_limit_window: None,
            watched: None,
        }
    }

    /// Publishes events to the queues that such a worker consumes.
    pub(crate) async fn fill(&self, worker: WorkerSpec, events: &[Event]) -> anyhow::Result<()> {
        let settings = process::worker_settings(worker)?;
        let broker = process::open_broker(&settings, &Metrics::new(Role::Worker, &[])).await?;
        let publishes = futures::stream::iter(events.iter().map(|event| broker.publish(event)));
        let published = publishes.buffer_unordered(PUBLISHED_AT_ONCE).try_for_each(|_| async { Ok(()) }).await;
        broker.close().await;
        published.context("filling the queue")
    }
}
