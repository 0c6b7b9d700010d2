//! The exchanges of earlier versions: an older ingest or worker runs beside this version, and its left-overs are
//! removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookline_broker::rabbitmq::{Difference, RabbitBroker, RabbitRole};
use hookline_broker::topology::rabbitmq::{Argument, EVENTS, ExchangeKind, Topology, event_bindings};
use hookline_broker::{Consume, Publish, Settlement};
use hookline_common::event::{Event, EventId};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::testing::events::{an_inbound_message, an_opt_out};
use hookline_common::testing::nodes::RabbitNode;
use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind as LapinKind};

use super::topology::{operator, unrouted};
use super::{QUIET, options, ready, worker};

async fn declare_exchange(channel: &Channel, name: &str, kind: LapinKind, alternate: Option<&str>) {
    let mut arguments = FieldTable::default();
    if let Some(alternate) = alternate {
        arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.into()));
    }
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), kind, durable, arguments).await.expect("declared");
}

async fn bind_queue(channel: &Channel, queue: &str, exchange: &str, key: &str) {
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, arguments).await.expect("bound");
}

/// Does what a process of an earlier version does when it connects, and what its worker does every 30 s. It declares
/// all that this version declares, except that `hookline.events` is bound to a fanout exchange in front of each work
/// queue, which has the queue's name.
async fn declare_as_earlier(channel: &Channel) {
    let today = Topology::of(HandlerName::ALL);
    declare_exchange(channel, "hookline.control", LapinKind::Fanout, None).await;
    for exchange in today.exchanges {
        let kind = if exchange.kind == ExchangeKind::Topic { LapinKind::Topic } else { LapinKind::Fanout };
        declare_exchange(channel, exchange.name, kind, exchange.alternate).await;
    }
    for queue in today.queues {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        for (name, value) in queue.arguments {
            let value = match value {
                Argument::Text(text) => AMQPValue::LongString(text.into()),
                Argument::Number(number) => AMQPValue::LongLongInt(number),
            };
            arguments.insert(name.into(), value);
        }
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.queue.name().as_str().into(), durable, arguments).await.expect("declared");
    }
    for binding in today.bindings.iter().filter(|binding| binding.source != EVENTS) {
        bind_queue(channel, &binding.queue.name(), binding.source, &binding.key).await;
    }
    for handler in HandlerName::ALL {
        let guard = Queue::Work(*handler).name();
        declare_exchange(channel, &guard, LapinKind::Fanout, Some("hookline.unrouted")).await;
        bind_queue(channel, &guard, &guard, "").await;
        for binding in event_bindings(*handler) {
            let (options, arguments) = (ExchangeBindOptions::default(), FieldTable::default());
            let (source, key) = (EVENTS.into(), binding.key.as_str().into());
            channel.exchange_bind(guard.as_str().into(), source, key, options, arguments).await.expect("bound");
        }
    }
}

/// How many copies of each event a handler's queue holds; takes them out.
async fn copies(broker: &RabbitBroker, handler: HandlerName) -> BTreeMap<EventId, u32> {
    let mut deliveries = broker.consume(Queue::Work(handler), 256).await.expect("consumed");
    let mut copies = BTreeMap::new();
    while let Ok(Some(delivery)) = tokio::time::timeout(QUIET, deliveries.next()).await {
        *copies.entry(delivery.event.id.clone()).or_default() += 1;
        hookline_broker::conformance::settle(delivery, Settlement::Done).await;
    }
    copies
}

/// Asserts that each event is in each queue that takes it, exactly once, and nowhere else.
async fn are_there_once(broker: &RabbitBroker, opt_outs: &[Event]) {
    let once: BTreeMap<EventId, u32> = opt_outs.iter().map(|event| (event.id.clone(), 1)).collect();
    for handler in [HandlerName::RecordOptOut, HandlerName::FlagOptOut, HandlerName::RecordHistory] {
        assert_eq!(copies(broker, handler).await, once, "{handler}");
    }
    assert_eq!(copies(broker, HandlerName::LogNote).await, BTreeMap::new());
    assert_eq!(unrouted(broker).await, []);
}

async fn published(broker: &RabbitBroker) -> Event {
    let event = an_opt_out();
    broker.publish(&event).await.expect("stored");
    event
}

fn left_over() -> Vec<Difference> {
    let guards = HandlerName::ALL.iter().map(|handler| Queue::Work(*handler).name());
    let exchanges = guards.chain(["hookline.control".to_owned()]);
    exchanges.map(|exchange| Difference::LeftOver { object: format!("exchange {exchange}") }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_each_queue_once_while_an_earlier_version_runs_beside_this_one() {
    let url = RabbitNode::shared().await.vhost().await;
    let (_connection, channel) = operator(&url).await;
    declare_as_earlier(&channel).await;

    let ingest = ready(options(&url, RabbitRole::Ingest)).await;
    let mut events = vec![published(&ingest).await];
    declare_as_earlier(&channel).await;
    events.push(published(&ingest).await);

    let command = ready(options(&url, RabbitRole::Command)).await;
    are_there_once(&command, &events).await;
    assert_eq!(command.differences().await.expect("asked"), left_over());
    command.close().await;
    ingest.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_left_is_removed_while_events_come_and_none_is_lost() {
    let url = RabbitNode::shared().await.vhost().await;
    let (_connection, channel) = operator(&url).await;
    declare_as_earlier(&channel).await;
    let broker = worker(&url).await;
    let publisher = Arc::clone(&broker);
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let publishing = tokio::spawn(async move {
        let mut events = Vec::new();
        while !*stopped.borrow_and_update() {
            events.push(published(&publisher).await);
        }
        events.push(published(&publisher).await);
        events
    });

    broker.apply_topology().await.expect("applied");

    assert_eq!(broker.differences().await.expect("asked"), []);
    stop.send_replace(true);
    let events = publishing.await.expect("no panic");
    are_there_once(&broker, &events).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_version_that_comes_back_after_the_removal_harms_nothing() {
    let url = RabbitNode::shared().await.vhost().await;
    let (_connection, channel) = operator(&url).await;
    let broker = worker(&url).await;
    broker.apply_topology().await.expect("applied");

    declare_as_earlier(&channel).await;
    let event = published(&broker).await;

    are_there_once(&broker, &[event]).await;
    assert_eq!(broker.differences().await.expect("asked"), left_over());
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_to_which_somebody_else_bound_a_queue_stays_and_is_fed() {
    let url = RabbitNode::shared().await.vhost().await;
    let (_connection, channel) = operator(&url).await;
    declare_as_earlier(&channel).await;
    let guard = Queue::Work(HandlerName::LogNote).name();
    channel
        .queue_declare("audit".into(), QueueDeclareOptions::default(), FieldTable::default())
        .await
        .expect("declared");
    bind_queue(&channel, "audit", &guard, "").await;
    let broker = worker(&url).await;

    broker.apply_topology().await.expect("applied");
    let left = broker.differences().await.expect("asked");
    let event = an_inbound_message();
    broker.publish(&event).await.expect("stored");

    assert_eq!(left, [Difference::LeftOver { object: format!("exchange {guard}") }]);
    assert_eq!(copies(&broker, HandlerName::LogNote).await, BTreeMap::from([(event.id, 1)]));
    let audited = channel.queue_delete("audit".into(), QueueDeleteOptions::default()).await.expect("deleted");
    assert_eq!(audited, 1, "the queue of somebody else gets its events still");
    broker.apply_topology().await.expect("applied");
    assert_eq!(broker.differences().await.expect("asked"), []);
    broker.close().await;
}
