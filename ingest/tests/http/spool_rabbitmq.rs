//! The spool in front of a real RabbitMQ that is killed, comes back, and blocks its publishers.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use hookline_broker::metrics::BrokerMetrics;
use hookline_broker::rabbitmq::{RabbitBroker, RabbitOptions, RabbitRole};
use hookline_broker::{Consume, Publish, Settlement};
use hookline_common::event::{Event, Keyword};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::settings::OnBrokerOutage;
use hookline_common::testing::nodes::RabbitNode;
use reqwest::Method;

use crate::helpers::{Answer, DEADLINE, TestIngest, eventually};

const EVENTS: &str = "hookline_ingest_spool_events";

fn broker(url: &str, role: RabbitRole) -> Arc<RabbitBroker> {
    RabbitBroker::start(RabbitOptions {
        urls: vec![Secret::new(url)],
        ca_pem: None,
        handlers: HandlerName::ALL.to_vec(),
        role,
        metrics: Arc::new(BrokerMetrics::new(&Metrics::new(Role::Ingest, &[]))),
    })
}

async fn ingest(url: &str, data_dir: &Path, outage: OnBrokerOutage) -> TestIngest {
    let broker = broker(url, RabbitRole::Ingest);
    let reject = |settings: &mut hookline_common::settings::Settings| settings.ingest.on_broker_outage = outage;
    let ingest = TestIngest::spooling(broker, data_dir, reject).await.expect("opens");
    becomes_ready(&ingest).await;
    ingest
}

/// Waits until ingest is ready and reports nothing degraded.
async fn becomes_ready(ingest: &TestIngest) {
    eventually("RabbitMQ is there", async || {
        Answer::of(ingest.admin(Method::GET, "/readyz")).await.text == r#"{"status":"ready"}"#
    })
    .await;
}

async fn becomes_degraded(ingest: &TestIngest, words: &str) {
    eventually(words, async || {
        let answer = Answer::of(ingest.admin(Method::GET, "/readyz")).await;
        answer.status == 200 && answer.text.contains(words)
    })
    .await;
}

/// Sends `n` webhooks, asserts that each is answered 200, and returns their event ids.
async fn send(ingest: &TestIngest, what: &str, n: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..n {
        let answer = ingest.send_signed(format!("{what} {n:03}").as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        ids.push(answer.event_id());
    }
    ids
}

/// Takes events out of the history's queue until each of these ids has arrived at least once.
async fn arrive(url: &str, ids: &[String]) -> Vec<Event> {
    let broker = broker(url, RabbitRole::Worker);
    broker.wait_ready(DEADLINE).await.expect("ready");
    let mut deliveries = broker.consume(Queue::Work(HandlerName::RecordHistory), 64).await.expect("consumes");
    let mut missing: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
    let mut events = Vec::new();
    while !missing.is_empty() {
        let next = tokio::time::timeout(DEADLINE, deliveries.next()).await;
        let delivery = next.unwrap_or_else(|_| panic!("{} never arrive", missing.len())).expect("open");
        missing.remove(delivery.event.id.as_str());
        events.push(Event::clone(&delivery.event));
        delivery.settle(Settlement::Done).await.expect("settles");
    }
    broker.close().await;
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_rabbitmq_costs_no_webhook_and_gets_all_of_them_oldest_first() {
    let (node, dir) = (RabbitNode::start().await, tempfile::tempdir().unwrap());
    let url = node.vhost().await;
    let ingest = ingest(&url, dir.path(), OnBrokerOutage::Spool).await;
    let mut ids = send(&ingest, "before", 5).await;

    node.kill().await;
    ids.extend(send(&ingest, "during", 50).await);
    let stop = br#"{"id":"/d/stop","action":"message.received","message":{"body":"Stop"}}"#;
    let stop = ingest.send_signed(stop).await.event_id();
    ids.push(stop.clone());

    becomes_degraded(&ingest, "webhooks go to the spool").await;
    assert!(ingest.gauge(EVENTS) >= 49, "the first may have been on its way when it was killed");
    assert_eq!(ingest.gauge("hookline_broker_connected"), 0);
    node.up().await;
    eventually("all are forwarded", async || ingest.gauge(EVENTS) == 0).await;
    becomes_ready(&ingest).await;
    ids.extend(send(&ingest, "after", 5).await);
    let events = arrive(&url, &ids).await;
    let during: Vec<_> = events.iter().filter(|event| event.body.starts_with(b"during")).collect();
    assert!(during.iter().map(|event| &event.body).is_sorted(), "oldest first");
    let stop = events.iter().find(|event| event.id.as_str() == stop).expect("it arrives");
    assert_eq!(stop.event_type.keyword(), Some(Keyword::Stop), "it is still a stop word");
    assert!(events.iter().map(|event| event.id.as_str()).all(|id| ids.iter().any(|sent| sent == id)));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_rabbitmq_is_not_waited_for() {
    let (node, dir) = (RabbitNode::start().await, tempfile::tempdir().unwrap());
    let url = node.vhost().await;
    let ingest = ingest(&url, dir.path(), OnBrokerOutage::Spool).await;

    node.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await;
    // RabbitMQ reports the alarm to a connection only when that connection publishes.
    let mut ids = send(&ingest, "unsuspecting", 1).await;
    becomes_degraded(&ingest, "webhooks go to the spool").await;
    ids.extend(send(&ingest, "blocked", 20).await);

    assert!(ingest.gauge(EVENTS) >= 20);
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    eventually("all are forwarded", async || ingest.gauge(EVENTS) == 0).await;
    becomes_ready(&ingest).await;
    arrive(&url, &ids).await;
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_reject_every_answer_without_rabbitmq_is_503() {
    let (node, dir) = (RabbitNode::start().await, tempfile::tempdir().unwrap());
    let url = node.vhost().await;
    let ingest = ingest(&url, dir.path(), OnBrokerOutage::Reject).await;
    let ids = send(&ingest, "before", 3).await;

    node.kill().await;
    for _ in 0..5 {
        let answer = ingest.send_signed(b"during").await;
        assert_eq!((answer.status, answer.code()), (503, "not_durable".to_owned()), "{answer:?}");
        assert!(answer.retry_after.is_some());
    }

    eventually("not ready", async || Answer::of(ingest.admin(Method::GET, "/readyz")).await.status == 503).await;
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing was kept");
    node.up().await;
    becomes_ready(&ingest).await;
    let after = send(&ingest, "after", 3).await;
    arrive(&url, &[ids, after].concat()).await;
    ingest.stop().await;
}
