//! Runs a worker from its settings to its end: opens the store, retrying while it is away, runs the worker on it and
//! closes it. `hookline-worker`, `hookline run` and `hookline dev` all use this module.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hookline_broker::Broker;
use hookline_broker::metrics::BrokerMetrics;
use hookline_broker::rabbitmq::{RabbitBroker, RabbitOptions, RabbitRole};
use hookline_common::names::HandlerName;
use hookline_common::service::admin::{AdminServer, ReadinessReport, WORKER_LISTEN};
use hookline_common::service::reload::{self, LiveSettings};
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::service::telemetry::progress::ProgressFeed;
use hookline_common::service::{broker_ca, shutdown, wrong_usage};
use hookline_common::settings::{Needs, Settings};
use hookline_store::Store;
use tokio_util::sync::CancellationToken;

use crate::app::{WorkerApp, WorkerReadiness};
use crate::open::{self, Opened};

/// Pause before the first retry of opening a store that is away. Each further pause doubles and is jittered.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// In a deployment everything starts at the same time: a store that is not there yet is nothing to warn of for so long.
const STARTING: Duration = Duration::from_secs(60);
/// Time beyond `shutdown_grace` for giving deliveries back and closing files.
const CLOSING: Duration = Duration::from_secs(3);

/// A worker whose store is open, or will be opened by [`WorkerService::run`].
pub struct WorkerService {
    parts: Parts,
    opened: Option<(WorkerApp, Opened)>,
    stage: Arc<Mutex<Stage>>,
}

/// Everything a worker is built from, except its store.
#[derive(Clone)]
struct Parts {
    settings: Settings,
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    progress: ProgressFeed,
    only: Option<Vec<HandlerName>>,
    live: Option<LiveSettings>,
}

enum Stage {
    /// The store isn't open yet, for this reason.
    Opening(String),
    Running(WorkerReadiness),
}

impl WorkerService {
    /// Tries once to open the store. If the store is away, [`WorkerService::run`] keeps trying. `only` limits which of
    /// the enabled handlers run.
    ///
    /// # Errors
    /// When the store, or what is built on it, can't be used and waiting would not help.
    pub async fn open(
        settings: &Settings,
        broker: Arc<dyn Broker>,
        metrics: Arc<Metrics>,
        progress: ProgressFeed,
        only: Option<Vec<HandlerName>>,
    ) -> anyhow::Result<Self> {
        let parts = Parts { settings: settings.clone(), broker, metrics, progress, only, live: None };
        let (opened, stage) = match parts.open().await {
            Ok(opened) => {
                let stage = Stage::Running(opened.0.readiness());
                (Some(opened), stage)
            }
            Err(error) if open::is_away(&error) => {
                tracing::info!(
                    error = format!("{error:#}"),
                    "store.not_there_yet: trying again until it can be opened"
                );
                (None, Stage::Opening(format!("{error:#}")))
            }
            Err(error) => return Err(error),
        };
        Ok(Self { parts, opened, stage: Arc::new(Mutex::new(stage)) })
    }

    /// Makes the worker apply changed settings while it runs.
    #[must_use]
    pub fn following(mut self, live: LiveSettings) -> Self {
        self.parts.live = Some(live);
        self
    }

    /// Returns a function that reports whether queues are consumed and the store answers now. It stays valid after the service has ended.
    pub fn standing(&self) -> impl Fn() -> ReadinessReport + Send + Sync + 'static {
        let stage = Arc::clone(&self.stage);
        move || {
            let not_ready = match &*stage.lock().unwrap_or_else(PoisonError::into_inner) {
                Stage::Opening(why) => vec![format!("queues are not consumed: {why}")],
                Stage::Running(readiness) => readiness.reasons(),
            };
            ReadinessReport { not_ready, ..ReadinessReport::default() }
        }
    }

    /// Consumes until `shutdown`, drains, and closes the store.
    ///
    /// # Errors
    /// When the store can't be used and waiting would not help, or a part of the worker panics.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { parts, opened, stage } = self;
        let opened = match opened {
            Some(opened) => opened,
            None => match parts.open_in_time(&stage, &shutdown).await? {
                Some(opened) => opened,
                None => return Ok(()),
            },
        };
        let (app, opened) = opened;
        let ended = app.run(parts.live, shutdown).await;
        opened.close().await;
        ended
    }
}

