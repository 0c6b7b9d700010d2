//! Files that are removed or replaced while the broker has them open, and a wall clock that was set back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hookline_broker::conformance::{next, nothing_comes, settle};
use hookline_broker::embedded::EmbeddedBroker;
use hookline_broker::{Again, BrokerState, Consume, Publish, PublishError, QueueAdmin, Settlement, Spends};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::testing::events::an_inbound_message;
use hookline_common::time::Timestamp;
use sqlx::{Connection, Executor};

use crate::Directory;

const NOTES: Queue = Queue::Work(HandlerName::LogNote);

/// Waits until the broker reports that it has failed, and returns why.
async fn failed(broker: &Arc<EmbeddedBroker>) -> String {
    let mut state = broker.state();
    let failed = state.wait_for(|state| matches!(state, BrokerState::Failed(_)));
    let failed = tokio::time::timeout(Duration::from_secs(10), failed).await.expect("in time").expect("it is open");
    match &*failed {
        BrokerState::Failed(why) => why.clone(),
        other @ (BrokerState::Ready | BrokerState::NotReady(_)) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_into_a_file_that_no_restart_finds() {
    for (name, remedy) in [("broker.db", "removed"), ("broker.db-wal", "removed"), ("broker.lock", "removed")] {
        let directory = Directory::new();
        let broker = directory.open().await;
        broker.publish(&an_inbound_message()).await.unwrap();

        std::fs::remove_file(directory.dir.path().join(name)).unwrap();

        let published = broker.publish(&an_inbound_message()).await;
        assert!(matches!(published, Err(PublishError::Fatal(_))), "{name}: {published:?}");
        let why = failed(&broker).await;
        assert!(why.contains(name) && why.contains(remedy) && why.contains("docs/runbooks.md"), "{why}");
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_settled_or_put_again_in_a_file_that_no_restart_finds() {
    let directory = Directory::new();
    let broker = directory.open().await;
    let event = an_inbound_message();
    broker.publish(&event).await.unwrap();
    let mut notes = broker.consume(NOTES, 1).await.unwrap();
    let delivery = next(&mut notes).await;
    std::fs::remove_file(directory.dir.path().join("broker.db")).unwrap();

    let again = broker.publish_again(HandlerName::LogNote, &event, Again::Redrive).await;
    let settled = delivery.settle(Settlement::Done).await;

    assert!(matches!(again, Err(PublishError::Fatal(_))), "{again:?}");
    assert!(settled.is_err(), "{settled:?}");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_noticed_without_traffic() {
    let directory = Directory::new();
    let broker = directory.open().await;
    broker.publish(&an_inbound_message()).await.unwrap();

    let (path, copy) = (directory.dir.path().join("broker.db"), directory.dir.path().join("copy"));
    std::fs::copy(&path, &copy).unwrap();
    std::fs::rename(&copy, &path).unwrap();

    assert!(failed(&broker).await.contains("replaced by another file"));
    broker.close().await;
}

/// Adds to every time in the file, which is the same as setting the wall clock back by so much.
async fn set_clock_back(directory: &Path, by: Duration) {
    let url = format!("sqlite://{}", directory.join("broker.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("opened");
    let ms = by.as_millis();
    let script = format!(
        "UPDATE messages SET received_ms = received_ms + {ms}, stored_ms = stored_ms + {ms};
         UPDATE seen SET stored_ms = stored_ms + {ms};
         UPDATE queue SET due_ms = due_ms + {ms}, first_attempt_ms = first_attempt_ms + {ms};
         UPDATE meta SET value = value + {ms} WHERE name = 'clock';"
    );
    connection.execute(sqlx::AssertSqlSafe(script)).await.expect("changed");
    connection.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_two_hours_holds_nothing_back() {
    let directory = Directory::new();
    let broker = directory.open().await;
    let (parked, waiting) = (an_inbound_message(), an_inbound_message());
    broker.publish(&parked).await.unwrap();
    let mut notes = broker.consume(NOTES, 1).await.unwrap();
    let until = Timestamp::now().plus(Duration::from_secs(4));
    let park = Settlement::Park { until, spends: Spends::Attempt, last: None };
    settle(next(&mut notes).await, park).await;
    drop(notes);
    broker.publish(&waiting).await.unwrap();
    broker.close().await;
    set_clock_back(directory.dir.path(), Duration::from_secs(2 * 3600)).await;

    let broker = directory.open().await;
    let mut notes = broker.consume(NOTES, 2).await.unwrap();
    let first = next(&mut notes).await;
    assert_eq!(first.event.id, waiting.id, "what was due is due");
    let now = Timestamp::now();
    assert!(first.first_attempt_at <= now && now.since(first.first_attempt_at) < Duration::from_secs(60));
    nothing_comes(&mut notes).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for depth in broker.queues().await.unwrap().iter().filter(|depth| depth.messages > 0) {
        let oldest = depth.oldest.expect("something waits");
        assert!(Timestamp::now().since(oldest) >= Duration::from_secs(1), "{:?} has no age", depth.queue);
    }
    settle(first, Settlement::Done).await;
    let second = tokio::time::timeout(Duration::from_secs(20), notes.next()).await.expect("its delay is over");
    let second = second.unwrap();
    assert_eq!((&second.event.id, second.attempt), (&parked.id, 2));
    settle(second, Settlement::Done).await;
    broker.close().await;
}
