//! Promises that only the embedded broker makes: one owner, exact duplicates, leases that run out, private files, and
//! noticing other processes' changes.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookline_broker::conformance::{next, nothing_comes, settle};
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions, forgetful_file_system};
use hookline_broker::{
    Again, BrokerError, BrokerState, Consume, DeadLetterInfo, Publish, PublishError, QueueAdmin, Resumed, Settled,
    Settlement,
};
use hookline_common::event::Event;
use hookline_common::names::{DeadReason, HandlerName, Queue};
use hookline_common::testing::events::{an_event, an_inbound_message, an_opt_out};
use hookline_common::time::Timestamp;

use crate::Directory;

const NOTES: Queue = Queue::Work(HandlerName::LogNote);
const DEAD_NOTES: Queue = Queue::Dead(HandlerName::LogNote);

#[tokio::test]
async fn a_second_owner_is_told_who_has_the_directory() {
    let directory = Directory::new();
    let first = directory.open().await;

    let second = EmbeddedBroker::open(directory.options()).await;

    let Err(BrokerError::Owned(message)) = second.map(|_| ()) else { panic!("two owners") };
    assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
    assert!(message.contains("data_dir"), "{message}");
    first.close().await;
    directory.open().await.close().await;
}

#[tokio::test]
async fn a_guest_may_publish_but_not_consume() {
    let directory = Directory::new();
    let guest = EmbeddedBroker::open(directory.options().guest()).await.unwrap();

    assert!(matches!(guest.consume(NOTES, 1).await.map(|_| ()), Err(BrokerError::Owned(_))));
    assert!(!guest.publish(&an_inbound_message()).await.unwrap().duplicate);
    guest.close().await;

    let owner = directory.open().await;
    let mut notes = owner.consume(NOTES, 1).await.unwrap();
    settle(next(&mut notes).await, Settlement::Done).await;
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_by_another_process_is_noticed() {
    let directory = Directory::new();
    let owner = directory.open().await;
    let mut notes = owner.consume(NOTES, 4).await.unwrap();
    let event = an_inbound_message();
    let guest = EmbeddedBroker::open(directory.options().guest()).await.unwrap();

    guest.publish_again(HandlerName::LogNote, &event, Again::Redrive).await.unwrap();

    let delivery = tokio::time::timeout(Duration::from_secs(2), notes.next()).await.expect("noticed").unwrap();
    assert_eq!((&*delivery.event, delivery.again), (&event, Some(Again::Redrive)));
    settle(delivery, Settlement::Done).await;
    guest.close().await;
    owner.close().await;
}

#[tokio::test]
async fn a_repeat_is_known_after_it_was_settled_and_after_a_restart() {
    let directory = Directory::new();
    let broker = EmbeddedBroker::open(EmbeddedOptions { handlers: vec![HandlerName::LogNote], ..directory.options() });
    let broker = broker.await.unwrap();
    let event = an_inbound_message();
    broker.publish(&event).await.unwrap();
    let mut notes = broker.consume(NOTES, 4).await.unwrap();
    settle(next(&mut notes).await, Settlement::Done).await;
    assert!(broker.publish(&event).await.unwrap().duplicate);
    broker.close().await;

    let broker = directory.open().await;
    let mut notes = broker.consume(NOTES, 4).await.unwrap();
    assert!(broker.publish(&event).await.unwrap().duplicate);
    nothing_comes(&mut notes).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_copies_at_once_one_is_new() {
    let directory = Directory::new();
    let broker = directory.open().await;
    let events: Vec<Event> = (0..50).map(|_| an_inbound_message()).collect();
    broker.publish(&events[7]).await.unwrap();

    let copies = events.iter().chain(&events).chain(&events).cloned().map(|event| {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { broker.publish(&event).await.unwrap().duplicate })
    });
    let answers = futures::future::join_all(copies.collect::<Vec<_>>()).await;

    let new = answers.into_iter().filter(|duplicate| !*duplicate.as_ref().unwrap()).count();
    assert_eq!(new, 49, "one was there before");
    let depth = broker.queues().await.unwrap().into_iter().find(|depth| depth.queue == NOTES).unwrap();
    assert_eq!(depth.messages, 50);
    broker.close().await;
}

#[tokio::test]
async fn an_event_that_no_enabled_handler_takes_is_remembered_but_not_kept() {
    let directory = Directory::new();
    let options = EmbeddedOptions { handlers: vec![HandlerName::LogNote], ..directory.options() };
    let broker = EmbeddedBroker::open(options).await.unwrap();
    let event = an_event("deal.won");

    assert!(!broker.publish(&event).await.unwrap().duplicate);
    assert!(broker.publish(&event).await.unwrap().duplicate);
    assert!(broker.queues().await.unwrap().iter().all(|depth| depth.messages == 0));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_is_handed_out_again_and_its_holder_has_lost_it() {
    let directory = Directory::new();
    let lease = Duration::from_millis(300);
    let broker = directory.open_with(EmbeddedOptions { lease, ..directory.options() }).await;
    let event = an_inbound_message();
    broker.publish(&event).await.unwrap();
    let mut notes = broker.consume(NOTES, 2).await.unwrap();

    let frozen = next(&mut notes).await;
    let second = next(&mut notes).await;

    assert_eq!((second.event.id.clone(), second.redeliveries), (event.id.clone(), 1));
    assert_eq!(frozen.settle(Settlement::Done).await.unwrap(), Settled::Lost);
    settle(second, Settlement::Done).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_again_while_it_waits_changes_nothing() {
    let directory = Directory::new();
    let broker = directory.open().await;
    let event = an_inbound_message();
    broker.publish(&event).await.unwrap();

    broker.publish_again(HandlerName::LogNote, &event, Again::Replay).await.unwrap();
    let mut notes = broker.consume(NOTES, 4).await.unwrap();
    let held = next(&mut notes).await;
    broker.publish_again(HandlerName::LogNote, &event, Again::Replay).await.unwrap();

    assert_eq!(held.again, None);
    nothing_comes(&mut notes).await;
    settle(held, Settlement::Done).await;
    nothing_comes(&mut notes).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_takes_a_dead_letter_that_was_not_settled_yet_and_nothing_else_does() {
    let directory = Directory::new();
    let broker = directory.open().await;
    let event = an_inbound_message();
    broker.publish(&event).await.unwrap();
    let mut notes = broker.consume(NOTES, 4).await.unwrap();
    let mut dead = broker.consume(DEAD_NOTES, 4).await.unwrap();
    let info = DeadLetterInfo {
        reason: DeadReason::Rejected,
        destination: None,
        status: None,
        detail: String::new(),
        attempts: 1,
        dead_lettered_at: Timestamp::now(),
    };
    settle(next(&mut notes).await, Settlement::DeadLetter(info)).await;
    let letter = next(&mut dead).await;

    let from = Resumed { attempt: 1, first_attempt_at: None, copy: Timestamp::now() };
    broker.publish_anew(HandlerName::LogNote, &event, from).await.unwrap();
    nothing_comes(&mut notes).await;
    broker.publish_again(HandlerName::LogNote, &event, Again::Redrive).await.unwrap();

    let redriven = next(&mut notes).await;
    assert_eq!((redriven.attempt, redriven.again, redriven.dead.clone()), (1, Some(Again::Redrive), None));
    assert_eq!(letter.settle(Settlement::Done).await.unwrap(), Settled::Lost);
    settle(redriven, Settlement::Done).await;
    broker.close().await;
}

#[tokio::test]
async fn an_id_is_forgotten_after_the_retention_but_not_while_its_event_waits() {
    let directory = Directory::new();
    let retention = Duration::ZERO;
    let broker = directory.open_with(EmbeddedOptions { retention, ..directory.options() }).await;
    let (settled, waiting) = (an_event("deal.won"), an_event("deal.lost"));
    broker.publish(&settled).await.unwrap();
    let mut history = broker.consume(Queue::Work(HandlerName::RecordHistory), 1).await.unwrap();
    settle(next(&mut history).await, Settlement::Done).await;
    drop(history);
    broker.publish(&waiting).await.unwrap();

    // An id is not old enough in the millisecond in which it was stored, so we retry.
    let forgotten = async {
        loop {
            let forgotten = broker.forget_old_ids().await;
            if forgotten > 0 {
                return forgotten;
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), forgotten).await.expect("forgotten"), 1);

    assert!(!broker.publish(&settled).await.unwrap().duplicate);
    assert!(broker.publish(&waiting).await.unwrap().duplicate);
    broker.close().await;
}

#[tokio::test]
async fn any_body_comes_back_byte_for_byte() {
    let directory = Directory::new();
    let broker = directory.open().await;
    let bodies = [Bytes::new(), Bytes::from_static(b"\0\xff\xfe{\"a\":\0}"), Bytes::from(vec![0x80; 1 << 20])];
    let mut history = broker.consume(Queue::Work(HandlerName::RecordHistory), 4).await.unwrap();

    for body in bodies {
        let event = Event { body, content_type: None, traceparent: Some("00-a-b-01".to_owned()), ..an_opt_out() };
        broker.publish(&event).await.unwrap();
        let delivery = next(&mut history).await;
        assert!(*delivery.event == event);
        settle(delivery, Settlement::Done).await;
    }
    broker.close().await;
}

#[tokio::test]
async fn only_this_user_can_read_the_files() {
    let directory = Directory::new();
    let data_dir = directory.dir.path().join("data");
    assert!(!EmbeddedBroker::exists(&data_dir));
    let options = EmbeddedOptions { data_dir: data_dir.clone(), ..directory.options() };
    let broker = EmbeddedBroker::open(options).await.unwrap();
    broker.publish(&an_inbound_message()).await.unwrap();

    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data_dir), 0o700);
    for file in std::fs::read_dir(&data_dir).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert!(EmbeddedBroker::exists(&data_dir));
    broker.close().await;
}

#[tokio::test]
async fn a_closed_broker_refuses_and_a_healthy_one_is_ready() {
    let directory = Directory::new();
    let broker = directory.open().await;
    assert_eq!(*broker.state().borrow(), BrokerState::Ready);
    broker.close().await;

    assert!(matches!(broker.publish(&an_inbound_message()).await, Err(PublishError::Unavailable(_))));
    assert!(matches!(broker.queues().await.map(|_| ()), Err(BrokerError::Unavailable(_))));
}

/// A log that is left would hide damage to the file from the next start, and keep what was erased.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_broker_leaves_no_log_beside_its_file() {
    for _ in 0..5 {
        let directory = Directory::new();
        let broker = directory.open().await;
        broker.publish(&an_inbound_message()).await.unwrap();
        let event = Event { body: Bytes::from_static(b"what the checkpointer has copied"), ..an_inbound_message() };
        broker.publish(&event).await.unwrap();
        let copied = async {
            let holds = |file: Vec<u8>| file.windows(event.body.len()).any(|window| window == event.body);
            while !holds(std::fs::read(directory.dir.path().join("broker.db")).unwrap()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), copied).await.expect("the checkpointer copies the log");

        broker.close().await;

        let left: Vec<_> =
            std::fs::read_dir(directory.dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("-wal")), "{left:?}");
    }
}

#[test]
fn a_file_system_in_memory_is_recognised() {
    let shared_memory = std::path::Path::new("/dev/shm");
    if shared_memory.is_dir() {
        assert_eq!(forgetful_file_system(shared_memory), Some("tmpfs"));
    }
    assert_eq!(forgetful_file_system(std::path::Path::new("/proc")), None);
}
