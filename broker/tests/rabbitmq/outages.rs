//! The broker is away, blocked, or back: what we report meanwhile, and that everything resumes by itself.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hookline_broker::conformance::{next, settle};
use hookline_broker::rabbitmq::RabbitRole;
use hookline_broker::{BrokerState, Consume, Publish, PublishError, Settled, Settlement, Spends};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::testing::events::an_inbound_message;
use hookline_common::testing::nodes::RabbitNode;
use hookline_common::time::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{DEADLINE, drain, options, ready, state_becomes, worker};

const NOTES: Queue = Queue::Work(HandlerName::LogNote);
const ALARM: &[&str] = &["set_vm_memory_high_watermark", "0.0000001"];
const ALL_CLEAR: &[&str] = &["set_vm_memory_high_watermark", "0.4"];

fn is_away(state: &BrokerState) -> bool {
    matches!(state, BrokerState::NotReady(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_and_ends_by_itself() {
    let node = RabbitNode::start().await;
    let broker = worker(&node.url()).await;
    let mut deliveries = broker.consume(NOTES, 8).await.expect("consumed");

    node.kill().await;
    state_becomes(&broker, is_away).await;
    assert!(
        matches!(broker.publish(&an_inbound_message()).await, Err(PublishError::Unavailable(_))),
        "refused at once"
    );
    let ended = tokio::time::timeout(DEADLINE, deliveries.next()).await.expect("the consumer is told");
    assert!(ended.is_none());

    node.up().await;
    broker.wait_ready(DEADLINE).await.expect("ready again");
    let event = an_inbound_message();
    broker.publish(&event).await.expect("stored");
    let mut deliveries = broker.consume(NOTES, 8).await.expect("consumed");
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.event.id, event.id);
    settle(delivery, Settlement::Done).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_yet_is_waited_for() {
    let node = RabbitNode::start().await;
    node.stop().await;
    let broker = hookline_broker::rabbitmq::RabbitBroker::start(options(&node.url(), RabbitRole::Ingest));

    let away =
        state_becomes(&broker, |state| matches!(state, BrokerState::NotReady(why) if why.contains("away"))).await;
    assert!(is_away(&away));
    node.up().await;

    broker.wait_ready(DEADLINE).await.expect("ready");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_that_answers_is_taken() {
    let url = RabbitNode::shared().await.vhost().await;
    let mut several = options(&url, RabbitRole::Ingest);
    for dead in ["amqp://guest:guest@127.0.0.1:1/%2f", "amqp://guest:guest@127.0.0.1:2/%2f"] {
        several.urls.push(hookline_common::secret::Secret::new(dead));
    }

    let broker = ready(several).await;

    broker.publish(&an_inbound_message()).await.expect("stored");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_an_alarm_publishes_are_bounded_and_unknown_acks_go_on_and_all_recovers() {
    let node = RabbitNode::start().await;
    let broker = worker(&node.url()).await;
    for _ in 0..8 {
        broker.publish(&an_inbound_message()).await.expect("stored");
    }
    let mut deliveries = broker.consume(NOTES, 8).await.expect("consumed");
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(next(&mut deliveries).await);
    }

    node.ctl(ALARM).await;
    let events: Vec<_> = (0..100).map(|_| an_inbound_message()).collect();
    let publishing = events.iter().map(|event| {
        let (broker, event) = (Arc::clone(&broker), event.clone());
        tokio::spawn(async move { broker.publish(&event).await })
    });
    let answers = join_all(publishing).await;
    let unknown = answers.iter().filter(|answer| matches!(answer, Ok(Err(PublishError::Unknown)))).count();
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Err(_)))), "none is called stored: {answers:?}");
    assert!(unknown > 0, "what was sent may still arrive");
    let blocked = state_becomes(&broker, is_away).await;
    assert!(matches!(&blocked, BrokerState::NotReady(why) if why.contains("alarm")), "{blocked:?}");
    let parked = held.pop().expect("eight were handed out");
    let until = Timestamp::now().plus(Duration::from_millis(100));
    let parking = tokio::spawn(async move {
        settle(parked, Settlement::Park { until, spends: Spends::Attempt, last: None }).await;
    });
    for delivery in held {
        settle(delivery, Settlement::Done).await;
    }

    assert!(!parking.is_finished(), "what must be published waits");
    node.ctl(ALL_CLEAR).await;
    broker.wait_ready(DEADLINE).await.expect("ready again");
    tokio::time::timeout(DEADLINE, parking).await.expect("within the deadline").expect("parked");
    let mut arrived = 0;
    loop {
        let delivery = next(&mut deliveries).await;
        if delivery.attempt == 2 {
            settle(delivery, Settlement::Done).await;
            break;
        }
        assert!(events.iter().any(|event| event.id == delivery.event.id), "a late arrival keeps its id");
        arrived += 1;
        settle(delivery, Settlement::Done).await;
    }
    assert!(arrived <= unknown, "{arrived} of {unknown}");
    drop(deliveries);
    drain(&broker, HandlerName::LogNote).await;
    broker.close().await;
}

