//! Ingest and worker in one process, as `run` and `dev` start them. Acknowledging webhooks has priority: the worker has
//! its own threads, which yield to ingest's when the machine is busy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_broker::metrics::BrokerMetrics;
use hookline_broker::rabbitmq::{RabbitBroker, RabbitOptions, RabbitRole};
use hookline_broker::{Broker, Publish};
use hookline_common::service::admin::{AdminServer, INGEST_LISTEN};
use hookline_common::service::broker_ca;
use hookline_common::service::reload::LiveSettings;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::service::telemetry::progress::ProgressFeed;
use hookline_common::settings::Settings;
use hookline_ingest::app::IngestApp;
use hookline_ingest::spool::Spooling;
use hookline_worker::service::WorkerService;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// `nice` value of the worker's threads. Behind a webhook a sender is waiting; a delivery waits in a queue.
const WORKER_NICENESS: i32 = 5;
const WORKER_THREADS: usize = 2;
/// Time beyond `shutdown_grace` for releasing deliveries and closing files.
const CLOSING: Duration = Duration::from_secs(3);

/// Ingest and worker with everything open and nothing running yet.
pub(crate) struct AllInOne {
    pub(crate) progress: ProgressFeed,
    /// The broker that ingest publishes to. Closing it also closes the brokers behind it.
    broker: Arc<dyn Publish>,
    ingest: IngestApp,
    admin: AdminServer,
    worker: WorkerService,
    worker_threads: Threads,
    grace: Duration,
}

/// The queues as ingest and the worker see them.
struct Queues {
    ingest: Arc<dyn Publish>,
    worker: Arc<dyn Broker>,
    /// Ingest's broker once more, if the queues are in RabbitMQ.
    spooling: Option<Arc<Spooling>>,
}

impl AllInOne {
    /// Opens the queues, the store and the listeners. `wrap` may put something in front of the embedded broker that
    /// ingest publishes to.
    pub(crate) async fn open(
        settings: &Settings,
        wrap: impl FnOnce(Arc<dyn Publish>) -> Arc<dyn Publish>,
    ) -> anyhow::Result<Self> {
        let sources: Vec<&str> = settings.sources.iter().map(|source| source.name.as_str()).collect();
        let metrics = Arc::new(Metrics::new(Role::Both, &sources));
        let broker_metrics = Arc::new(BrokerMetrics::new(&metrics));
        let progress = ProgressFeed::default();
        let queues = if settings.broker.url.is_empty() {
            Queues::embedded(settings, wrap).await?
        } else {
            Queues::in_rabbitmq(settings, &metrics, broker_metrics).await?
        };
        let worker_threads = Threads::start()?;
        // The worker is opened on its own threads, so that the threads that the store starts yield like the worker's.
        let worker = {
            let (settings, metrics, progress) = (settings.clone(), Arc::clone(&metrics), progress.clone());
            let broker = queues.worker;
            let opening = async move { WorkerService::open(&settings, broker, metrics, progress, None).await };
            worker_threads.spawn(opening).await??
        };
        let ingest = IngestApp::bind(settings, Arc::clone(&queues.ingest), Arc::clone(&metrics), progress.clone())?
            .with_spooling(queues.spooling);
        // Ready means that a webhook can be made durable: what the worker cannot do now waits in its queues.
        let (of_ingest, of_worker) = (ingest.readiness(), worker.standing());
        let readiness = Arc::new(move || of_ingest().and(of_worker().as_degraded()));
        let admin = AdminServer::bind(settings.admin.listen.unwrap_or(INGEST_LISTEN), metrics, readiness)?;
        let grace = settings.shutdown_grace;
        Ok(Self { progress, broker: queues.ingest, ingest, admin, worker, worker_threads, grace })
    }

    /// Applies changed settings from `live` while it runs.
    pub(crate) fn following(self, live: &LiveSettings) -> Self {
        Self { ingest: self.ingest.following(live.clone()), worker: self.worker.following(live.clone()), ..self }
    }

    pub(crate) fn webhook_addr(&self) -> SocketAddr {
        self.ingest.local_addr()
    }

    pub(crate) fn admin_addr(&self) -> SocketAddr {
        self.admin.local_addr()
    }

    /// Serves until `shutdown`, then drains: no new webhooks and no new attempts start, those in flight are finished,
    /// and the other deliveries are released.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { broker, ingest, admin, worker, worker_threads, grace, .. } = self;
        let admin_stop = CancellationToken::new();
        let admin_task = tokio::spawn(admin.run(admin_stop.clone()));
        let stop_all = shutdown.clone();
        let worker_task = {
            let (worker, stop_all) = (worker.run(shutdown.clone()), stop_all.clone());
            worker_threads.spawn(async move {
                let worked = worker.await;
                stop_all.cancel();
                worked
            })
        };
        let served = tokio::spawn(async move {
            let served = ingest.run(stop_all.clone()).await;
            // If one half ends on its own, the other must not go on as if nothing had happened.
            stop_all.cancel();
            served
        });
        shutdown.cancelled().await;
        let drained = tokio::time::timeout(grace + CLOSING, async { (served.await, worker_task.await) }).await;
        if drained.is_err() {
            tracing::warn!("shutdown_grace passed: what still ran is delivered again");
        }
        broker.close().await;
        admin_stop.cancel();
        admin_task.await.context("the admin listener ended on its own")??;
        if let Ok((served, worked)) = drained {
            served.context("ingest ended on its own")??;
            worked.context("the worker ended on its own")??;
        }
        Ok(())
    }
}

impl Queues {
    async fn embedded(
        settings: &Settings,
        wrap: impl FnOnce(Arc<dyn Publish>) -> Arc<dyn Publish>,
    ) -> anyhow::Result<Self> {
        let options = EmbeddedOptions {
            retention: settings.store.retention,
            ..EmbeddedOptions::new(&settings.data_dir, settings.handlers.enabled())
        };
        let worker: Arc<dyn Broker> = EmbeddedBroker::open(options).await?;
        Ok(Self { ingest: wrap(Arc::clone(&worker) as _), worker, spooling: None })
    }

    async fn in_rabbitmq(
        settings: &Settings,
        metrics: &Arc<Metrics>,
        broker_metrics: Arc<BrokerMetrics>,
    ) -> anyhow::Result<Self> {
        let options = RabbitOptions::new(settings, broker_ca(settings)?, RabbitRole::Worker, broker_metrics);
        let worker: Arc<dyn Broker> = RabbitBroker::start(options);
        let spooling = Spooling::open(settings, Arc::clone(&worker) as _, Arc::clone(metrics)).await?;
        Ok(Self { ingest: Arc::clone(&spooling) as _, worker, spooling: Some(spooling) })
    }
}

/// The worker's runtime. Dropping it inside another runtime doesn't block.
struct Threads(Option<Runtime>);

impl Threads {
    fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .thread_name("hookline-worker")
            .on_thread_start(|| {
                // If the call is refused, the worker's threads have the same priority as the others.
                let _ = rustix::process::nice(WORKER_NICENESS);
            })
            .enable_all()
            .build()
            .context("cannot start the worker's threads")?;
        Ok(Self(Some(runtime)))
    }

    fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
        match &self.0 {
            Some(runtime) => runtime.spawn(future),
            None => tokio::spawn(future),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
