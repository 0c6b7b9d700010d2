//! The exchanges, queues and bindings: which queue gets what, what happens when one is missing or different, and that
//! nothing is lost without a sign.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_broker::conformance::{nothing_comes, settle};
use hookline_broker::rabbitmq::{Difference, RabbitBroker, RabbitRole, Unrouted};
use hookline_broker::{BrokerState, Consume, DeadLetterInfo, Delivery, LastFailure, Publish, Settlement, Spends};
use hookline_common::event::Event;
use hookline_common::names::{DeadReason, Destination, HandlerName, Queue};
use hookline_common::testing::events::{an_event, an_inbound_message, an_opt_out};
use hookline_common::testing::nodes::RabbitNode;
use hookline_common::time::Timestamp;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};

use super::{DEADLINE, drain, options, ready, state_becomes, worker};

pub(crate) async fn operator(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

async fn delete(channel: &Channel, queue: Queue) {
    channel.queue_delete(queue.name().as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
}

pub(crate) async fn unrouted(broker: &RabbitBroker) -> Vec<Event> {
    broker.unrouted(1_000).await.expect("asked").into_iter().map(|unrouted| unrouted.event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_takes_is_in_unrouted_and_is_redriven_from_there() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let (_connection, channel) = operator(&url).await;
    let deleted = [HandlerName::RecordOptOut, HandlerName::FlagOptOut, HandlerName::RecordHistory].map(Queue::Work);
    for queue in deleted {
        delete(&channel, queue).await;
    }

    let event = an_opt_out();
    broker.publish(&event).await.expect("stored");

    assert_eq!(unrouted(&broker).await, std::slice::from_ref(&event));
    assert_eq!(unrouted(&broker).await, std::slice::from_ref(&event), "looking takes nothing away");
    let missing = broker.differences().await.expect("asked");
    assert_eq!(missing, deleted.map(|queue| Difference::Missing { object: format!("queue {}", queue.name()) }));
    broker.apply_topology().await.expect("declared");
    assert_eq!(broker.differences().await.expect("asked"), []);
    assert_eq!(broker.redrive_unrouted(10).await.expect("redriven"), 1);
    assert_eq!(unrouted(&broker).await, []);
    assert_eq!(drain(&broker, HandlerName::RecordOptOut).await, BTreeSet::from([event.id]));
    broker.close().await;
}

/// Waits until a message is in `hookline.unrouted`, and returns it.
async fn fallen(broker: &RabbitBroker) -> Unrouted {
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = broker.unrouted(1).await.expect("asked").into_iter().next() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "nothing falls into hookline.unrouted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The first delivery of a queue that has just been declared.
async fn first_of(broker: &RabbitBroker, queue: Queue) -> Delivery {
    let mut deliveries = broker.consume(queue, 1).await.expect("consumed");
    tokio::time::timeout(DEADLINE, deliveries.next()).await.expect("in time").expect("a delivery")
}

/// Fails an attempt and parks the delivery for about a second; returns its next delivery.
async fn fail_once(broker: &RabbitBroker, queue: Queue) -> Delivery {
    let delivery = first_of(broker, queue).await;
    let (attempt, first_attempt_at) = (delivery.attempt, delivery.first_attempt_at);
    let last = LastFailure { status: Some(503), detail: "busy".to_owned() };
    let until = Timestamp::now().plus(Duration::from_millis(500));
    settle(delivery, Settlement::Park { until, spends: Spends::Attempt, last: Some(last) }).await;
    let delivery = first_of(broker, queue).await;
    assert_eq!((delivery.attempt, delivery.first_attempt_at), (attempt + 1, first_attempt_at));
    delivery
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_fell_into_unrouted_goes_on_where_it_was() {
    for tier_is_missing in [false, true] {
        let url = RabbitNode::shared().await.vhost().await;
        let broker = worker(&url).await;
        let (_connection, channel) = operator(&url).await;
        let queue = Queue::Work(HandlerName::RecordOptOut);
        let event = an_opt_out();
        broker.publish(&event).await.expect("stored");
        let delivery = fail_once(&broker, queue).await;
        let first_attempt_at = delivery.first_attempt_at;

        let missing = if tier_is_missing { "hookline.delay.1s".to_owned() } else { queue.name() };
        let until = Timestamp::now().plus(Duration::from_millis(500));
        let last = LastFailure { status: Some(502), detail: "still busy".to_owned() };
        let park = Settlement::Park { until, spends: Spends::Attempt, last: Some(last.clone()) };
        if tier_is_missing {
            channel.queue_delete(missing.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
            settle(delivery, park).await;
        } else {
            settle(delivery, park).await;
            delete(&channel, queue).await;
        }

        let fallen = fallen(&broker).await;
        assert_eq!(fallen.exchange, if tier_is_missing { "hookline.delay" } else { "hookline.work" });
        broker.apply_topology().await.expect("declared");
        assert_eq!(broker.redrive_unrouted(10).await.expect("redriven"), 1);
        let delivery = first_of(&broker, queue).await;
        assert_eq!((delivery.event.id.clone(), delivery.attempt), (event.id, 3));
        assert_eq!(delivery.first_attempt_at, first_attempt_at, "its age goes on");
        assert_eq!(delivery.last, Some(last));
        settle(delivery, Settlement::Done).await;
        assert_eq!(unrouted(&broker).await, []);
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_fell_into_unrouted_is_a_dead_letter_still() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let (_connection, channel) = operator(&url).await;
    let (work, dead) = (Queue::Work(HandlerName::RecordOptOut), Queue::Dead(HandlerName::RecordOptOut));
    let event = an_opt_out();
    broker.publish(&event).await.expect("stored");
    let delivery = first_of(&broker, work).await;
    delete(&channel, dead).await;
    let info = DeadLetterInfo {
        reason: DeadReason::Rejected,
        destination: Some(Destination::TextUs),
        status: Some(422),
        detail: "refused".to_owned(),
        attempts: 7,
        dead_lettered_at: Timestamp::now(),
    };
    settle(delivery, Settlement::DeadLetter(info.clone())).await;

    assert_eq!(fallen(&broker).await.exchange, "hookline.dead");
    broker.apply_topology().await.expect("declared");
    assert_eq!(broker.redrive_unrouted(10).await.expect("redriven"), 1);

    let delivery = first_of(&broker, dead).await;
    assert_eq!((delivery.event.id.clone(), delivery.dead.clone()), (event.id, Some(info)));
    settle(delivery, Settlement::Done).await;
    let mut deliveries = broker.consume(work, 1).await.expect("consumed");
    nothing_comes(&mut deliveries).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discarded_from_unrouted_is_gone() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let (_connection, channel) = operator(&url).await;
    for handler in [HandlerName::LogNote, HandlerName::RecordHistory] {
        delete(&channel, Queue::Work(handler)).await;
    }
    for _ in 0..3 {
        broker.publish(&an_inbound_message()).await.expect("stored");
    }

    let discarded = broker.discard_unrouted(2).await.expect("discarded");

    assert_eq!(discarded.len(), 2);
    assert_eq!(unrouted(&broker).await.len(), 1);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_queue_is_deleted_consumes_again_once_it_is_declared() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let (_connection, channel) = operator(&url).await;
    let queue = Queue::Work(HandlerName::LogNote);
    let mut deliveries = broker.consume(queue, 4).await.expect("consumed");

    delete(&channel, queue).await;

    let ended = tokio::time::timeout(DEADLINE, deliveries.next()).await.expect("it is told");
    assert!(ended.is_none());
    let consuming = async {
        loop {
            match broker.consume(queue, 4).await {
                Ok(deliveries) => return deliveries,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let mut deliveries = tokio::time::timeout(DEADLINE, consuming).await.expect("it is declared again");
    // The queue may exist a moment before it is bound.
    let mut published = BTreeSet::new();
    let delivery = loop {
        let event = an_inbound_message();
        broker.publish(&event).await.expect("stored");
        published.insert(event.id);
        if let Ok(delivery) = tokio::time::timeout(Duration::from_millis(200), deliveries.next()).await {
            break delivery.expect("the stream goes on");
        }
        assert!(published.len() < 100, "nothing is handed out");
    };
    assert!(published.contains(&delivery.event.id));
    settle(delivery, Settlement::Done).await;
    broker.close().await;
}

/// Declares the work queue of `log_note` with a delivery limit of its own.
async fn declare_otherwise(channel: &Channel) -> Queue {
    let queue = Queue::Work(HandlerName::LogNote);
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut other = FieldTable::default();
    other.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    other.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(7));
    channel.queue_declare(queue.name().as_str().into(), durable, other).await.expect("declared");
    queue
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_that_runs_goes_on_beside_a_queue_with_other_arguments() {
    let url = RabbitNode::shared().await.vhost().await;
    let ingest = ready(options(&url, RabbitRole::Ingest)).await;
    let (_connection, channel) = operator(&url).await;
    delete(&channel, Queue::Work(HandlerName::LogNote)).await;
    declare_otherwise(&channel).await;

    // A running broker declares everything every 30 s.
    let until = Instant::now() + Duration::from_secs(40);
    while Instant::now() < until {
        ingest.publish(&an_event("contact.created")).await.expect("the other queues take it");
        let state = ingest.state().borrow().clone();
        assert!(matches!(state, BrokerState::Ready), "{state:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ingest.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_is_named_with_the_remedy_and_waited_for() {
    let url = RabbitNode::shared().await.vhost().await;
    let (_connection, channel) = operator(&url).await;
    let queue = declare_otherwise(&channel).await;
    let name = queue.name();

    let broker = RabbitBroker::start(options(&url, RabbitRole::Worker));
    let told = |state: &BrokerState| matches!(state, BrokerState::NotReady(why) if why.contains(&name));
    let state = state_becomes(&broker, told).await;

    let BrokerState::NotReady(why) = state else { panic!("{state:?}") };
    assert!(why.contains("docs/runbooks.md"), "{why}");
    let differences = broker.differences().await.expect("asked");
    let other = differences.iter().find(|difference| matches!(difference, Difference::Other { .. })).expect("told");
    assert!(matches!(other, Difference::Other { object, .. } if object.contains(&name)), "{other:?}");
    delete(&channel, queue).await;
    broker.wait_ready(DEADLINE).await.expect("it goes on by itself");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_replaced_while_a_worker_runs_is_told_until_it_is_right_again() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let (_connection, channel) = operator(&url).await;
    delete(&channel, Queue::Work(HandlerName::LogNote)).await;
    let other = declare_otherwise(&channel).await;

    let name = other.name();
    state_becomes(&broker, |state| matches!(state, BrokerState::NotReady(why) if why.contains(&name))).await;
    broker.publish(&an_opt_out()).await.expect("what goes elsewhere is stored");

    delete(&channel, other).await;
    state_becomes(&broker, |state| *state == BrokerState::Ready).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_host_that_allows_too_few_queues_is_told_as_such_and_waited_for() {
    let node = RabbitNode::start().await;
    node.ctl(&["set_vhost_limits", r#"{"max-queues": 10}"#]).await;

    let broker = RabbitBroker::start(options(&node.url(), RabbitRole::Worker));
    let told = |state: &BrokerState| matches!(state, BrokerState::NotReady(why) if why.contains("max-queues"));
    let state = state_becomes(&broker, told).await;

    let BrokerState::NotReady(why) = state else { panic!("{state:?}") };
    assert!(why.contains("(10)") && why.contains("25 are needed"), "{why}");
    assert!(!why.contains("delete"), "nothing has to be deleted: {why}");
    node.ctl(&["clear_vhost_limits"]).await;
    broker.wait_ready(DEADLINE).await.expect("it goes on by itself");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switched_off_handler_gets_nothing_more_once_that_is_applied() {
    let url = RabbitNode::shared().await.vhost().await;
    let all = worker(&url).await;
    let mut without = options(&url, RabbitRole::Command);
    without.handlers.retain(|handler| *handler != HandlerName::LogNote);
    let operator = ready(without).await;

    operator.apply_topology().await.expect("applied");
    operator.publish(&an_inbound_message()).await.expect("stored");

    let mut deliveries = all.consume(Queue::Work(HandlerName::LogNote), 4).await.expect("its queue is still there");
    nothing_comes(&mut deliveries).await;
    assert_eq!(unrouted(&all).await, [], "it is not missing: nobody wants it");
    operator.close().await;
    all.close().await;
}

async fn unbind_contacts(channel: &Channel) {
    let queue = Queue::Work(HandlerName::CreateContact).name();
    let (source, key) = ("hookline.events".into(), "*.contact.created".into());
    channel.queue_unbind(queue.as_str().into(), source, key, FieldTable::default()).await.expect("unbound");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_unbinds_is_bound_again_by_an_ingest_that_runs() {
    let url = RabbitNode::shared().await.vhost().await;
    let ingest = ready(options(&url, RabbitRole::Ingest)).await;
    let command = ready(options(&url, RabbitRole::Command)).await;
    let (_connection, channel) = operator(&url).await;
    unbind_contacts(&channel).await;

    let mut deliveries = command.consume(Queue::Work(HandlerName::CreateContact), 4).await.expect("consumed");
    let bound_again = async {
        loop {
            ingest.publish(&an_event("contact.created")).await.expect("the history takes it");
            if let Ok(delivery) = tokio::time::timeout(Duration::from_millis(500), deliveries.next()).await {
                return delivery.expect("the stream goes on");
            }
        }
    };
    let delivery = tokio::time::timeout(DEADLINE, bound_again).await.expect("it is bound again");

    settle(delivery, Settlement::Done).await;
    command.close().await;
    ingest.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_unbinds_is_bound_again_when_a_worker_connects() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = worker(&url).await;
    let (_connection, channel) = operator(&url).await;
    unbind_contacts(&channel).await;
    broker.close().await;

    let broker: Arc<RabbitBroker> = worker(&url).await;
    let event = an_event("contact.created");
    broker.publish(&event).await.expect("stored");

    assert_eq!(drain(&broker, HandlerName::CreateContact).await, BTreeSet::from([event.id]));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_declares_nothing_by_itself() {
    let url = RabbitNode::shared().await.vhost().await;
    let broker = ready(options(&url, RabbitRole::Command)).await;

    let differences = broker.differences().await.expect("asked");

    assert!(!differences.is_empty());
    assert!(differences.iter().all(|difference| matches!(difference, Difference::Missing { .. })), "{differences:?}");
    broker.close().await;
}
