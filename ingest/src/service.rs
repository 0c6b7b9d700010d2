//! Runs `hookline-ingest` from its settings until it stops.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use hookline_broker::Publish;
use hookline_broker::metrics::BrokerMetrics;
use hookline_broker::rabbitmq::{RabbitBroker, RabbitOptions, RabbitRole};
use hookline_common::service::admin::{AdminServer, INGEST_LISTEN};
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::service::telemetry::progress::ProgressFeed;
use hookline_common::service::{broker_ca, reload, shutdown};
use hookline_common::settings::{Needs, Settings};
use tokio_util::sync::CancellationToken;

use crate::app::IngestApp;
use crate::spool::Spooling;

/// Receives webhooks until a signal arrives, then finishes the requests in flight.
///
/// # Errors
/// Fails when something cannot be opened or when durable storage failed for good.
pub async fn run(config: Option<&Path>, settings: Settings) -> anyhow::Result<()> {
    let live = reload::follow(config, Needs::INGEST, &settings)?;
    let shutdown = shutdown::on_signal()?;
    let sources: Vec<&str> = settings.sources.iter().map(|source| source.name.as_str()).collect();
    let metrics = Arc::new(Metrics::new(Role::Ingest, &sources));
    // RabbitMQ may be unreachable at the start as at any other time; the spool stores events meanwhile.
    let rabbit = RabbitBroker::start(RabbitOptions::new(
        &settings,
        broker_ca(&settings)?,
        RabbitRole::Ingest,
        Arc::new(BrokerMetrics::new(&metrics)),
    ));
    let spooling = Spooling::open(&settings, rabbit, Arc::clone(&metrics)).await?;
    let broker: Arc<dyn Publish> = Arc::clone(&spooling) as _;
    let ingest = IngestApp::bind(&settings, Arc::clone(&broker), Arc::clone(&metrics), ProgressFeed::default())?
        .with_spooling(Some(spooling))
        .following(live);
    let admin = AdminServer::bind(settings.admin.listen.unwrap_or(INGEST_LISTEN), metrics, ingest.readiness())?;
    tracing::info!(
        webhooks = %ingest.local_addr(),
        admin = %admin.local_addr(),
        data_dir = %settings.data_dir.display(),
        "hookline.started"
    );
    let admin_stop = CancellationToken::new();
    let admin_task = tokio::spawn(admin.run(admin_stop.clone()));
    // `run` enforces `shutdown_grace` itself.
    let served = ingest.run(shutdown).await;
    broker.close().await;
    admin_stop.cancel();
    admin_task.await.context("the admin listener ended on its own")??;
    served?;
    tracing::info!("hookline.stopped");
    Ok(())
}
