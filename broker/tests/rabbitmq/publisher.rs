//! Tests our publisher against the traps of lapin: a confirm belongs to its message, a return fails its batch, a
//! time-out is unknown, and foreign messages never cause a panic. Each scenario was measured to fail with lapin alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use hookline_broker::rabbitmq::{Outgoing, Published, RabbitBroker};
use hookline_broker::topology::WorkClass;
use hookline_broker::{Publish, PublishError, Stored};
use hookline_common::event::{Event, EventType, SourceName};
use hookline_common::testing::events::{an_event, an_inbound_message};
use hookline_common::testing::nodes::RabbitNode;
use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::worker;

const OPEN: &str = "probe.open";
const FULL: &str = "probe.full";
const NOWHERE: &str = "probe.nowhere";
const TASKS: usize = 64;

/// A second client, for what ours does not do.
async fn bare(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirm mode");
    (connection, channel)
}

async fn declare(channel: &Channel, queue: &str, arguments: &[(&str, AMQPValue)]) {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, table).await.expect("declared");
}

async fn messages(channel: &Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await.expect("there").message_count()
}

fn to(queue: &str, id: usize) -> Outgoing {
    Outgoing {
        exchange: "",
        routing_key: queue.to_owned(),
        properties: BasicProperties::default().with_delivery_mode(2).with_message_id(id.to_string().into()),
        body: Bytes::from_static(&[b'x'; 200]),
    }
}

/// `PROBE_MESSAGES=100000 cargo test …` publishes more messages to catch what happens rarely.
#[expect(clippy::disallowed_methods, reason = "no setting of the product's")]
fn count() -> usize {
    std::env::var("PROBE_MESSAGES").map_or(14_000, |count| count.parse().expect("a number"))
}

const fn is_bad(id: usize) -> bool {
    id.is_multiple_of(7)
}

