//! [`TestIngest`] runs the webhook server on free ports with a real embedded broker in its own folder. [`FaultyBroker`]
//! shows faults that a real broker shows rarely.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_broker::{BrokerState, Consume, Publish, PublishError, QueueAdmin, Settlement, Stored};
use hookline_common::event::{Event, EventId, SourceName};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::secret::Secret;
use hookline_common::service::admin::AdminServer;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::service::telemetry::progress::ProgressFeed;
use hookline_common::settings::{Settings, SourceKind, SourceSettings};
use hookline_ingest::app::IngestApp;
use hookline_ingest::spool::Spooling;
use reqwest::{Method, RequestBuilder};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// The secret that the fixtures are signed with.
const SECRET: &str = "textus-synthetic-not-a-real-secret";
/// The second secret that every test server accepts.
pub(crate) const OTHER_SECRET: &str = "textus-the-next-synthetic-secret";

pub(crate) struct TestIngest {
    pub(crate) addr: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) progress: ProgressFeed,
    pub(crate) shutdown: CancellationToken,
    admin_addr: SocketAddr,
    broker: Arc<dyn Publish>,
    /// The broker that holds the stored events.
    queues: Option<Arc<EmbeddedBroker>>,
    client: reqwest::Client,
    running: Option<JoinHandle<anyhow::Result<()>>>,
    _data_dir: Option<TempDir>,
}

impl TestIngest {
    pub(crate) async fn start() -> Self {
        Self::configured(|_| {}).await
    }

    pub(crate) async fn configured(change: impl FnOnce(&mut Settings)) -> Self {
        let data_dir = tempfile::tempdir().expect("a folder");
        let options = EmbeddedOptions::new(data_dir.path(), HandlerName::ALL.to_vec());
        let broker = EmbeddedBroker::open(options).await.expect("opens");
        let mut this = Self::with_broker(Arc::clone(&broker) as _, change).await.storing_in(broker);
        this._data_dir = Some(data_dir);
        this
    }

    /// Names the broker whose queues show what was stored.
    pub(crate) fn storing_in(mut self, queues: Arc<EmbeddedBroker>) -> Self {
        self.queues = Some(queues);
        self
    }

    fn queues(&self) -> &EmbeddedBroker {
        self.queues.as_ref().expect("it stores something")
    }

    pub(crate) async fn with_broker(broker: Arc<dyn Publish>, change: impl FnOnce(&mut Settings)) -> Self {
        let metrics = Arc::new(Metrics::new(Role::Ingest, &["textus"]));
        Self::serving(&settings(change), broker, None, metrics)
    }