/// Forwards connections to a node until they are cut.
struct Wire {
    url: String,
    cut: Arc<watch::Sender<()>>,
}

impl Wire {
    async fn to(node: &RabbitNode) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let (here, there) = (listener.local_addr().expect("bound").port(), node.port());
        let cut = Arc::new(watch::Sender::new(()));
        let cuts = Arc::clone(&cut);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut cut = cuts.subscribe();
                tokio::spawn(async move {
                    let mut node = TcpStream::connect((Ipv4Addr::LOCALHOST, there)).await.expect("the node is there");
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut node) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { url: node.url().replace(&format!(":{there}/"), &format!(":{here}/")), cut }
    }
}

/// lapin never answers an ack that comes after its connection's reader has ended and before its command queue ends:
/// about every second cut shows that.
#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_meets_the_end_of_its_connection_is_answered() {
    const AT_ONCE: u16 = 200;
    let node = RabbitNode::start().await;
    let wire = Wire::to(&node).await;
    let broker = worker(&wire.url).await;
    let mut cuts_met = 0;
    for _ in 0..30 {
        let mut deliveries = loop {
            match broker.consume(NOTES, AT_ONCE).await {
                Ok(deliveries) => break deliveries,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        join_all((0..AT_ONCE).map(async |_| {
            while broker.publish(&an_inbound_message()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }))
        .await;
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(next(&mut deliveries).await);
        }
        let cut_at = rand::random_range(20..AT_ONCE - 60);
        let mut settling = Vec::new();
        for (place, delivery) in (0..).zip(held) {
            if place == cut_at {
                wire.cut.send_replace(());
            }
            settling.push(tokio::spawn(delivery.settle(Settlement::Done)));
            if place % 20 == 0 {
                // The acks are spread over a few milliseconds, so that some are in flight when the connection ends.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let settled = tokio::time::timeout(DEADLINE, join_all(settling)).await.expect("each is answered");
        let confirmed = settled.iter().filter(|settled| matches!(settled, Ok(Ok(Settled::Confirmed)))).count();
        // If all are confirmed, the cut came too late to meet one.
        cuts_met += usize::from(confirmed < usize::from(AT_ONCE));
        if cuts_met == 5 {
            break;
        }
    }
    assert_eq!(cuts_met, 5, "cuts that met acks on their way");
    broker.abandon().await;
}

/// Accepts connections and says nothing on them.
async fn silent_peer() -> (String, tokio::sync::mpsc::Receiver<tokio::net::TcpStream>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("amqp://guest:guest@{}/%2f", listener.local_addr().expect("an address"));
    let (accepted, connections) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            if accepted.send(connection).await.is_err() {
                return;
            }
        }
    });
    (url, connections)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_not_answered_leaves_no_socket_open() {
    let (url, mut connections) = silent_peer().await;
    let broker = hookline_broker::rabbitmq::RabbitBroker::start(options(&url, RabbitRole::Ingest));

    // A second connection shows that the first handshake was given up.
    let mut first = connections.recv().await.expect("a connection");
    let second = tokio::time::timeout(DEADLINE, connections.recv()).await.expect("another try");
    assert!(second.is_some());

    let mut received = Vec::new();
    let until_closed = tokio::io::AsyncReadExt::read_to_end(&mut first, &mut received);
    tokio::time::timeout(DEADLINE, until_closed).await.expect("the socket is closed").expect("an orderly end");
    assert!(received.starts_with(b"AMQP"));
    broker.close().await;
}
