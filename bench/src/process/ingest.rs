//! `hookline-ingest` as it ships: the same app on the same broker, with its admin listener.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use hookline_common::broker::Broker;
use hookline_common::broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_common::event::SourceName;
use hookline_common::names::HandlerName;
use hookline_common::secret::Secret;
use hookline_common::settings::{Settings, SourceKind, SourceSettings};
use hookline_common::telemetry::journey::Journey;
use hookline_common::telemetry::metrics::{Metrics, Role};
use hookline_ingest::admin::AdminServer;
use hookline_ingest::app::IngestApp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{BrokerSpec, Questions, ready};
use crate::samples::SOURCE;

#[derive(Serialize, Deserialize)]
pub(crate) struct IngestSpec {
    pub(crate) broker: BrokerSpec,
    pub(crate) secret: String,
}

pub(super) async fn run(questions: &mut Questions) -> anyhow::Result<()> {
    let spec: IngestSpec = questions.spec().await?;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut settings = Settings::defaults();
    settings.ingest.listen = any_port;
    settings.sources = vec![SourceSettings {
        name: SourceName::new(SOURCE).context("a source's name")?,
        kind: SourceKind::TextUs,
        secrets: vec![Secret::new(spec.secret)],
    }];
    let metrics = Arc::new(Metrics::new(Role::Ingest, &[SOURCE]));
    let broker = open_broker(&spec.broker, HandlerName::ALL.to_vec()).await?;
    let app = IngestApp::bind(&settings, Arc::clone(&broker), Arc::clone(&metrics), Journey::default())?;
    let admin = AdminServer::bind(any_port, metrics, app.readiness())?;
    let listening = app.local_addr();

    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(app.run(shutdown.clone()));
    let admin = tokio::spawn(admin.run(shutdown.clone()));
    ready(Some(listening))?;
    questions.end().await;
    shutdown.cancel();
    serving.await.context("ingest ended on its own")??;
    admin.await.context("the admin listener ended on its own")??;
    broker.close().await;
    Ok(())
}

/// Opens a broker as a process of ours does.
pub(crate) async fn open_broker(spec: &BrokerSpec, handlers: Vec<HandlerName>) -> anyhow::Result<Arc<dyn Broker>> {
    match spec {
        BrokerSpec::Embedded { data_dir } => Ok(EmbeddedBroker::open(EmbeddedOptions::new(data_dir, handlers)).await?),
        BrokerSpec::Rabbitmq { .. } => anyhow::bail!("this version has no broker on RabbitMQ"),
    }
}
