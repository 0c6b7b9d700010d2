//! A worker with everything around it. Everything is real except the TextUs API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_broker::metrics::BrokerMetrics;
use hookline_broker::rabbitmq::{RabbitBroker, RabbitOptions, RabbitRole};
use hookline_broker::{Broker, topology};
use hookline_common::event::EventId;
use hookline_common::names::{DeliveryState, HandlerName};
use hookline_common::phone::Phone;
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::service::telemetry::progress::ProgressFeed;
use hookline_common::settings::{RetrySettings, Settings};
use hookline_common::time::Timestamp;
use hookline_sandbox::samples::{self, SampleFacts};
use hookline_sandbox::{Effect, EffectKind, Endpoint, RecordedRequest, Sandbox, SandboxOptions};
use hookline_store::model::{DeadLetterFilter, DeadLetterRow, EventRow, LedgerEntry, NoteRow, OptFlagRow, PersonRow};
use hookline_store::{Location, Store, StoreOptions};
use hookline_worker::app::WorkerApp;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::receiver::Intake;

pub(crate) const ACCOUNT: &str = "acme";
pub(crate) const SECOND: &str = "acme_second";
/// Long for a loopback call, short for a test that waits for it to pass.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_millis(700);
const DEADLINE: Duration = Duration::from_secs(40);
const ALL: u32 = 100_000;

pub(crate) struct TestPipeline {
    pub(crate) sandbox: Sandbox,
    pub(crate) store: Store,
    pub(crate) broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    intake: Intake,
    shutdown: CancellationToken,
    _dir: TempDir,
}

/// What a test changes before anything starts.
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) sandbox: SandboxOptions,
}

