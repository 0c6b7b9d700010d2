//! RabbitMQ is away: the spool answers 200, and everything is forwarded later. A real embedded broker behind a switch
//! stands in for RabbitMQ.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_broker::{BrokerState, Publish, PublishError, Stored};
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::names::HandlerName;
use hookline_common::settings::{OnBrokerOutage, Settings};
use hookline_common::time::Timestamp;
use reqwest::Method;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::helpers::{Answer, TestIngest, eventually};

const EVENTS: &str = "hookline_ingest_spool_events";
const BYTES: &str = "hookline_ingest_spool_bytes";

/// How the far side treats a publish while its state is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Store,
    /// Stores the event but doesn't confirm in time.
    StoreUnseen,
    Overloaded,
    /// Refuses events that contain this text.
    Refuse(&'static str),
}

/// A remote broker: a real embedded one whose connection and behaviour the test controls.
struct FarSide {
    broker: Arc<EmbeddedBroker>,
    state: watch::Sender<BrokerState>,
    way: Mutex<Way>,
    /// How many events were sent.
    sent: AtomicUsize,
    /// Bodies that were stored, by the order in which they were sent: several are under way at once, and the broker may
    /// answer a later one first.
    took: Mutex<BTreeMap<usize, String>>,
    /// How many events the broker stores before it goes away by itself.
    leaves_at: Mutex<usize>,
    _dir: TempDir,
}

impl FarSide {
    async fn up() -> Arc<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let options = EmbeddedOptions::new(dir.path(), HandlerName::ALL.to_vec());
        let broker = EmbeddedBroker::open(options).await.expect("opens");
        let state = watch::Sender::new(BrokerState::Ready);
        Arc::new(Self {
            broker,
            state,
            way: Mutex::new(Way::Store),
            sent: AtomicUsize::default(),
            took: Mutex::default(),
            leaves_at: Mutex::new(usize::MAX),
            _dir: dir,
        })
    }

    async fn away() -> Arc<Self> {
        let this = Self::up().await;
        this.goes();
        this
    }

    fn goes(&self) {
        self.state.send_replace(BrokerState::NotReady("nobody answers".to_owned()));
    }

    fn comes(&self) {
        self.state.send_replace(BrokerState::Ready);
    }

    /// Becomes ready, and goes away again after it has stored this many more events.
    fn comes_for(&self, events: usize) {
        *self.leaves_at.lock().expect("no panic") = self.took().len() + events;
        self.comes();
    }

    fn does(&self, way: Way) {
        *self.way.lock().expect("no panic") = way;
    }

    fn took(&self) -> Vec<String> {
        self.took.lock().expect("no panic").values().cloned().collect()
    }
}

