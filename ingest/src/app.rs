//! Builds the webhook server and its shared state from the settings, and runs it. `hookline-ingest`, `hookline run`,
//! `hookline dev` and the tests all start here.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::web;
use anyhow::Context;
use hookline_broker::{BrokerState, Publish};
use hookline_common::service::admin::{Readiness, ReadinessReport};
use hookline_common::service::reload::LiveSettings;
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::service::telemetry::progress::ProgressFeed;
use hookline_common::settings::{OnBrokerOutage, Settings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::durable::Durable;
use crate::listener::{self, Serving};
use crate::log_throttle::LogThrottle;
use crate::open_files;
use crate::routes::body::BodyLimits;
use crate::routes::buffered::BufferedBytes;
use crate::routes::webhooks::{AppState, InFlightLimit};
use crate::sources::Sources;
use crate::spool::{STORING, Spooling};
use crate::tls::Certificate;

/// Maximum worker threads. The broker is the bottleneck, not HTTP, so more threads would only contend.
const MAX_WORKERS: usize = 4;
/// Maximum connections per worker thread. Requests in flight have their own, far lower limit; an idle connection costs
/// only some KiB.
const MAX_CONNECTIONS: usize = 8192;
/// The webhook server. It is bound on creation and serves once [`IngestApp::run`] is called.
pub struct IngestApp {
    server: Server,
    local_addr: SocketAddr,
    broker: Arc<dyn Publish>,
    broker_state: watch::Receiver<BrokerState>,
    /// `None` when there is no spool; then `broker_state` is also the connection state.
    spooling: Option<Arc<Spooling>>,
    metrics: Arc<Metrics>,
    draining: Arc<AtomicBool>,
    sources: Sources,
    certificate: Option<Certificate>,
    live: Option<LiveSettings>,
}

impl IngestApp {
    /// Binds `[ingest] listen`; port 0 means any free port.
    ///
    /// # Errors
    /// Fails when the address cannot be bound or the TLS files are unusable; the error says what to do.
    pub fn bind(
        settings: &Settings,
        broker: Arc<dyn Publish>,
        metrics: Arc<Metrics>,
        progress: ProgressFeed,
    ) -> anyhow::Result<Self> {
        open_files::raise_limit();
        let ingest = &settings.ingest;
        let broker_state = broker.state();
        let sources = Sources::new(settings);
        let state = web::Data::new(AppState {
            sources: sources.clone(),
            durable: Durable::new(Arc::clone(&broker), Arc::clone(&metrics), storing_deadline(settings)),
            body: BodyLimits {
                max_bytes: ingest.max_body_bytes,
                timeout: ingest.request_timeout,
                buffered: BufferedBytes::new(ingest.max_buffered_bytes, ingest.max_body_bytes),
            },
            in_flight: InFlightLimit::new(ingest.max_in_flight),
            metrics: Arc::clone(&metrics),
            progress,
            mismatch_lines: LogThrottle::new(),
            failure_lines: LogThrottle::new(),
            unparsed_lines: LogThrottle::new(),
        });
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let serving = Serving {
            state,
            request_timeout: ingest.request_timeout,
            workers,
            max_connections: MAX_CONNECTIONS.min(open_files::for_connections() / workers).max(1),
            shutdown_timeout: whole_seconds(settings.shutdown_grace),
        };
        let certificate = ingest.tls.files().map(|(cert, key)| Certificate::read(cert, key, &metrics)).transpose()?;
        let tls = certificate.as_ref().map(Certificate::server_config).transpose()?;
        let addr = ingest.listen;
        let listener = listener::listen(addr)
            .with_context(|| format!("[ingest] listen: cannot listen on {addr}; choose another address or port"))?;
        let local_addr = listener.local_addr().context("nothing was bound")?;
        let server = serving.on(listener, tls).context("the webhook listener cannot be set up")?;
        Ok(Self {
            server,
            local_addr,
            broker,
            broker_state,
            spooling: None,
            metrics,
            draining: Arc::default(),
            sources,
            certificate,
            live: None,
        })
    }

    /// Applies changed secrets from `live` while the server runs.
    #[must_use]
    pub fn following(self, live: LiveSettings) -> Self {
        Self { live: Some(live), ..self }
    }

    /// Declares that the broker is this spool, so that the metrics report RabbitMQ and the spool separately.
    #[must_use]
    pub fn with_spooling(self, spooling: Option<Arc<Spooling>>) -> Self {
        Self { spooling, ..self }
    }

    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns a check of whether a webhook could be made durable now. The check may outlive the app.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let broker_state = self.broker_state.clone();
        let draining = Arc::clone(&self.draining);
        let broker = Arc::clone(&self.broker);
        Arc::new(move || {
            let mut not_ready = Vec::new();
            if draining.load(Ordering::Relaxed) {
                not_ready.push("shutting down: no new webhooks are taken".to_owned());
            }
            match &*broker_state.borrow() {
                BrokerState::Ready => {}
                BrokerState::NotReady(why) | BrokerState::Failed(why) => not_ready.push(format!("broker: {why}")),
            }
            ReadinessReport { not_ready, degraded: broker.degraded() }
        })
    }

    /// Serves until `shutdown` is cancelled. Then the server accepts nothing new and finishes the requests in flight,
    /// within `shutdown_grace`.
    ///
    /// # Errors
    /// Fails when the listener fails or when durable storage failed for good. In the second case no further promise can
    /// be kept and the process has to exit.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { server, mut broker_state, spooling, metrics, draining, sources, certificate, live, .. } = self;
        let mut following = tokio::task::JoinSet::new();
        if let Some(live) = live {
            following.spawn(follow(live, sources));
        }
        if let Some(certificate) = certificate {
            following.spawn(certificate.follow(Arc::clone(&metrics)));
        }
        let connection = spooling.map_or_else(|| broker_state.clone(), |spooling| spooling.connection());
        let mut failure = None;
        let stop = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = follow_broker(&metrics, connection) => {}
                why = failed(&mut broker_state) => failure = Some(why),
            }
            draining.store(true, Ordering::Relaxed);
        };
        let served = serve(server, stop).await;
        following.abort_all();
        served.context("the webhook listener failed")?;
        match failure {
            None => Ok(()),
            Some(why) => Err(anyhow::anyhow!("durable storage failed: {why}")),
        }
    }
}

