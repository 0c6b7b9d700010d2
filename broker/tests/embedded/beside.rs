//! Another connection to the file, as the command line or a back-up tool opens one: what it writes and what it blocks.

use std::time::Duration;

use hookline_broker::conformance::{next, settle};
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_broker::{Again, BrokerState, Consume, Publish, PublishError, QueueAdmin, Settlement};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::testing::events::an_inbound_message;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Executor};
use tokio::time::timeout;

use crate::Directory;

const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_can_be_stored_it_is_not_ready_and_it_recovers_without_traffic() {
    let directory = Directory::new();
    let busy_timeout = Duration::from_millis(50);
    let broker = directory.open_with(EmbeddedOptions { busy_timeout, ..directory.options() }).await;
    let mut state = broker.state();
    let event = an_inbound_message();
    broker.publish(&event).await.unwrap();
    let mut other = connect(&directory).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();

    let refused = broker.publish(&an_inbound_message()).await;
    assert!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
    assert!(matches!(&*state.borrow_and_update(), BrokerState::NotReady(reason) if reason.contains("lock")));
    // The broker's own probe changes nothing while the lock is held.
    timeout(DEADLINE, state.changed()).await.expect("it looks again by itself").unwrap();
    assert!(matches!(&*state.borrow_and_update(), BrokerState::NotReady(_)));

    other.execute("ROLLBACK").await.unwrap();
    let ready = state.wait_for(|state| *state == BrokerState::Ready);
    timeout(DEADLINE, ready).await.expect("it recovers without a publish").unwrap();
    assert!(broker.publish(&event).await.unwrap().duplicate);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_that_is_stored_makes_it_ready_at_once() {
    let directory = Directory::new();
    let busy_timeout = Duration::from_millis(50);
    let broker = directory.open_with(EmbeddedOptions { busy_timeout, ..directory.options() }).await;
    let mut other = connect(&directory).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    broker.publish(&an_inbound_message()).await.unwrap_err();
    assert!(matches!(&*broker.state().borrow(), BrokerState::NotReady(_)));
    other.execute("ROLLBACK").await.unwrap();

    broker.publish(&an_inbound_message()).await.unwrap();

    // The answer may arrive a moment before the state changes.
    let mut state = broker.state();
    let ready = state.wait_for(|state| *state == BrokerState::Ready);
    timeout(Duration::from_millis(300), ready).await.expect("before it would look by itself").unwrap();
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_sends_again_is_due_by_any_clock() {
    let directory = Directory::new();
    let guest = EmbeddedBroker::open(directory.options().guest()).await.unwrap();
    guest.publish_again(HandlerName::LogNote, &an_inbound_message(), Again::Redrive).await.unwrap();
    guest.close().await;

    // No test can step the clock of one process, so we check in the file that no clock was used.
    let mut other = connect(&directory).await;
    let due_ms: i64 = sqlx::query_scalar("SELECT due_ms FROM queue").fetch_one(&mut other).await.unwrap();
    assert_eq!(due_ms, 0);
    let owner = directory.open().await;
    let mut notes = owner.consume(Queue::Work(HandlerName::LogNote), 1).await.unwrap();
    settle(next(&mut notes).await, Settlement::Done).await;
    owner.close().await;
}

async fn connect(directory: &Directory) -> SqliteConnection {
    let file = SqliteConnectOptions::new().filename(directory.dir.path().join("broker.db"));
    SqliteConnection::connect_with(&file).await.expect("the file opens")
}