    /// Starts the server in front of a remote broker, with its spool in `data_dir`.
    pub(crate) async fn spooling(
        remote: Arc<dyn Publish>,
        data_dir: &Path,
        change: impl FnOnce(&mut Settings),
    ) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new(Role::Ingest, &["textus"]));
        let mut settings = settings(change);
        settings.data_dir = data_dir.to_owned();
        let spooling = Spooling::open(&settings, remote, Arc::clone(&metrics)).await?;
        let broker: Arc<dyn Publish> = Arc::clone(&spooling) as _;
        Ok(Self::serving(&settings, broker, Some(spooling), metrics))
    }

    fn serving(
        settings: &Settings,
        broker: Arc<dyn Publish>,
        spooling: Option<Arc<Spooling>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let progress = ProgressFeed::default();
        let app = IngestApp::bind(settings, Arc::clone(&broker), Arc::clone(&metrics), progress.clone())
            .expect("binds")
            .with_spooling(spooling);
        let admin = AdminServer::bind(([127, 0, 0, 1], 0).into(), Arc::clone(&metrics), app.readiness());
        let admin = admin.expect("binds");
        let (addr, admin_addr) = (app.local_addr(), admin.local_addr());
        let shutdown = CancellationToken::new();
        tokio::spawn(admin.run(shutdown.clone()));
        let running = Some(tokio::spawn(app.run(shutdown.clone())));
        Self {
            addr,
            metrics,
            progress,
            shutdown,
            admin_addr,
            broker,
            queues: None,
            client: client(),
            running,
            _data_dir: None,
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.addr))
    }

    pub(crate) fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.admin_addr))
    }

    /// Builds a webhook request without a signature.
    pub(crate) fn post(&self, body: &[u8]) -> RequestBuilder {
        self.request(Method::POST, "/webhooks/textus").header("content-type", "application/json").body(body.to_vec())
    }

    pub(crate) async fn send_signed(&self, body: &[u8]) -> Answer {
        Answer::of(self.post(body).header("x-textus-signature", sign(body))).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.expect("connects")
    }

    /// Begins a webhook whose body of `length` bytes is still to be sent. When this returns, the server has asked for
    /// the body and is handling the request.
    pub(crate) async fn begin(&self, signature: &str, length: usize) -> TcpStream {
        let mut connection = self.connect().await;
        let head = format!(
            "POST /webhooks/textus HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nx-textus-signature: {signature}\r\n\
             content-length: {length}\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.expect("sends");
        let mut go_on = [0; 25];
        connection.read_exact(&mut go_on).await.expect("an interim answer");
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        connection
    }

    /// Sends bytes and returns everything received until the server closes the connection.
    pub(crate) async fn exchange(&self, request: &[u8]) -> String {
        let mut connection = self.connect().await;
        connection.write_all(request).await.expect("sends");
        read_to_end(&mut connection).await
    }

    /// Returns how many requests of the source `textus` ended with this result.
    pub(crate) fn count(&self, result: &str) -> u64 {
        self.count_of("textus", result)
    }

    pub(crate) fn count_of(&self, source: &str, result: &str) -> u64 {
        let start = format!(r#"hookline_ingest_requests_total{{result="{result}",source="{source}"}} "#);
        let metrics = self.metrics.render();
        let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {start}")).parse().expect("a number")
    }

    /// Returns the handlers whose queues hold something.
    pub(crate) async fn routed(&self) -> Vec<HandlerName> {
        let depths = self.queues().queues().await.expect("depths");
        let holding = depths.iter().filter(|depth| depth.messages > 0);
        holding.map(|depth| depth.queue.handler()).collect()
    }

    /// Takes all stored events out of the history's queue.
    pub(crate) async fn stored(&self) -> Vec<Event> {
        let queue = Queue::Work(HandlerName::RecordHistory);
        let depths = self.queues().queues().await.expect("depths");
        let waiting = depths.iter().find(|depth| depth.queue == queue).expect("the history's queue").messages;
        let mut deliveries = self.queues().consume(queue, u16::MAX).await.expect("consumes");
        let mut taken = Vec::new();
        for _ in 0..waiting {
            taken.push(tokio::time::timeout(DEADLINE, deliveries.next()).await.expect("in time").expect("open"));
        }
        let events = taken.iter().map(|delivery| Event::clone(&delivery.event)).collect();
        let settled = taken.into_iter().map(|delivery| delivery.settle(Settlement::Done));
        futures::future::try_join_all(settled).await.expect("settles");
        events
    }

    /// Publishes directly to the broker, without HTTP.
    pub(crate) async fn publish(&self, event: &Event) -> Result<Stored, PublishError> {
        self.broker.publish(event).await
    }

    /// Returns the value of the gauge with this name.
    pub(crate) fn gauge(&self, name: &str) -> u64 {
        let metrics = self.metrics.render();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
    }

    /// Stops the server and its broker in an orderly way.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.ended().await.expect("in order");
        self.broker.close().await;
    }

    /// Returns how the server ended.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        self.running.take().expect("asked once").await.expect("no panic")
    }
}

