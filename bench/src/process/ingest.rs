//! `hookline-ingest` as it ships: the same app on the same broker, with its spool and its admin listener. With the
//! embedded broker, which only `hookline run` uses, the worker of `hookline run` is left out.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hookline_broker::Publish;
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_broker::metrics::BrokerMetrics;
use hookline_broker::rabbitmq::{RabbitBroker, RabbitOptions, RabbitRole};
use hookline_common::event::SourceName;
use hookline_common::secret::Secret;
use hookline_common::service::admin::AdminServer;
use hookline_common::service::broker_ca;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::service::telemetry::progress::ProgressFeed;
use hookline_common::settings::{SourceKind, SourceSettings};
use hookline_ingest::app::IngestApp;
use hookline_ingest::spool::Spooling;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{BrokerSpec, Questions, ready};
use crate::samples::SOURCE;

/// Maximum start-up time. Declaring a new virtual host's topology takes a moment.
pub(super) const TO_BE_READY: Duration = Duration::from_secs(20);

#[derive(Serialize, Deserialize)]
pub(crate) struct IngestSpec {
    pub(crate) broker: BrokerSpec,
    pub(crate) secret: String,
}

pub(super) async fn run(questions: &mut Questions) -> anyhow::Result<()> {
    let spec: IngestSpec = questions.spec().await?;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut settings = spec.broker.settings();
    settings.ingest.listen = any_port;
    settings.sources = vec![SourceSettings {
        name: SourceName::new(SOURCE).context("a source's name")?,
        kind: SourceKind::TextUs,
        secrets: vec![Secret::new(spec.secret)],
    }];
    let metrics = Arc::new(Metrics::new(Role::Ingest, &[SOURCE]));
    let (broker, spooling): (Arc<dyn Publish>, _) = if settings.broker.url.is_empty() {
        let options = EmbeddedOptions::new(&settings.data_dir, settings.handlers.enabled());
        (EmbeddedBroker::open(options).await?, None)
    } else {
        let options = RabbitOptions::new(
            &settings,
            broker_ca(&settings)?,
            RabbitRole::Ingest,
            Arc::new(BrokerMetrics::new(&metrics)),
        );
        let rabbit = RabbitBroker::start(options);
        rabbit.wait_ready(TO_BE_READY).await?;
        let spooling = Spooling::open(&settings, rabbit, Arc::clone(&metrics)).await?;
        (Arc::clone(&spooling) as _, Some(spooling))
    };
    let app = IngestApp::bind(&settings, Arc::clone(&broker), Arc::clone(&metrics), ProgressFeed::default())?
        .with_spooling(spooling);
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
