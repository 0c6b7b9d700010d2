//! How a delivery is settled, and what happens to one that is never settled.

use std::time::Duration;

use hookline_common::names::{DeadReason, Destination};
use hookline_common::testing::events::an_inbound_message;
use hookline_common::time::Timestamp;

use super::{DEAD_NOTES, Harness, NOTES, consume, next, nothing_comes, settle, within_deadline};
use crate::topology::DELIVERY_LIMIT;
use crate::{DeadLetterInfo, LastFailure, Settled, Settlement, Spends};

pub async fn what_is_done_never_comes_back(harness: &dyn Harness) {
    let broker = harness.open().await;
    broker.publish(&an_inbound_message()).await.expect("stored");
    let mut deliveries = consume(&broker, NOTES, 4).await;
    settle(next(&mut deliveries).await, Settlement::Done).await;
    harness.crash(broker).await;

    let broker = harness.open().await;
    let mut deliveries = consume(&broker, NOTES, 4).await;
    nothing_comes(&mut deliveries).await;
    broker.close().await;
}

pub async fn a_parked_delivery_waits_for_its_time_and_counts_its_attempts(harness: &dyn Harness) {
    let broker = harness.open().await;
    broker.publish(&an_inbound_message()).await.expect("stored");
    let mut deliveries = consume(&broker, NOTES, 4).await;
    let first = next(&mut deliveries).await;
    let first_attempt_at = first.first_attempt_at;
    assert_eq!((first.attempt, first.last.clone(), first.redeliveries), (1, None, 0));

    let until = Timestamp::now().plus(Duration::from_millis(1500));
    let failure = LastFailure { status: Some(503), detail: "no answer".to_owned() };
    settle(first, Settlement::Park { until, spends: Spends::Attempt, last: Some(failure.clone()) }).await;
    let second = next(&mut deliveries).await;
    assert!(Timestamp::now() >= until, "it came before its time");
    assert_eq!((second.attempt, second.last.clone()), (2, Some(failure.clone())));
    assert_eq!(second.first_attempt_at, first_attempt_at);

    let until = Timestamp::now().plus(Duration::from_millis(1));
    settle(second, Settlement::Park { until, spends: Spends::Nothing, last: None }).await;
    let third = next(&mut deliveries).await;
    assert_eq!((third.attempt, third.redeliveries), (2, 0), "waiting costs no attempt and is no redelivery");
    // A broker may leave out the time of a hold, but no more than that.
    assert!(third.first_attempt_at.since(first_attempt_at) < Duration::from_millis(500));
    assert_eq!(third.last, Some(failure), "what the attempt before ran into is still known");
    settle(third, Settlement::Done).await;
    broker.close().await;
}

pub async fn what_is_parked_outlives_a_crash(harness: &dyn Harness) {
    let broker = harness.open().await;
    broker.publish(&an_inbound_message()).await.expect("stored");
    let mut deliveries = consume(&broker, NOTES, 4).await;
    let until = Timestamp::now().plus(Duration::from_secs(2));
    settle(next(&mut deliveries).await, Settlement::Park { until, spends: Spends::Attempt, last: None }).await;
    harness.crash(broker).await;

    let broker = harness.open().await;
    let mut deliveries = consume(&broker, NOTES, 4).await;
    let delivery = next(&mut deliveries).await;
    assert!(Timestamp::now() >= until, "it came before its time");
    assert_eq!(delivery.attempt, 2);
    settle(delivery, Settlement::Done).await;
    broker.close().await;
}

pub async fn a_dead_letter_arrives_with_its_reason(harness: &dyn Harness) {
    let broker = harness.open().await;
    let event = an_inbound_message();
    broker.publish(&event).await.expect("stored");
    let mut work = consume(&broker, NOTES, 4).await;
    let mut dead = consume(&broker, DEAD_NOTES, 4).await;
    let info = DeadLetterInfo {
        reason: DeadReason::Rejected,
        destination: Some(Destination::SystemOfRecord),
        status: Some(422),
        detail: "the note was refused".to_owned(),
        attempts: 1,
        dead_lettered_at: Timestamp::now(),
    };

    settle(next(&mut work).await, Settlement::DeadLetter(info.clone())).await;

    let letter = next(&mut dead).await;
    assert_eq!((&*letter.event, &letter.dead, letter.queue), (&event, &Some(info), DEAD_NOTES));
    settle(letter, Settlement::Done).await;
    nothing_comes(&mut work).await;
    nothing_comes(&mut dead).await;
    broker.close().await;
}

pub async fn a_released_delivery_comes_back_as_if_never_handed_out(harness: &dyn Harness) {
    let broker = harness.open().await;
    broker.publish(&an_inbound_message()).await.expect("stored");
    let mut deliveries = consume(&broker, NOTES, 4).await;

    for _ in 0..3 {
        let delivery = next(&mut deliveries).await;
        assert_eq!((delivery.attempt, delivery.redeliveries), (1, 0));
        settle(delivery, Settlement::Release).await;
    }

    settle(next(&mut deliveries).await, Settlement::Done).await;
    broker.close().await;
}