#[async_trait]
impl Publish for FarSide {
    async fn publish(&self, event: &Event) -> Result<Stored, PublishError> {
        if *self.state.borrow() != BrokerState::Ready {
            return Err(PublishError::Unavailable("not connected".to_owned()));
        }
        let body = String::from_utf8_lossy(&event.body).into_owned();
        let way = *self.way.lock().expect("no panic");
        match way {
            Way::Overloaded => return Err(PublishError::Overloaded),
            Way::Refuse(text) if body.contains(text) => return Err(PublishError::Unavailable("rejected".to_owned())),
            Way::Store | Way::StoreUnseen | Way::Refuse(_) => {}
        }
        let place = self.sent.fetch_add(1, Ordering::Relaxed);
        let stored = self.broker.publish(event).await?;
        let took = {
            let mut took = self.took.lock().expect("no panic");
            took.insert(place, body);
            took.len()
        };
        if took == *self.leaves_at.lock().expect("no panic") {
            self.goes();
        }
        if way == Way::StoreUnseen { Err(PublishError::Unknown) } else { Ok(stored) }
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

async fn ingest(far: &Arc<FarSide>, dir: &Path) -> TestIngest {
    configured(far, dir, |_| {}).await
}

async fn configured(far: &Arc<FarSide>, dir: &Path, change: impl FnOnce(&mut Settings)) -> TestIngest {
    let ingest = TestIngest::spooling(Arc::clone(far) as _, dir, change).await.expect("opens");
    ingest.storing_in(Arc::clone(&far.broker))
}

fn reject(settings: &mut Settings) {
    settings.ingest.on_broker_outage = OnBrokerOutage::Reject;
}

async fn readyz(ingest: &TestIngest) -> (u16, String) {
    let answer = Answer::of(ingest.admin(Method::GET, "/readyz")).await;
    (answer.status, answer.text)
}

fn body(n: usize) -> String {
    format!(r#"{{"number":{n:03}}}"#)
}

#[tokio::test]
async fn webhooks_are_taken_while_the_broker_is_away_and_forwarded_oldest_first() {
    let (far, dir) = (FarSide::away().await, tempfile::tempdir().unwrap());
    let ingest = ingest(&far, dir.path()).await;

    let mut ids = Vec::new();
    for n in 0..40 {
        let answer = ingest.send_signed(body(n).as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        ids.push(answer.event_id());
    }
    assert_eq!(ingest.send_signed(body(0).as_bytes()).await.event_id(), ids[0], "a repeat is the same event");
    assert_eq!(ingest.count("unparsed"), 40);
    assert_eq!((ingest.count("duplicate_seen"), ingest.gauge(EVENTS)), (1, 40));
    assert_eq!(ingest.gauge(BYTES), 40 * (1024 + 14));
    let (status, told) = readyz(&ingest).await;
    assert_eq!(status, 200, "{told}");
    assert!(told.contains("nobody answers; webhooks go to the spool, where 40 events wait"), "{told}");
    assert_eq!(ingest.gauge("hookline_broker_connected"), 0);
    assert_eq!(far.took(), [""; 0]);

    far.comes();

    eventually("the spool is empty", async || ingest.gauge(EVENTS) == 0).await;
    assert_eq!(far.took(), (0..40).map(body).collect::<Vec<_>>());
    assert_eq!(ingest.gauge(BYTES), 0);
    let mut stored: Vec<String> = ingest.stored().await.iter().map(|event| event.id.to_string()).collect();
    stored.sort();
    ids.sort();
    assert_eq!(stored, ids);
    eventually("all is well", async || readyz(&ingest).await == (200, r#"{"status":"ready"}"#.to_owned())).await;
    assert_eq!(ingest.gauge("hookline_broker_connected"), 1);
}

#[tokio::test]
async fn an_event_arrives_as_it_was_accepted() {
    let (far, dir) = (FarSide::away().await, tempfile::tempdir().unwrap());
    let ingest = ingest(&far, dir.path()).await;
    let fixture = crate::helpers::fixture("contact.opted-out.hyphen.json");
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = ingest.post(&fixture.body).header("x-textus-signature", &fixture.signature);
    let answer = Answer::of(request.header("traceparent", traceparent).header("x-request-id", "spooled-1")).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    far.comes();
    eventually("it is forwarded", async || ingest.gauge(EVENTS) == 0).await;

    let [event] = ingest.stored().await.try_into().expect("one");
    assert_eq!(event.id.as_str(), answer.event_id());
    assert_eq!((event.body, event.event_type.as_str()), (fixture.body, "contact.opted_out"));
    assert_eq!(event.traceparent.as_deref(), Some(traceparent));
    assert_eq!(event.request_id.as_deref(), Some("spooled-1"));
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert!(event.source_event_id.is_some());
}

#[tokio::test]
async fn what_was_not_confirmed_in_time_is_in_the_spool_before_the_answer() {
    let (far, dir) = (FarSide::up().await, tempfile::tempdir().unwrap());
    let ingest = ingest(&far, dir.path()).await;
    far.does(Way::StoreUnseen);

    let answer = ingest.send_signed(b"unseen").await;

    assert_eq!(answer.status, 200, "{answer:?}");
    eventually("its copy was forwarded, unseen again", async || far.took().len() >= 2).await;
    assert_eq!(ingest.gauge(EVENTS), 1, "it stays until it is confirmed");
    far.does(Way::Store);
    eventually("confirmed", async || ingest.gauge(EVENTS) == 0).await;
    assert_eq!(ingest.stored().await.len(), 1, "under one id");
}

#[tokio::test]
async fn what_finds_no_place_at_the_broker_goes_into_the_spool() {
    let (far, dir) = (FarSide::up().await, tempfile::tempdir().unwrap());
    let ingest = ingest(&far, dir.path()).await;
    far.does(Way::Overloaded);

    let answer = ingest.send_signed(b"{}").await;

    assert_eq!((answer.status, ingest.gauge(EVENTS)), (200, 1));
}

#[tokio::test]
async fn a_full_spool_takes_no_more_and_says_so_until_there_is_room() {
    let (far, dir) = (FarSide::away().await, tempfile::tempdir().unwrap());
    let ingest = configured(&far, dir.path(), |settings| settings.ingest.spool_max_bytes = 3 * 1100).await;
    for n in 0..3 {
        assert_eq!(ingest.send_signed(body(n).as_bytes()).await.status, 200);
    }

    let refused = ingest.send_signed(body(3).as_bytes()).await;

    assert_eq!((refused.status, refused.code()), (503, "not_durable".to_owned()));
    assert!(refused.retry_after.is_some());
    eventually("not ready", async || readyz(&ingest).await.0 == 503).await;
    let (_, told) = readyz(&ingest).await;
    assert!(told.contains("it is full (spool_max_bytes = 3300 bytes)"), "{told}");
    far.comes();
    eventually("ready again", async || readyz(&ingest).await == (200, r#"{"status":"ready"}"#.to_owned())).await;
    assert_eq!(ingest.send_signed(body(3).as_bytes()).await.status, 200);
    eventually("empty", async || ingest.gauge(EVENTS) == 0).await;
    assert_eq!(ingest.stored().await.len(), 4);
}

#[tokio::test]
async fn with_reject_nothing_is_kept_and_the_sender_has_to_come_back() {
    let (far, dir) = (FarSide::away().await, tempfile::tempdir().unwrap());
    let ingest = configured(&far, dir.path(), reject).await;

    let refused = ingest.send_signed(b"{}").await;

    assert_eq!((refused.status, refused.code()), (503, "not_durable".to_owned()));
    assert!(refused.retry_after.is_some());
    let (status, told) = readyz(&ingest).await;
    assert_eq!(status, 503);
    assert!(told.contains("broker: nobody answers"), "{told}");
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing was made");
    far.comes();
    assert_eq!(ingest.send_signed(b"{}").await.status, 200);
}

#[tokio::test]
async fn what_an_earlier_start_spooled_is_forwarded_also_with_reject() {
    let (far, dir) = (FarSide::away().await, tempfile::tempdir().unwrap());
    let before = ingest(&far, dir.path()).await;
    for n in 0..5 {
        assert_eq!(before.send_signed(body(n).as_bytes()).await.status, 200);
    }
    before.stop().await;

    let ingest = configured(&far, dir.path(), reject).await;

    assert_eq!((ingest.gauge(EVENTS), ingest.gauge(BYTES)), (5, 5 * (1024 + 14)));
    assert_eq!(ingest.send_signed(body(5).as_bytes()).await.status, 503);
    far.comes();
    eventually("forwarded", async || ingest.gauge(EVENTS) == 0).await;
    assert_eq!(far.took(), (0..5).map(body).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_refused_alone_holds_up_nothing_behind_it() {
    let (far, dir) = (FarSide::away().await, tempfile::tempdir().unwrap());
    let ingest = ingest(&far, dir.path()).await;
    for n in 0..5 {
        assert_eq!(ingest.send_signed(body(n).as_bytes()).await.status, 200);
    }
    far.does(Way::Refuse("000"));

    far.comes();

    eventually("the others are forwarded", async || ingest.gauge(EVENTS) == 1).await;
    assert_eq!(far.took(), (1..5).map(body).collect::<Vec<_>>());
    far.does(Way::Store);
    eventually("it is tried again", async || ingest.gauge(EVENTS) == 0).await;
    assert_eq!(ingest.stored().await.len(), 5);
}

#[tokio::test]
async fn new_events_pass_those_that_wait() {
    let (far, dir) = (FarSide::away().await, tempfile::tempdir().unwrap());
    let ingest = ingest(&far, dir.path()).await;
    assert_eq!(ingest.send_signed(b"waits").await.status, 200);
    far.does(Way::Refuse("waits"));
    far.comes();

    assert_eq!(ingest.send_signed(b"passes").await.status, 200);

    assert_eq!(far.took(), ["passes"]);
    assert_eq!(ingest.gauge(EVENTS), 1);
    let (status, told) = readyz(&ingest).await;
    assert_eq!(status, 200);
    assert!(told.contains("1 events wait in the spool to be forwarded"), "{told}");
}

#[tokio::test]
async fn an_outage_in_the_middle_of_forwarding_loses_nothing() {
    let (far, dir) = (FarSide::away().await, tempfile::tempdir().unwrap());
    let ingest = ingest(&far, dir.path()).await;
    let all: Vec<_> = (0..300).map(body).collect();
    let sent = all.iter().map(|body| ingest.send_signed(body.as_bytes()));
    let answers = futures::future::join_all(sent).await;
    assert!(answers.iter().all(|answer| answer.status == 200));

    for _ in 0..5 {
        let took = far.took().len();
        far.comes_for(20);
        eventually("some are forwarded", async || far.took().len() >= took + 20).await;
        eventually("it is away", async || *far.state.borrow() != BrokerState::Ready).await;
    }
    let left = ingest.gauge(EVENTS);
    ingest.stop().await;
    let ingest = configured(&far, dir.path(), |_| {}).await;
    assert!(ingest.gauge(EVENTS) <= left, "what was confirmed is settled");
    far.comes();

    eventually("forwarded", async || ingest.gauge(EVENTS) == 0).await;
    assert_eq!(ingest.stored().await.len(), 300, "each once under its id");
}

#[tokio::test]
async fn a_spool_belongs_to_one_process() {
    let (far, dir) = (FarSide::up().await, tempfile::tempdir().unwrap());
    let _first = ingest(&far, dir.path()).await;

    let second = TestIngest::spooling(Arc::clone(&far) as _, dir.path(), |_| {}).await;

    let error = format!("{:#}", second.err().expect("it is taken"));
    assert!(error.contains("need a data_dir each") && error.contains("is used by another process"), "{error}");
    let rejecting = TestIngest::spooling(far, dir.path(), reject).await;
    assert!(rejecting.is_ok(), "without a spool of its own it may share the directory");
}

#[tokio::test]
async fn a_sender_that_goes_away_leaves_the_account_right() {
    let (far, dir) = (FarSide::away().await, tempfile::tempdir().unwrap());
    let ingest = ingest(&far, dir.path()).await;
    for n in 0..50 {
        let (source, body) = (SourceName::new("textus").expect("a name"), body(n));
        let event = Event {
            id: EventId::derive(&source, None, body.as_bytes()),
            source,
            source_event_id: None,
            event_type: EventType::unparsed(),
            received_at: Timestamp::now(),
            content_type: None,
            request_id: None,
            traceparent: None,
            body: body.into(),
        };
        // The future is polled once and then dropped, while the event is on its way to the disk.
        let mut asked = Box::pin(ingest.publish(&event));
        assert!(futures::poll!(&mut asked).is_pending());
    }

    far.comes();

    eventually("all 50 were kept", async || far.took().len() == 50).await;
    eventually("nothing is left", async || ingest.gauge(EVENTS) == 0 && ingest.gauge(BYTES) == 0).await;
}
