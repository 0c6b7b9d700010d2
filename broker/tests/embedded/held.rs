//! Deliveries that wait without spending an attempt: their panics stay counted, their age stands still, and none is
//! late.

use std::time::Duration;

use hookline_broker::conformance::{next, nothing_comes, settle};
use hookline_broker::embedded::EmbeddedOptions;
use hookline_broker::{Consume, Delivery, Publish, Settled, Settlement, Spends};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::testing::events::an_inbound_message;
use hookline_common::time::Timestamp;

use crate::Directory;

const NOTES: Queue = Queue::Work(HandlerName::LogNote);

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_between_panics_does_not_hide_them_and_a_spent_attempt_does() {
    let directory = Directory::new();
    let broker = directory.open().await;
    broker.publish(&an_inbound_message()).await.unwrap();
    let mut notes = broker.consume(NOTES, 1).await.unwrap();

    drop(next(&mut notes).await);
    park(next(&mut notes).await, Duration::ZERO, false).await;
    let held = next(&mut notes).await;
    assert_eq!((held.attempt, held.redeliveries), (1, 1), "the panic counts, the hold does not");

    park(held, Duration::ZERO, true).await;
    let retried = next(&mut notes).await;
    assert_eq!((retried.attempt, retried.redeliveries), (2, 0));
    settle(retried, Settlement::Done).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_attempt_that_was_held_or_released_begins_anew() {
    let directory = Directory::new();
    let broker = directory.open().await;
    broker.publish(&an_inbound_message()).await.unwrap();
    let mut notes = broker.consume(NOTES, 1).await.unwrap();

    park(next(&mut notes).await, Duration::from_millis(300), false).await;
    let before_release = Timestamp::now();
    let held = next(&mut notes).await;
    assert!(held.first_attempt_at >= before_release, "the hold counts towards the age");

    settle(held, Settlement::Release).await;
    // We read the clock after the release, when the delivery may be out again already: hence the millisecond below.
    let released = Timestamp::now();
    let again = next(&mut notes).await;
    assert!(again.first_attempt_at.plus(Duration::from_millis(1)) >= released, "time before the release counts");
    settle(again, Settlement::Done).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_attempts_age_stands_still_while_it_is_held_and_goes_on_with_a_retry() {
    let directory = Directory::new();
    let broker = directory.open().await;
    broker.publish(&an_inbound_message()).await.unwrap();
    let mut notes = broker.consume(NOTES, 1).await.unwrap();
    let first = next(&mut notes).await;
    let began = first.first_attempt_at;

    park(first, Duration::from_millis(300), true).await;
    let second = next(&mut notes).await;
    assert_eq!(second.first_attempt_at, began, "the wait for a retry counts");

    park(second, Duration::from_millis(700), false).await;
    let third = next(&mut notes).await;
    let moved = third.first_attempt_at.since(began);
    assert!((Duration::from_millis(600)..=Duration::from_millis(750)).contains(&moved), "moved by {moved:?}");

    let held_to = third.first_attempt_at;
    settle(third, Settlement::Release).await;
    let fourth = next(&mut notes).await;
    assert_eq!((fourth.attempt, fourth.first_attempt_at), (2, held_to), "it waited for nothing");
    settle(fourth, Settlement::Done).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_took_within_its_lease_is_handed_out_once_and_uncounted() {
    let directory = Directory::new();
    let lease = Duration::from_millis(400);
    let broker = directory.open_with(EmbeddedOptions { lease, ..directory.options() }).await;
    let mut notes = broker.consume(NOTES, 4).await.unwrap();
    let event = an_inbound_message();
    broker.publish(&event).await.unwrap();

    // The consumer's gate is closed for the time of several leases.
    tokio::time::sleep(lease * 5).await;

    let delivery = next(&mut notes).await;
    assert_eq!((delivery.event.id.clone(), delivery.redeliveries), (event.id, 0));
    assert_eq!(delivery.settle(Settlement::Done).await.unwrap(), Settled::Confirmed);
    nothing_comes(&mut notes).await;
    broker.close().await;
}

async fn park(delivery: Delivery, delay: Duration, counts_as_attempt: bool) {
    let until = Timestamp::now().plus(delay);
    let spends = if counts_as_attempt { Spends::Attempt } else { Spends::Nothing };
    settle(delivery, Settlement::Park { until, spends, last: None }).await;
}
