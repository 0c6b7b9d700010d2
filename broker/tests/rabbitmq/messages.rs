//! The content of a message, and what it must not hold: headers, hops beyond the longest tier, newer versions,
//! strangers.

use std::time::Duration;

use bytes::Bytes;
use hookline_broker::conformance::{next, nothing_comes, settle};
use hookline_broker::rabbitmq::{Outgoing, Published};
use hookline_broker::topology::WorkClass;
use hookline_broker::{Again, Consume, Publish, QueueAdmin, Settlement, Spends};
use hookline_common::event::{Event, Keyword};
use hookline_common::names::{DeadReason, HandlerName, Queue};
use hookline_common::testing::events::an_inbound_message;
use hookline_common::testing::nodes::RabbitNode;
use hookline_common::time::Timestamp;
use lapin::options::{BasicGetOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};

use super::topology::operator;
use super::{eventually, worker};

const NOTES: Queue = Queue::Work(HandlerName::LogNote);

/// Takes the first message out of a queue.
async fn take(url: &str, queue: &str) -> lapin::message::Delivery {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    let deadline = std::time::Instant::now() + super::DEADLINE;
    loop {
        if let Some(got) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("asked") {
            return got.delivery;
        }
        assert!(std::time::Instant::now() < deadline, "nothing comes into {queue}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref().and_then(|headers| headers.inner().get(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_says_what_the_contract_says_and_carries_the_senders_bytes() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let event = an_inbound_message();
    broker.publish(&event).await.expect("stored");

    let message = take(&url, "hookline.work.log_note").await;

    assert_eq!(message.data, event.body);
    let properties = &message.properties;
    assert_eq!(properties.message_id().as_ref().map(|id| id.as_str()), Some(event.id.as_str()));
    assert_eq!(properties.kind().as_ref().map(|kind| kind.as_str()), Some("message.received"));
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert!(properties.app_id().as_ref().is_some_and(|app| app.as_str().starts_with("hookline/")));
    assert_eq!(properties.priority(), &None);
    assert_eq!(properties.expiration(), &None);
    let received = AMQPValue::LongLongInt(event.received_at.as_millis());
    assert_eq!(header(properties, "x-hookline-received-ms"), Some(&received));
    assert_eq!(header(properties, "x-hookline-source"), Some(&AMQPValue::LongString("textus".into())));
    assert_eq!(header(properties, "x-hookline-attempt"), Some(&AMQPValue::LongLongInt(1)));
    assert_eq!(header(properties, "x-hookline-version"), Some(&AMQPValue::LongLongInt(1)));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_a_keyword_alone_has_a_version_that_older_workers_hold() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    for (keyword, says) in [(Keyword::Stop, "stop"), (Keyword::Start, "start")] {
        let text = an_inbound_message();
        let event = Event { event_type: text.event_type.with_keyword(Some(keyword)), ..text };
        broker.publish(&event).await.expect("stored");

        for handler in [HandlerName::RecordOptOut, HandlerName::FlagOptOut, HandlerName::LogNote] {
            let message = take(&url, &Queue::Work(handler).name()).await;

            assert_eq!(message.routing_key.as_str(), format!("textus.message.received.{says}"), "{handler}");
            assert_eq!(message.properties.kind().as_ref().map(|kind| kind.as_str()), Some("message.received"));
            assert_eq!(header(&message.properties, "x-hookline-version"), Some(&AMQPValue::LongLongInt(2)));
        }
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_longer_than_the_longest_tier_hops_without_an_attempt() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    broker.publish(&an_inbound_message()).await.expect("stored");
    let mut deliveries = broker.consume(NOTES, 4).await.expect("consumed");
    let until = Timestamp::now().plus(Duration::from_secs(13 * 3600));
    let delivery = next(&mut deliveries).await;
    settle(delivery, Settlement::Park { until, spends: Spends::Attempt, last: None }).await;
    let parked = take(&url, "hookline.delay.12h").await;
    assert_eq!(
        header(&parked.properties, "x-hookline-not-before-ms"),
        Some(&AMQPValue::LongLongInt(until.as_millis()))
    );

    // The message comes out of its tier after twelve hours, which is an hour too early.
    let early = Outgoing {
        exchange: "hookline.work",
        routing_key: "12h.log_note".to_owned(),
        properties: parked.properties.clone(),
        body: Bytes::from(parked.data.clone()),
    };
    assert_eq!(broker.publisher(WorkClass::Others).publish(early).await, Published::Stored);
    nothing_comes(&mut deliveries).await;
    let hopped = take(&url, "hookline.delay.12h").await;
    assert_eq!(hopped.properties.headers(), parked.properties.headers(), "nothing of it has changed");

    // The same message, this time not too early.
    let mut headers = FieldTable::default();
    for (name, value) in parked.properties.headers().iter().flatten() {
        headers.insert(name.clone(), value.clone());
    }
    headers.insert("x-hookline-not-before-ms".into(), AMQPValue::LongLongInt(Timestamp::now().as_millis()));
    let due = Outgoing {
        exchange: "hookline.work",
        routing_key: "1h.log_note".to_owned(),
        properties: parked.properties.clone().with_headers(headers),
        body: Bytes::from(parked.data),
    };
    assert_eq!(broker.publisher(WorkClass::Others).publish(due).await, Published::Stored);
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.attempt, 2, "hops are no attempts");
    settle(delivery, Settlement::Done).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_versions_message_is_held_as_it_is() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let event = an_inbound_message();
    broker.publish(&event).await.expect("stored");
    let message = take(&url, "hookline.work.log_note").await;
    let mut headers = FieldTable::default();
    for (name, value) in message.properties.headers().iter().flatten() {
        headers.insert(name.clone(), value.clone());
    }
    headers.insert("x-hookline-version".into(), AMQPValue::LongLongInt(3));
    headers.insert("x-hookline-of-tomorrow".into(), AMQPValue::LongString("kept".into()));
    let mut deliveries = broker.consume(NOTES, 4).await.expect("consumed");

    let newer = Outgoing {
        exchange: "hookline.work",
        routing_key: "log_note".to_owned(),
        properties: message.properties.clone().with_headers(headers.clone()),
        body: Bytes::from(message.data),
    };
    assert_eq!(broker.publisher(WorkClass::Others).publish(newer).await, Published::Stored);

    nothing_comes(&mut deliveries).await;
    let held = take(&url, "hookline.delay.30s").await;
    assert_eq!(held.properties.headers(), &Some(headers));
    assert_eq!(held.data, event.body);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_message_is_handed_out_as_what_it_is() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let mut deliveries = broker.consume(NOTES, 4).await.expect("consumed");
    let bare = |headers: FieldTable| Outgoing {
        exchange: "hookline.work",
        routing_key: "log_note".to_owned(),
        properties: BasicProperties::default().with_message_id("not-one-of-ours".into()).with_headers(headers),
        body: Bytes::from_static(b"\xff not json"),
    };
    let mut odd = FieldTable::default();
    odd.insert("x-hookline-attempt".into(), AMQPValue::LongString("many".into()));
    odd.insert("x-hookline-version".into(), AMQPValue::Boolean(true));
    odd.insert("x-hookline-source".into(), AMQPValue::LongString("Not A Source".into()));

    for headers in [FieldTable::default(), odd] {
        assert_eq!(broker.publisher(WorkClass::Others).publish(bare(headers)).await, Published::Stored);
        let delivery = next(&mut deliveries).await;
        assert_eq!((delivery.attempt, delivery.event.event_type.as_str()), (1, "unparsed"));
        assert_eq!(delivery.event.body, Bytes::from_static(b"\xff not json"));
        settle(delivery, Settlement::Done).await;
    }
    broker.close().await;
}

/// On RabbitMQ 3.10 a message that keeps its `x-death` counts as going in a circle, and never leaves its delay queue.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_delivery_limit_ended_goes_through_a_tier_when_it_is_redriven() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let event = an_inbound_message();
    broker.publish(&event).await.expect("stored");
    let mut deliveries = broker.consume(NOTES, 1).await.expect("consumed");
    let mut dead = broker.consume(Queue::Dead(HandlerName::LogNote), 1).await.expect("consumed");
    let mut handed_out = 0;
    let letter = loop {
        tokio::select! {
            delivery = deliveries.next() => {
                handed_out += 1;
                drop(delivery.expect("it goes on"));
            }
            letter = dead.next() => break letter.expect("it goes on"),
        }
    };
    assert_eq!(handed_out, 21, "the first delivery and twenty more");
    let dead_letter = letter.dead.clone().expect("told");
    assert_eq!(dead_letter.reason, DeadReason::DeliveryLimit);
    assert!(dead_letter.detail.contains("handed out too often"), "{}", dead_letter.detail);
    settle(letter, Settlement::Done).await;

    broker.publish_again(HandlerName::LogNote, &event, Again::Redrive).await.expect("stored");
    let redriven = next(&mut deliveries).await;
    let until = Timestamp::now().plus(Duration::from_millis(500));
    settle(redriven, Settlement::Park { until, spends: Spends::Attempt, last: None }).await;

    let retried = next(&mut deliveries).await;
    assert_eq!((retried.attempt, retried.again, retried.redeliveries), (2, Some(Again::Redrive), 0));
    settle(retried, Settlement::Done).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the test plays another program, which rejects a message")]
async fn what_the_broker_dead_lettered_for_another_reason_says_which() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    broker.publish(&an_inbound_message()).await.expect("stored");
    let (_connection, channel) = operator(&url).await;
    let got = channel.basic_get(NOTES.name().as_str().into(), BasicGetOptions::default()).await.expect("asked");
    got.expect("a message").delivery.acker.reject(BasicRejectOptions { requeue: false }).await.expect("rejected");

    let mut dead = broker.consume(Queue::Dead(HandlerName::LogNote), 1).await.expect("consumed");
    let letter = next(&mut dead).await;

    let detail = letter.dead.as_ref().map(|dead| dead.detail.clone()).expect("told");
    assert!(detail.contains("x-death says rejected"), "{detail}");
    settle(letter, Settlement::Done).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_queue_cannot_be_rid_of_stays_there() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let event = an_inbound_message();
    broker.publish(&event).await.expect("stored");
    let mut work = broker.consume(NOTES, 1).await.expect("consumed");
    let mut dead = broker.consume(Queue::Dead(HandlerName::LogNote), 1).await.expect("consumed");
    let info = hookline_broker::DeadLetterInfo {
        reason: DeadReason::NotFound,
        destination: None,
        status: Some(404),
        detail: "no such message".to_owned(),
        attempts: 3,
        dead_lettered_at: Timestamp::now(),
    };
    settle(next(&mut work).await, Settlement::DeadLetter(info.clone())).await;

    for settlement in
        [Settlement::Park { until: Timestamp::now(), spends: Spends::Nothing, last: None }, Settlement::Release]
    {
        let letter = next(&mut dead).await;
        assert_eq!((&letter.dead, letter.attempt), (&Some(info.clone()), 3));
        settle(letter, settlement).await;
    }

    let letter = next(&mut dead).await;
    assert_eq!(letter.event.id, event.id);
    settle(letter, Settlement::Done).await;
    nothing_comes(&mut work).await;
    eventually("nothing is under way", || broker.publisher(WorkClass::Others).in_flight() == 0).await;
    broker.close().await;
}
