//! One queue's trouble stays its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use hookline_broker::rabbitmq::{RabbitBroker, RabbitRole};
use hookline_broker::{BrokerState, Consume, Publish, Settlement};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::testing::events::{an_event, an_inbound_message, an_opt_out};
use hookline_common::testing::nodes::RabbitNode;

use super::{DEADLINE, drain, eventually, options, ready};

/// Stops or continues the process in RabbitMQ that replicates one queue: the queue accepts messages and confirms none.
async fn replication(node: &RabbitNode, queue: Queue, verb: &str) {
    let expression = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{}\">>)), {{Name, _}} = amqqueue:get_pid(Q), \
         sys:{verb}(Name).",
        queue.name()
    );
    node.ctl(&["eval", &expression]).await;
}

/// Publishes messages until `stop`; returns how many were stored.
fn messages(broker: &Arc<RabbitBroker>, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    let (broker, stop) = (Arc::clone(broker), Arc::clone(stop));
    tokio::spawn(async move {
        let mut stored = 0;
        while !stop.load(Ordering::Relaxed) {
            match broker.publish(&an_inbound_message()).await {
                Ok(_) => stored += 1,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        stored
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_notes_queue_confirms_nothing_opt_outs_and_contacts_are_stored() {
    let node = RabbitNode::start().await;
    let broker = ready(options(&node.url(), RabbitRole::Worker)).await;
    let notes = Queue::Work(HandlerName::LogNote);
    replication(&node, notes, "suspend").await;
    let stop = Arc::new(AtomicBool::new(false));
    // More than may be in flight.
    let load: Vec<_> = (0..300).map(|_| messages(&broker, &stop)).collect();
    eventually("it is told", || !broker.degraded().is_empty()).await;

    for number in 0..150 {
        let opt_out = broker.publish(&an_opt_out()).await;
        assert!(opt_out.is_ok(), "opt-out {number}: {opt_out:?}");
        let contact = broker.publish(&an_event("contact.created")).await;
        assert!(contact.is_ok(), "contact {number}: {contact:?}");
        assert_eq!(*broker.state().borrow(), BrokerState::Ready, "other webhooks are made durable");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    eventually("it is told what cannot be published", || {
        broker.degraded().iter().any(|why| why.starts_with("notes and others cannot be published"))
    })
    .await;
    replication(&node, notes, "resume").await;
    let event = an_inbound_message();
    let published = async {
        while broker.publish(&event).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, published).await.expect("notes are stored again");
    stop.store(true, Ordering::Relaxed);
    let stored: usize = join_all(load).await.into_iter().map(|stored| stored.expect("no panic")).sum();
    eventually("all is well", || broker.degraded().is_empty()).await;
    assert_eq!(drain(&broker, HandlerName::RecordOptOut).await.len(), 150);
    assert!(drain(&broker, HandlerName::LogNote).await.len() > stored);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_limits_the_unrouted_queue_refuses_and_drops_nothing() {
    let node = RabbitNode::start().await;
    let broker = ready(options(&node.url(), RabbitRole::Worker)).await;
    node.ctl(&["set_policy", "--apply-to", "queues", "short", "^hookline\\.unrouted$", r#"{"max-length":2}"#]).await;
    let (_connection, channel) = super::topology::operator(&node.url()).await;
    for handler in HandlerName::ALL {
        let name = Queue::Work(*handler).name();
        channel
            .queue_delete(name.as_str().into(), lapin::options::QueueDeleteOptions::default())
            .await
            .expect("deleted");
    }

    let mut stored = Vec::new();
    for _ in 0..40 {
        let event = an_opt_out();
        // What it refuses is not stored, and ingest spools or answers 503.
        if broker.publish(&event).await.is_ok() {
            stored.push(event.id);
        }
    }

    let kept = super::topology::unrouted(&broker).await;
    broker.apply_topology().await.expect("declared");
    let routed = drain(&broker, HandlerName::RecordOptOut).await;
    for id in &stored {
        assert!(routed.contains(id) || kept.iter().any(|event| event.id == *id), "{id} was stored and is gone");
    }
    assert!(!stored.is_empty());
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_host_that_allows_too_few_connections_is_told_as_such_and_waited_for() {
    let node = RabbitNode::start().await;
    node.ctl(&["set_vhost_limits", r#"{"max-connections": 0}"#]).await;

    let broker = RabbitBroker::start(options(&node.url(), RabbitRole::Worker));
    let told = |state: &BrokerState| matches!(state, BrokerState::NotReady(why) if why.contains("max-connections"));
    let state = super::state_becomes(&broker, told).await;

    let BrokerState::NotReady(why) = state else { panic!("{state:?}") };
    assert!(why.contains("set_vhost_limits"), "{why}");
    node.ctl(&["clear_vhost_limits"]).await;
    broker.wait_ready(DEADLINE).await.expect("it goes on by itself");
    let mut notes = broker.consume(Queue::Work(HandlerName::LogNote), 1).await.expect("consumed");
    broker.publish(&an_inbound_message()).await.expect("stored");
    hookline_broker::conformance::settle(notes.next().await.expect("a delivery"), Settlement::Done).await;
    broker.close().await;
}