pub async fn a_dropped_delivery_comes_again_and_is_counted(harness: &dyn Harness) {
    let broker = harness.open().await;
    broker.publish(&an_inbound_message()).await.expect("stored");
    let mut deliveries = consume(&broker, NOTES, 4).await;

    drop(next(&mut deliveries).await);

    let again = next(&mut deliveries).await;
    assert_eq!((again.attempt, again.redeliveries), (1, 1));
    settle(again, Settlement::Done).await;
    broker.close().await;
}

pub async fn a_delivery_that_ends_every_process_becomes_a_dead_letter(harness: &dyn Harness) {
    let broker = harness.open().await;
    let deadly = an_inbound_message();
    broker.publish(&deadly).await.expect("stored");
    broker.close().await;

    let mut handed_out = 0;
    let letter = loop {
        let broker = harness.open().await;
        let mut work = consume(&broker, NOTES, 1).await;
        let mut dead = consume(&broker, DEAD_NOTES, 1).await;
        let either = async {
            tokio::select! {
                delivery = work.next() => delivery,
                letter = dead.next() => letter,
            }
        };
        let delivery = within_deadline(either).await.expect("neither queue ends");
        if delivery.queue == DEAD_NOTES {
            let letter = delivery.dead.clone();
            settle(delivery, Settlement::Done).await;
            broker.close().await;
            break letter;
        }
        handed_out += 1;
        assert!(handed_out <= DELIVERY_LIMIT + 1, "it is still handed out");
        harness.crash(broker).await;
    };

    let letter = letter.expect("a dead letter says why");
    assert_eq!(letter.reason, DeadReason::DeliveryLimit);
    assert!(handed_out >= DELIVERY_LIMIT, "given up after {handed_out}");
}

/// As when a process died in a call: who gets the delivery next waits until the dead one's claim has ended.
pub async fn waiting_in_between_does_not_keep_a_delivery_from_its_limit(harness: &dyn Harness) {
    let broker = harness.open().await;
    broker.publish(&an_inbound_message()).await.expect("stored");
    let mut work = consume(&broker, NOTES, 1).await;
    let mut dead = consume(&broker, DEAD_NOTES, 1).await;

    let mut dropped = 0;
    let letter = loop {
        let either = async {
            tokio::select! {
                delivery = work.next() => delivery,
                letter = dead.next() => letter,
            }
        };
        let delivery = within_deadline(either).await.expect("neither queue ends");
        if delivery.queue == DEAD_NOTES {
            break delivery;
        }
        if delivery.redeliveries % 8 == 7 && dropped == delivery.redeliveries {
            let until = Timestamp::now().plus(Duration::from_millis(100));
            settle(delivery, Settlement::Park { until, spends: Spends::Age, last: None }).await;
            let back = next(&mut work).await;
            assert_eq!(back.redeliveries, dropped, "waiting changes no count");
            drop(back);
        } else {
            drop(delivery);
        }
        dropped += 1;
        assert!(dropped <= DELIVERY_LIMIT + 1, "it is still handed out");
    };

    assert_eq!(letter.dead.as_ref().map(|dead| dead.reason), Some(DeadReason::DeliveryLimit));
    assert!(dropped >= DELIVERY_LIMIT, "given up after {dropped}");
    settle(letter, Settlement::Done).await;
    broker.close().await;
}

pub async fn an_attempt_that_ends_by_itself_begins_the_limit_anew(harness: &dyn Harness) {
    let broker = harness.open().await;
    broker.publish(&an_inbound_message()).await.expect("stored");
    let mut work = consume(&broker, NOTES, 1).await;
    drop(next(&mut work).await);
    let again = next(&mut work).await;
    assert_eq!(again.redeliveries, 1);

    let until = Timestamp::now().plus(Duration::from_millis(100));
    settle(again, Settlement::Park { until, spends: Spends::Attempt, last: None }).await;

    let retried = next(&mut work).await;
    assert_eq!((retried.attempt, retried.redeliveries), (2, 0));
    settle(retried, Settlement::Done).await;
    broker.close().await;
}

pub async fn a_settlement_from_before_a_crash_changes_nothing(harness: &dyn Harness) {
    let broker = harness.open().await;
    broker.publish(&an_inbound_message()).await.expect("stored");
    let mut deliveries = consume(&broker, NOTES, 1).await;
    let stale = next(&mut deliveries).await;
    harness.crash(broker).await;
    let broker = harness.open().await;

    let settled = stale.settle(Settlement::Done).await;

    assert!(!matches!(settled, Ok(Settled::Confirmed)), "{settled:?}");
    let mut deliveries = consume(&broker, NOTES, 1).await;
    settle(next(&mut deliveries).await, Settlement::Done).await;
    broker.close().await;
}