impl Parts {
    async fn open(&self) -> anyhow::Result<(WorkerApp, Opened)> {
        let opened = open::for_a_worker(&self.settings).await?;
        let Self { settings, broker, metrics, progress, only, live: _ } = self;
        let store: Store = opened.store.clone();
        let (broker, metrics) = (Arc::clone(broker), Arc::clone(metrics));
        let app = WorkerApp::new(settings, broker, store, metrics, progress.clone(), only.as_deref())?;
        Ok((app, opened))
    }

    /// Retries until the store opens; `None` on `shutdown`.
    async fn open_in_time(
        &self,
        stage: &Mutex<Stage>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Option<(WorkerApp, Opened)>> {
        let mut pause = FIRST_PAUSE;
        let mut warn_at = Some(Instant::now() + STARTING);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                () = tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            let tried = tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                tried = self.open() => tried,
            };
            let now = match &tried {
                Ok((app, _)) => Stage::Running(app.readiness()),
                Err(error) => Stage::Opening(format!("{error:#}")),
            };
            *stage.lock().unwrap_or_else(PoisonError::into_inner) = now;
            match tried {
                Ok(opened) => {
                    tracing::info!("store.opened");
                    return Ok(Some(opened));
                }
                Err(error) if open::is_away(&error) => {
                    if warn_at.take_if(|at| Instant::now() >= *at).is_some() {
                        tracing::warn!(error = format!("{error:#}"), "store.away: trying again until it can be opened");
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Runs `hookline-worker`: consumes until a signal arrives, then drains.
///
/// # Errors
/// When something can't be opened and waiting would not help, or a part of the worker panics.
pub async fn run(config: Option<&Path>, settings: Settings, only: Option<Vec<HandlerName>>) -> anyhow::Result<()> {
    let live = reload::follow(config, Needs::WORKER, &settings)?;
    check_handlers(&settings, only.as_deref())?;
    let shutdown = shutdown::on_signal()?;
    let metrics = Arc::new(Metrics::new(Role::Worker, &[]));
    let options = RabbitOptions::new(
        &settings,
        broker_ca(&settings)?,
        RabbitRole::Worker,
        Arc::new(BrokerMetrics::new(&metrics)),
    );
    let broker: Arc<dyn Broker> = RabbitBroker::start(options);
    let worker =
        WorkerService::open(&settings, Arc::clone(&broker), Arc::clone(&metrics), ProgressFeed::default(), only)
            .await?;
    let worker = worker.following(live);
    let listen = settings.admin.listen.unwrap_or(WORKER_LISTEN);
    let admin = AdminServer::bind(listen, metrics, Arc::new(worker.standing()))?;
    tracing::info!(admin = %admin.local_addr(), data_dir = %settings.data_dir.display(), "hookline.started");
    let admin_stop = CancellationToken::new();
    let admin_task = tokio::spawn(admin.run(admin_stop.clone()));
    let ended = drained(tokio::spawn(worker.run(shutdown.clone())), &shutdown, settings.shutdown_grace).await;
    broker.close().await;
    admin_stop.cancel();
    admin_task.await.context("the admin listener ended on its own")??;
    ended?;
    tracing::info!("hookline.stopped");
    Ok(())
}

/// Waits for the worker to end: without limit before `shutdown`, and for `shutdown_grace` after it.
async fn drained(
    mut worker: tokio::task::JoinHandle<anyhow::Result<()>>,
    shutdown: &CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(grace + CLOSING).await;
    };
    tokio::select! {
        ended = &mut worker => ended.context("the worker ended on its own")?,
        () = late => {
            tracing::warn!("shutdown_grace passed: what still ran is delivered again");
            worker.abort();
            Ok(())
        }
    }
}

/// Refuses `--handlers` that name a disabled handler: a worker without handlers would look healthy.
fn check_handlers(settings: &Settings, only: Option<&[HandlerName]>) -> anyhow::Result<()> {
    let enabled = settings.handlers.enabled();
    let off: Vec<&str> =
        only.unwrap_or_default().iter().filter(|name| !enabled.contains(name)).map(|name| name.as_str()).collect();
    if off.is_empty() {
        return Ok(());
    }
    Err(wrong_usage(format!(
        "--handlers names {}, which the configuration switches off; take it out, or set [handlers.{}] enabled = true",
        off.join(", "),
        off[0]
    )))
}