/// Publishes `count` messages from many tasks, every seventh to `bad`; returns the answers by id.
async fn publish_from_many_tasks(
    broker: &Arc<RabbitBroker>,
    count: usize,
    bad: &'static str,
) -> Vec<(usize, Published)> {
    let tasks = (0..TASKS).map(|task| {
        let broker = Arc::clone(broker);
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for id in (1..=count).filter(|id| id % TASKS == task) {
                let queue = if is_bad(id) { bad } else { OPEN };
                answers.push((id, broker.publisher(WorkClass::Others).publish(to(queue, id)).await));
            }
            answers
        })
    });
    join_all(tasks).await.into_iter().flat_map(|answers| answers.expect("no panic")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_messages_that_a_queue_refused_are_rejected() {
    let url = RabbitNode::shared().await.vhost().await;
    let (_connection, channel) = bare(&url).await;
    declare(&channel, OPEN, &[("x-queue-type", AMQPValue::LongString("quorum".into()))]).await;
    let full =
        [("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", AMQPValue::LongString("reject-publish".into()))];
    declare(&channel, FULL, &full).await;
    let broker = worker(&url).await;
    while broker.publisher(WorkClass::Others).publish(to(FULL, 0)).await != Published::Rejected {}
    let count = count();

    let answers = publish_from_many_tasks(&broker, count, FULL).await;

    let wrong: Vec<_> = answers
        .iter()
        .filter(|(id, answer)| *answer != if is_bad(*id) { Published::Rejected } else { Published::Stored })
        .collect();
    assert_eq!(answers.len(), count);
    assert!(wrong.is_empty(), "{} wrong: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    assert_eq!(messages(&channel, OPEN).await as usize, count - count / 7, "what is stored is there");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_messages_that_reached_no_queue_are_unroutable() {
    let url = RabbitNode::shared().await.vhost().await;
    let (_connection, channel) = bare(&url).await;
    declare(&channel, OPEN, &[("x-queue-type", AMQPValue::LongString("quorum".into()))]).await;
    let broker = worker(&url).await;
    let count = count();

    let answers = publish_from_many_tasks(&broker, count, NOWHERE).await;

    let wrong: Vec<_> = answers
        .iter()
        .filter(|(id, answer)| *answer != if is_bad(*id) { Published::Unroutable } else { Published::Stored })
        .collect();
    assert_eq!(answers.len(), count);
    assert!(wrong.is_empty(), "{} wrong: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    assert_eq!(messages(&channel, OPEN).await as usize, count - count / 7);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_send_fits_or_is_refused_and_never_panics() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let long = "x".repeat(300);

    for event_type in [long.as_str(), "Grüße aus Köln", "", "a.b.c.d.e", "contact.opted_out.again"] {
        let event = an_event(event_type);
        assert!(broker.publish(&event).await.is_ok(), "{event_type}");
    }
    let odd = Event {
        request_id: Some("r".repeat(400)),
        content_type: Some("c".repeat(400)),
        source_event_id: Some("s".repeat(4_000)),
        source: SourceName::new(&"s".repeat(64)).expect("a name"),
        event_type: EventType::new(&"y".repeat(255)),
        ..an_inbound_message()
    };
    assert!(broker.publish(&odd).await.is_ok());
    let too_long = Outgoing { routing_key: "k".repeat(256), ..to(OPEN, 1) };
    assert!(matches!(broker.publisher(WorkClass::Others).publish(too_long).await, Published::NotSent(_)));

    assert!(broker.publish(&an_inbound_message()).await.is_ok(), "the connection is still good");
    broker.close().await;
}

async fn three_hundred_at_once(broker: &Arc<RabbitBroker>) -> Vec<Result<Stored, PublishError>> {
    let publishing = (0..300).map(|_| {
        let broker = Arc::clone(broker);
        tokio::spawn(async move { broker.publish(&an_inbound_message()).await })
    });
    join_all(publishing).await.into_iter().map(|answer| answer.expect("no panic")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_256_at_once_wait_for_a_place() {
    let node = RabbitNode::start().await;
    let broker = worker(&node.url()).await;

    let answers = three_hundred_at_once(&broker).await;
    assert!(answers.iter().all(Result::is_ok), "a broker that works refuses none: {answers:?}");

    node.freeze();
    let answers = three_hundred_at_once(&broker).await;
    node.thaw();
    assert!(answers.iter().all(Result::is_err), "none is called stored that is not");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_leaves_no_publish_without_an_answer_and_none_stored_that_is_not() {
    let node = RabbitNode::start().await;
    let broker = worker(&node.url()).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let publishing: Vec<_> = (0..32)
        .map(|_| {
            let (broker, stopped) = (Arc::clone(&broker), stopped.clone());
            tokio::spawn(async move {
                let (mut stored, mut failed) = (BTreeSet::new(), 0_usize);
                while !*stopped.borrow() {
                    let event = an_inbound_message();
                    match broker.publish(&event).await {
                        Ok(_) => drop(stored.insert(event.id)),
                        Err(_) => {
                            failed += 1;
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
                (stored, failed)
            })
        })
        .collect();
    let metrics = || broker.publisher(WorkClass::Others).in_flight();
    super::eventually("publishes are under way", || metrics() > 0).await;

    node.kill().await;
    super::eventually("everything in flight was answered", || metrics() == 0).await;
    node.up().await;
    broker.wait_ready(super::DEADLINE).await.expect("publishing again");
    stop.send(true).expect("they listen");
    let ended = join_all(publishing).await.into_iter().map(|task| task.expect("no panic"));
    let (stored, failed) = ended.fold((BTreeSet::new(), 0), |(mut all, failures), (stored, failed)| {
        all.extend(stored);
        (all, failures + failed)
    });

    assert!(failed > 0, "the kill was noticed");
    let found = super::drain(&broker, hookline_common::names::HandlerName::LogNote).await;
    assert!(stored.is_subset(&found), "{} stored and gone", stored.difference(&found).count());
    broker.close().await;
}