impl TestPipeline {
    pub(crate) async fn start() -> Self {
        Self::with(|_setup| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut setup = Setup { settings: settings(&dir), sandbox: SandboxOptions::default() };
        setup.sandbox.accounts = vec![ACCOUNT.to_owned(), SECOND.to_owned()];
        change(&mut setup);
        let Setup { mut settings, sandbox } = setup;
        let sandbox = Sandbox::start(sandbox).await.expect("the sandbox starts");
        settings.textus.base_url = sandbox.base_url().parse().expect("a URL");

        let metrics = Arc::new(Metrics::new(Role::Worker, &["textus"]));
        let handlers = settings.handlers.enabled();
        let broker: Arc<dyn Broker> = match settings.broker.url.as_slice() {
            [_, ..] => rabbit(settings.broker.url.clone(), handlers, &metrics).await,
            [] => EmbeddedBroker::open(EmbeddedOptions::new(dir.path(), handlers)).await.expect("the broker opens"),
        };
        let location = match &settings.store.url {
            Some(url) => Location::Postgres { url: url.clone(), connections: 5 },
            None => Location::Sqlite(dir.path().to_owned()),
        };
        let store = Store::open(StoreOptions {
            location,
            ledger_key: Secret::new("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
        })
        .await
        .expect("the store opens");
        let intake = Intake::new(Arc::clone(&broker));
        sandbox.set_webhook(intake.listen().await);

        let worker = WorkerApp::new(
            &settings,
            Arc::clone(&broker),
            store.clone(),
            Arc::clone(&metrics),
            ProgressFeed::default(),
            None,
        )
        .expect("a worker");
        let shutdown = CancellationToken::new();
        tokio::spawn(worker.run(None, shutdown.clone()));
        Self { sandbox, store, broker, metrics, intake, shutdown, _dir: dir }
    }

    /// Returns the value of a metric without labels; `None` if it is absent.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().expect("a number"))
    }

    /// Tells the worker to end.
    pub(crate) fn end(&self) {
        self.shutdown.cancel();
    }

    /// Receives a webhook.
    pub(crate) async fn send(&self, body: &Value) -> EventId {
        self.intake.take(Bytes::from(body.to_string())).await
    }

    /// Receives a webhook that `serde_json` would not write.
    pub(crate) async fn send_bytes(&self, body: &str) -> EventId {
        self.intake.take(Bytes::copy_from_slice(body.as_bytes())).await
    }

    /// Receives a webhook that arrived a while ago and has waited since.
    pub(crate) async fn send_late(&self, body: &Value, late: Duration) -> EventId {
        self.intake.take_at(Bytes::from(body.to_string()), Timestamp::now().minus(late)).await
    }

    /// Receives a sample. TextUs knows nothing about it beyond its webhook.
    pub(crate) async fn send_sample(&self, event_type: &str, facts: &SampleFacts) -> EventId {
        self.send(&samples::sample(event_type, facts)).await
    }

    /// Receives a sample whose message, conversation or contact TextUs has.
    pub(crate) async fn send_known(&self, event_type: &str, facts: &SampleFacts) -> EventId {
        let body = samples::sample(event_type, facts);
        self.sandbox.learn(&body).expect("a sample's shape");
        self.send(&body).await
    }

    /// Returns the event once every handler that takes it has settled it.
    pub(crate) async fn settled(&self, id: &EventId) -> EventRow {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let row = self.event(id).await;
            if let Some(row) = row.as_ref().filter(|row| is_settled(row)) {
                return row.clone();
            }
            assert!(Instant::now() < deadline, "not settled: {row:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn event(&self, id: &EventId) -> Option<EventRow> {
        self.store.event(id).await.expect("the store answers").map(|(row, _attempts)| row)
    }

    /// Waits until everything is settled, echoes included, and checks what must hold after any test: the worker sent no
    /// request that a correct client wouldn't send, and each handler that takes an event has settled it once.
    pub(crate) async fn quiet(&self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let before = self.intake.published();
            for id in before.keys() {
                self.settled(id).await;
            }
            // An echo is pending from before its write is answered. So if all are settled and none is pending, none
            // will come.
            if self.sandbox.echo_counts().pending == 0 && self.intake.published().len() == before.len() {
                break;
            }
            assert!(Instant::now() < deadline, "echoes never end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.sandbox.violations(), [], "asked as documented");
        assert_eq!(self.sandbox.echo_counts().given_up, 0);
        self.check_accounts().await;
    }

    /// Checks the accounting by ids: the published events and each handler's settled deliveries are the same sets.
    async fn check_accounts(&self) {
        let published = self.intake.published();
        for handler in HandlerName::ALL {
            let mut expected: Vec<&EventId> =
                published.iter().filter(|(_, kind)| topology::takes(*handler, kind)).map(|(id, _)| id).collect();
            expected.sort();
            let mut found = Vec::new();
            for state in DeliveryState::ALL {
                found.extend(self.store.delivery_ids(*handler, Some(*state)).await.expect("the store answers"));
            }
            found.sort();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{handler}");
        }
    }

    /// Returns all events except these: the echoes of our own writes.
    pub(crate) fn echoes(&self, sent: &[&EventId]) -> Vec<EventId> {
        self.intake.published().into_keys().filter(|id| !sent.contains(&id)).collect()
    }

    pub(crate) fn asked(&self, endpoint: Endpoint) -> Vec<RecordedRequest> {
        self.sandbox.requests().into_iter().filter(|request| request.endpoint == Some(endpoint)).collect()
    }

    pub(crate) fn effects(&self, kind: EffectKind) -> Vec<Effect> {
        self.sandbox.effects().into_iter().filter(|effect| effect.kind == kind).collect()
    }

    pub(crate) async fn notes(&self) -> Vec<NoteRow> {
        self.store.notes(ALL, None).await.expect("the store answers").rows
    }

    pub(crate) async fn people(&self) -> Vec<PersonRow> {
        self.store.persons(ALL, None).await.expect("the store answers").rows
    }

    pub(crate) async fn flags(&self) -> Vec<OptFlagRow> {
        self.store.opt_flags(ALL, None).await.expect("the store answers").rows
    }

    pub(crate) async fn evidence(&self, phone: &str) -> Vec<LedgerEntry> {
        self.store.prove(&Phone::parse(phone).expect("a phone")).await.expect("the store answers")
    }

    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetterRow> {
        self.store.dead_letters(&DeadLetterFilter::default(), ALL, None).await.expect("the store answers").rows
    }

    /// Waits until there is exactly one dead letter.
    pub(crate) async fn dead_letter(&self) -> DeadLetterRow {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let [only] = self.dead_letters().await.as_slice() {
                return only.clone();
            }
            assert!(Instant::now() < deadline, "no dead letter comes");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Does what `hookline dead-letters redrive` does.
    pub(crate) async fn redrive(&self, id: &str) {
        let redriven = hookline_worker::background::dead_letters::redrive(&self.store, self.broker.as_ref(), id).await;
        assert!(redriven.expect("store and broker answer"), "{id} is a dead letter");
    }
}

impl Drop for TestPipeline {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Returns how a handler ended: `done`, `skipped: echo`, `dead_lettered: rejected`.
pub(crate) fn ending(row: &EventRow, handler: HandlerName) -> String {
    let delivery = row.deliveries.iter().find(|delivery| delivery.handler == handler).expect("the handler takes it");
    match &delivery.reason {
        Some(reason) => format!("{}: {reason}", delivery.state),
        None => delivery.state.to_string(),
    }
}

pub(crate) fn attempts(row: &EventRow, handler: HandlerName) -> u32 {
    row.deliveries.iter().find(|delivery| delivery.handler == handler).expect("the handler takes it").attempts
}

/// Returns a new person in [`ACCOUNT`], now.
pub(crate) fn someone() -> SampleFacts {
    SampleFacts::random(ACCOUNT)
}

/// Returns the same person, at this moment.
pub(crate) fn now(facts: &SampleFacts) -> SampleFacts {
    SampleFacts { timestamp: jiff::Timestamp::now(), ..facts.clone() }
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn rabbit(urls: Vec<Secret>, handlers: Vec<HandlerName>, metrics: &Metrics) -> Arc<dyn Broker> {
    let broker = RabbitBroker::start(RabbitOptions {
        urls,
        ca_pem: None,
        handlers,
        role: RabbitRole::Worker,
        metrics: Arc::new(BrokerMetrics::new(metrics)),
    });
    broker.wait_ready(DEADLINE).await.expect("ready");
    broker
}

fn is_settled(row: &EventRow) -> bool {
    let settled = |handler: HandlerName| {
        let delivery = row.deliveries.iter().find(|delivery| delivery.handler == handler);
        delivery.is_some_and(|delivery| delivery.state != DeliveryState::Waiting)
    };
    HandlerName::ALL
        .iter()
        .filter(|handler| topology::takes(**handler, &row.event_type))
        .all(|handler| settled(*handler))
}

fn settings(dir: &TempDir) -> Settings {
    let mut settings = Settings::defaults();
    settings.data_dir = dir.path().to_owned();
    settings.textus.account = ACCOUNT.to_owned();
    settings.textus.token = Some(Secret::new(SandboxOptions::default().token));
    settings.textus.timeout = CALL_TIMEOUT;
    settings.textus.paused_probe = Duration::from_millis(300);
    let handlers = &mut settings.handlers;
    handlers.record_opt_out.accounts = vec![ACCOUNT.to_owned()];
    handlers.create_contact.accounts = vec![ACCOUNT.to_owned()];
    for basics in [
        &mut handlers.record_opt_out.basics,
        &mut handlers.flag_opt_out.basics,
        &mut handlers.log_note.basics,
        &mut handlers.create_contact.basics,
        &mut handlers.sync_contact.basics,
    ] {
        basics.retry =
            RetrySettings { initial: Duration::from_millis(20), max: Duration::from_millis(200), ..basics.retry };
    }
    settings
}