impl Drop for TestIngest {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Binds the server with changed settings, then drops it.
pub(crate) fn try_bind(change: impl FnOnce(&mut Settings)) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new(Role::Ingest, &["textus"]));
    let broker = FaultyBroker::new(Behaviour::Refuse);
    IngestApp::bind(&settings(change), broker, metrics, ProgressFeed::default()).map(drop)
}

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::defaults();
    settings.ingest.listen = ([127, 0, 0, 1], 0).into();
    settings.sources = vec![SourceSettings {
        name: SourceName::new("textus").expect("a name"),
        kind: SourceKind::TextUs,
        secrets: vec![Secret::new(SECRET), Secret::new(OTHER_SECRET)],
    }];
    change(&mut settings);
    settings
}

fn client() -> reqwest::Client {
    static CRYPTO: Once = Once::new();
    CRYPTO.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().timeout(DEADLINE).build().expect("a client")
}

pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) body: Bytes,
    pub(crate) signature: String,
}

/// Returns every webhook body under `tests/fixtures/textus` with its published signature.
pub(crate) fn fixtures() -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/textus");
    let vectors = std::fs::read(folder.join("signatures.json")).expect("vectors");
    let vectors: serde_json::Value = serde_json::from_slice(&vectors).expect("JSON");
    let signatures = vectors["signatures"].as_object().expect("an object");
    signatures
        .iter()
        .map(|(name, signature)| Fixture {
            name: name.clone(),
            body: std::fs::read(folder.join(name)).expect("a fixture").into(),
            signature: signature.as_str().expect("text").to_owned(),
        })
        .collect()
}

pub(crate) fn fixture(name: &str) -> Fixture {
    fixtures().into_iter().find(|fixture| fixture.name == name).expect("a fixture of this name")
}

pub(crate) fn sign(body: &[u8]) -> String {
    sign_with(SECRET, body)
}

pub(crate) fn sign_with(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    hex::encode(mac.chain_update(body).finalize().into_bytes())
}

pub(crate) fn is_event_id(text: &str) -> bool {
    EventId::parse(text).is_ok()
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().expect("text").to_owned());
        assert!(response.headers().contains_key("x-request-id") || status == 200 || status == 503, "{status}");
        Self { status, retry_after, text: response.text().await.expect("a body") }
    }

    pub(crate) fn event_id(&self) -> String {
        self.json()["event_id"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns the error's code, or an empty string if the answer is no error.
    pub(crate) fn code(&self) -> String {
        let error = &self.json()["error"];
        assert!(error.is_null() || error["message"].as_str().is_some_and(|text| !text.is_empty()), "{}", self.text);
        error["code"].as_str().unwrap_or_default().to_owned()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).expect("a JSON answer")
    }
}

/// Reads until the server closes or resets the connection.
pub(crate) async fn read_to_end(connection: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, connection.read_to_end(&mut bytes)).await;
    let _ = read.expect("the server closes in time");
    String::from_utf8(bytes).expect("text")
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let held = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, held).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Behaviour {
    Refuse,
    TimeOut,
    Break,
    BeFull,
    Hang,
    Panic,
}

/// A broker that stores nothing and fails in one of the ways in which brokers fail.
pub(crate) struct FaultyBroker {
    pub(crate) state: watch::Sender<BrokerState>,
    behaviour: Behaviour,
    asked: AtomicUsize,
}

impl FaultyBroker {
    pub(crate) fn new(behaviour: Behaviour) -> Arc<Self> {
        Arc::new(Self { state: watch::Sender::new(BrokerState::Ready), behaviour, asked: AtomicUsize::new(0) })
    }

    /// Returns how many events the broker was asked to store.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Publish for FaultyBroker {
    async fn publish(&self, _: &Event) -> Result<Stored, PublishError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.behaviour {
            Behaviour::Refuse => Err(PublishError::Unavailable("no".to_owned())),
            Behaviour::TimeOut => Err(PublishError::Unknown),
            Behaviour::Break => Err(PublishError::Fatal("fsync".to_owned())),
            Behaviour::BeFull => Err(PublishError::Overloaded),
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Panic => panic!("on purpose"),
        }
    }

    async fn publish_patiently(&self, event: &Event) -> Result<Stored, PublishError> {
        self.publish(event).await
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    fn degraded(&self) -> Vec<String> {
        Vec::new()
    }

    async fn close(&self) {}
}
