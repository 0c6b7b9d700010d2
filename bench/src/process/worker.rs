//! `hookline-worker` as it ships, with one handler enabled: one call an event.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use hookline_common::names::HandlerName;
use hookline_common::secret::Secret;
use hookline_common::settings::Settings;
use hookline_common::telemetry::journey::Journey;
use hookline_common::telemetry::metrics::{Metrics, Role};
use hookline_ingest::admin::AdminServer;
use hookline_store::{Location, Store, StoreOptions};
use hookline_worker::app::WorkerApp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{BrokerSpec, Questions, open_broker, ready};

#[derive(Serialize, Deserialize)]
pub(crate) struct WorkerSpec {
    pub(crate) broker: BrokerSpec,
    pub(crate) store: StoreSpec,
    /// Of the API that is called.
    pub(crate) api: SocketAddr,
    /// A run of its own: opt-outs of an earlier one were put already.
    pub(crate) account: String,
    pub(crate) handler: String,
    pub(crate) concurrency: u16,
}

/// Where the store is. A URL may hold a password: stdin only, and no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreSpec {
    Sqlite { data_dir: PathBuf },
    Postgres { url: String },
}

impl StoreSpec {
    pub(crate) async fn open(&self) -> anyhow::Result<Store> {
        let location = match self {
            Self::Sqlite { data_dir } => Location::Sqlite(data_dir.clone()),
            Self::Postgres { url } => Location::Url(Secret::new(url.as_str())),
        };
        let ledger_key = Secret::new("the benchmark's ledger proves nothing");
        Ok(Store::open(StoreOptions { location, ledger_key }).await?)
    }
}

pub(super) async fn run(questions: &mut Questions) -> anyhow::Result<()> {
    let spec: WorkerSpec = questions.spec().await?;
    let handler: HandlerName = spec.handler.parse()?;
    let mut settings = Settings::defaults();
    settings.textus.base_url = format!("http://{}", spec.api).parse().context("the API's address")?;
    settings.textus.account.clone_from(&spec.account);
    settings.textus.token = Some(Secret::new("synthetic-token-of-the-benchmark"));
    settings.handlers.record_opt_out.accounts = vec![spec.account];
    settings.handlers.record_opt_out.basics.concurrency = spec.concurrency;
    let metrics = Arc::new(Metrics::new(Role::Worker, &[]));
    let broker = open_broker(&spec.broker, vec![handler]).await?;
    let store = spec.store.open().await?;
    let app = WorkerApp::new(
        &settings,
        Arc::clone(&broker),
        store.clone(),
        Arc::clone(&metrics),
        Journey::default(),
        Some(&[handler]),
    )?;
    let readiness = app.readiness();
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let admin = AdminServer::bind(any_port, metrics, Arc::new(move || readiness.reasons()))?;

    let shutdown = CancellationToken::new();
    let admin = tokio::spawn(admin.run(shutdown.clone()));
    let working = tokio::spawn(app.run(shutdown.clone()));
    ready(None)?;
    questions.end().await;
    shutdown.cancel();
    working.await.context("the worker ended on its own")??;
    admin.await.context("the admin listener ended on its own")??;
    broker.close().await;
    store.close().await;
    Ok(())
}