/// Copies a broker's state into the `broker_connected` gauge; never returns.
async fn follow_broker(metrics: &Metrics, mut state: watch::Receiver<BrokerState>) {
    loop {
        metrics.broker_connected.set(i64::from(*state.borrow_and_update() == BrokerState::Ready));
        if state.changed().await.is_err() {
            // The broker was closed, so its last state stays valid.
            std::future::pending().await
        }
    }
}

/// Returns the reason once storage has failed for good.
async fn failed(state: &mut watch::Receiver<BrokerState>) -> String {
    loop {
        match &*state.borrow_and_update() {
            BrokerState::Failed(why) => return why.clone(),
            BrokerState::Ready | BrokerState::NotReady(_) => {}
        }
        if state.changed().await.is_err() {
            // The broker was closed, so its last state stays valid.
            return std::future::pending().await;
        }
    }
}

/// Runs `server` until `stop` completes, then lets it finish the requests in flight.
async fn serve(mut server: Server, stop: impl Future<Output = ()>) -> std::io::Result<()> {
    let handle = server.handle();
    tokio::select! {
        ended = &mut server => return ended,
        () = stop => {}
    }
    // The stop only makes progress while the server itself is polled.
    tokio::join!(handle.stop(true), server).1
}

/// Returns how long storing one event may take: with the broker, and then in the spool where there is one.
fn storing_deadline(settings: &Settings) -> Duration {
    let has_spool = !settings.broker.url.is_empty() && settings.ingest.on_broker_outage == OnBrokerOutage::Spool;
    if has_spool { 2 * STORING } else { STORING }
}

/// Rounds up to whole seconds, because actix counts its shutdown grace in seconds and a grace below 1 s would become
/// none.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Applies changed secrets to the sources.
async fn follow(mut live: LiveSettings, sources: Sources) {
    while live.changed().await.is_ok() {
        let settings = Arc::clone(&live.borrow_and_update());
        sources.take(&settings);
    }
}
