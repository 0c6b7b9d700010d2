//! Ingest and worker under one roof: what `run` and `dev` both start. The webhooks' acknowledgements come first: the
//! worker has threads of its own, which give way to the others when the machine is busy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hookline_common::admin::{AdminServer, INGEST_LISTEN, Readiness, Standing};
use hookline_common::broker::Broker;
use hookline_common::broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_common::settings::Settings;
use hookline_common::telemetry::journey::Journey;
use hookline_common::telemetry::metrics::{Metrics, Role};
use hookline_ingest::app::IngestApp;
use hookline_store::Store;
use hookline_worker::app::WorkerApp;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::open;

/// How much the worker's threads give way (`nice`): a webhook has a sender who waits, a delivery has a queue.
const WORKER_NICENESS: i32 = 5;
const WORKER_THREADS: usize = 2;
/// Beyond `shutdown_grace`: for giving back and closing files.
const CLOSING: Duration = Duration::from_secs(3);

/// Everything open, nothing running yet.
pub(crate) struct House {
    pub(crate) store: Store,
    pub(crate) journey: Journey,
    broker: Arc<dyn Broker>,
    ingest: IngestApp,
    admin: AdminServer,
    worker: WorkerApp,
    worker_threads: Threads,
    grace: Duration,
}

impl House {
    /// Opens the embedded broker as its owner, the store and the listeners. `wrap` may put something in front of the
    /// broker that ingest publishes to.
    pub(crate) async fn open(
        settings: &Settings,
        wrap: impl FnOnce(Arc<dyn Broker>) -> Arc<dyn Broker>,
    ) -> anyhow::Result<Self> {
        let options = EmbeddedOptions {
            retention: settings.store.retention,
            ..EmbeddedOptions::new(&settings.data_dir, settings.handlers.enabled())
        };
        let broker: Arc<dyn Broker> = EmbeddedBroker::open(options).await?;
        let worker_threads = Threads::start()?;
        // Opened there, so that the store's own threads are the worker's too.
        let store = {
            let settings = settings.clone();
            worker_threads.spawn(async move { open::store(&settings).await }).await??
        };
        // The owner's role of the broker says that no other worker is at this store: what one that was killed had
        // claimed is free to be looked at, without waiting for its lease.
        store.end_claims_of_the_dead().await?;
        let sources: Vec<&str> = settings.sources.iter().map(|source| source.name.as_str()).collect();
        let metrics = Arc::new(Metrics::new(Role::Both, &sources));
        let journey = Journey::default();
        let ingest = IngestApp::bind(settings, wrap(Arc::clone(&broker)), Arc::clone(&metrics), journey.clone())?;
        let worker =
            WorkerApp::new(settings, Arc::clone(&broker), store.clone(), Arc::clone(&metrics), journey.clone(), None)?;
        let readiness = both(ingest.readiness(), &worker);
        let admin = AdminServer::bind(settings.admin.listen.unwrap_or(INGEST_LISTEN), metrics, readiness)?;
        Ok(Self { store, journey, broker, ingest, admin, worker, worker_threads, grace: settings.shutdown_grace })
    }

    pub(crate) fn webhook_addr(&self) -> SocketAddr {
        self.ingest.local_addr()
    }

    pub(crate) fn admin_addr(&self) -> SocketAddr {
        self.admin.local_addr()
    }

    /// Serves until `shutdown`, then drains: no new webhooks, no new attempts, what is in flight is finished, the
    /// rest given back.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { store, broker, ingest, admin, worker, worker_threads, grace, .. } = self;
        let admin_stop = CancellationToken::new();
        let admin_task = tokio::spawn(admin.run(admin_stop.clone()));
        let worker_task = worker_threads.spawn(worker.run(shutdown.clone()));
        let stop_all = shutdown.clone();
        let served = tokio::spawn(async move {
            let served = ingest.run(stop_all.clone()).await;
            // Where ingest ended on its own, the worker must not go on as if nothing were.
            stop_all.cancel();
            served
        });
        shutdown.cancelled().await;
        let drained = tokio::time::timeout(grace + CLOSING, async { (served.await, worker_task.await) }).await;
        if drained.is_err() {
            tracing::warn!("shutdown_grace passed: what still ran is delivered again");
        }
        broker.close().await;
        store.close().await;
        admin_stop.cancel();
        admin_task.await.context("the admin listener ended on its own")??;
        if let Ok((served, worked)) = drained {
            served.context("ingest ended on its own")??;
            worked.context("the worker ended on its own")??;
        }
        Ok(())
    }
}

fn both(ingest: Readiness, worker: &WorkerApp) -> Readiness {
    let worker = worker.readiness();
    Arc::new(move || ingest().and(Standing { not_ready: worker.reasons(), ..Standing::default() }))
}

/// The worker's runtime; ends without blocking when dropped in the middle of another.
struct Threads(Option<Runtime>);

impl Threads {
    fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .thread_name("hookline-worker")
            .on_thread_start(|| {
                // Refused at worst, and then the threads are equals.
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
