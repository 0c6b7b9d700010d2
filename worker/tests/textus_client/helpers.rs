//! A sandbox with its own client, gate and store.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_common::names::Destination;
use hookline_common::phone::Phone;
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::settings::{BreakerSettings, TextUsSettings};
use hookline_sandbox::{Endpoint, Fault, FaultRule, Sandbox, SandboxOptions};
use hookline_store::{Location, Store, StoreOptions};
use hookline_worker::calls::log::CallLog;
use hookline_worker::destinations::segment::Segment;
use hookline_worker::gate::Gate;
use hookline_worker::textus::client::TextUs;
use hookline_worker::textus::limits;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) const PHONE: &str = "+12025550147";
pub(crate) const TIMEOUT: Duration = Duration::from_millis(1500);
pub(crate) const PAUSED_PROBE: Duration = Duration::from_millis(700);
pub(crate) const MAX_RESPONSE_BYTES: usize = 64 * 1024;

pub(crate) struct TestApi {
    pub(crate) sandbox: Sandbox,
    pub(crate) worker: TestWorker,
    pub(crate) log: CallLog,
    store_dir: TempDir,
}

/// Everything that one worker process has.
pub(crate) struct TestWorker {
    pub(crate) textus: TextUs,
    pub(crate) gate: Arc<Gate>,
    pub(crate) store: Store,
    pub(crate) metrics: Arc<Metrics>,
    shutdown: CancellationToken,
}

impl TestApi {
    pub(crate) async fn start() -> Self {
        Self::with(|_options| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SandboxOptions)) -> Self {
        let mut options = SandboxOptions::default();
        change(&mut options);
        let sandbox = Sandbox::start(options).await.expect("the sandbox starts");
        let store_dir = tempfile::tempdir().expect("a directory");
        let worker = TestWorker::start(&sandbox.base_url(), &store_dir).await;
        Self { sandbox, worker, log: CallLog::default(), store_dir }
    }

    /// Starts another worker process on the same store.
    pub(crate) async fn another_worker(&self) -> TestWorker {
        TestWorker::start(&self.sandbox.base_url(), &self.store_dir).await
    }

    pub(crate) async fn another_worker_with(&self, settings: &TextUsSettings) -> TestWorker {
        TestWorker::with(settings, Location::Sqlite(self.store_dir.path().to_owned())).await
    }

    pub(crate) fn textus(&self) -> &TextUs {
        &self.worker.textus
    }

    pub(crate) fn fail_once(&self, fault: Fault) {
        self.sandbox.fault(FaultRule::new(fault).times(1));
    }

    pub(crate) fn fail_once_on(&self, endpoint: Endpoint, fault: Fault) {
        self.sandbox.fault(FaultRule::new(fault).on(endpoint).times(1));
    }

    /// Sets the next answer, whatever the request.
    pub(crate) fn answer_once(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.fail_once(Fault::Status { status, headers, body: Some(body.to_owned()) });
    }

    pub(crate) fn asked(&self) -> usize {
        self.sandbox.requests().len()
    }
}

impl TestWorker {
    pub(crate) async fn start(base_url: &str, store_dir: &TempDir) -> Self {
        Self::with(&settings(base_url), Location::Sqlite(store_dir.path().to_owned())).await
    }

    pub(crate) async fn with(settings: &TextUsSettings, location: Location) -> Self {
        let options = StoreOptions {
            location,
            ledger_key: Secret::new("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
        };
        let store = Store::open(options).await.expect("the store opens");
        let metrics = Arc::new(Metrics::new(Role::Worker, &["textus"]));
        let gate =
            Arc::new(Gate::new(Destination::TextUs, store.clone(), Arc::clone(&metrics), limits::rules(settings)));
        gate.refresh().await.expect("the store answers");
        let shutdown = CancellationToken::new();
        tokio::spawn(Arc::clone(&gate).watch(shutdown.clone()));
        tokio::spawn(follow(store.clone(), Arc::clone(&gate), shutdown.clone()));
        let textus = TextUs::new(settings, Arc::clone(&gate), Arc::clone(&metrics)).expect("a client");
        tokio::spawn(textus.clone().check_refused_token(shutdown.clone()));
        Self { textus, gate, store, metrics, shutdown }
    }

    pub(crate) fn shows(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|shown| shown == line)
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Follows the store as a worker's single poll does.
async fn follow(store: Store, gate: Arc<Gate>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Ok((_, rows)) = store.look().await {
            gate.follow(&rows);
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

pub(crate) fn settings(base_url: &str) -> TextUsSettings {
    TextUsSettings {
        base_url: base_url.parse().expect("a URL"),
        account: "acme".to_owned(),
        token: Some(Secret::new(SandboxOptions::default().token)),
        primary_account: None,
        webhook_url: None,
        webhook_check_every: Duration::ZERO,
        timeout: TIMEOUT,
        opt_out_reserve: 0.1,
        paused_probe: PAUSED_PROBE,
        breaker: BreakerSettings { open_min: Duration::from_secs(5), open_max: Duration::from_secs(300) },
        rate_limit_window: Duration::from_secs(300),
        max_response_bytes: MAX_RESPONSE_BYTES,
    }
}

pub(crate) fn phone(text: &str) -> Phone {
    Phone::parse(text).expect("a phone number")
}

pub(crate) fn segment(text: &str) -> Segment {
    Segment::new(text.rsplit('/').next().unwrap_or(text)).expect("a segment")
}

/// Waits for at most five seconds until something holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
