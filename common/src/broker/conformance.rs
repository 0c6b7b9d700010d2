//! What every broker must do, as tests that run against any of them. Each takes a [`Harness`] and panics where the
//! broker breaks its promise.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::{Again, Broker, DeadLetterInfo, Deliveries, Delivery, LastFailure, QueueDepth, Settled, Settlement};
use crate::event::{Event, EventId};
use crate::names::{DeadReason, Destination, HandlerName};
use crate::testing::events::{an_event, an_inbound_message, an_opt_out};
use crate::time::Timestamp;
use crate::topology::{self, DELIVERY_LIMIT, Queue};

/// Whatever is expected to happen has happened by then.
const DEADLINE: Duration = Duration::from_secs(20);
/// What has not happened by then does not happen. Longer than a broker needs to hand something out.
const SILENCE: Duration = Duration::from_millis(400);

const NOTES: Queue = Queue::Work(HandlerName::LogNote);
const DEAD_NOTES: Queue = Queue::Dead(HandlerName::LogNote);
const HISTORY: Queue = Queue::Work(HandlerName::RecordHistory);

/// Opens brokers, one at a time, on the same durable state, with every handler enabled.
#[async_trait]
pub trait Harness: Send + Sync {
    async fn open(&self) -> Arc<dyn Broker>;

    /// Ends the broker as the end of its process would: nothing is given back, nothing more is settled.
    async fn crash(&self, broker: Arc<dyn Broker>);
}

pub async fn what_was_stored_outlives_a_crash(harness: &dyn Harness) {
    let broker = harness.open().await;
    let events: Vec<Event> = (0..20).map(|_| an_inbound_message()).collect();
    for event in &events {
        broker.publish(event).await.expect("stored");
    }
    harness.crash(broker).await;

    let broker = harness.open().await;
    for queue in [NOTES, HISTORY] {
        let mut deliveries = consume(&broker, queue, 64).await;
        let mut found = Vec::new();
        for _ in &events {
            let delivery = next(&mut deliveries).await;
            found.push((*delivery.event).clone());
            settle(delivery, Settlement::Done).await;
        }
        found.sort_by_key(|event| event.id.clone());
        let mut expected = events.clone();
        expected.sort_by_key(|event| event.id.clone());
        assert_eq!(found, expected, "the events of {} come back as they were", queue.name());
    }
    broker.close().await;
}

pub async fn a_repeat_is_called_a_duplicate(harness: &dyn Harness) {
    let broker = harness.open().await;
    let event = an_inbound_message();

    let first = broker.publish(&event).await.expect("stored");
    let second = broker.publish(&event).await.expect("stored");

    assert!(!first.duplicate);
    assert!(second.duplicate);
    broker.close().await;
}

pub async fn each_type_reaches_its_handlers_and_no_other(harness: &dyn Harness) {
    let broker = harness.open().await;
    let types = crate::event::KNOWN_TYPES.iter().chain(&["deal.won", "contact.merged-in", "Grüße", "unparsed"]);
    let events: Vec<Event> = types.map(|event_type| an_event(event_type)).collect();
    for event in &events {
        broker.publish(event).await.expect("stored");
    }

    for handler in HandlerName::ALL {
        let takes = |event: &&Event| topology::takes(*handler, &event.event_type);
        let expected: BTreeSet<EventId> = events.iter().filter(takes).map(|event| event.id.clone()).collect();
        let mut deliveries = consume(&broker, Queue::Work(*handler), 64).await;
        let mut found = BTreeSet::new();
        for _ in 0..expected.len() {
            let delivery = next(&mut deliveries).await;
            assert_eq!(delivery.routed_to, routed(&delivery.event), "of {}", delivery.event.event_type);
            found.insert(delivery.event.id.clone());
            settle(delivery, Settlement::Done).await;
        }
        assert_eq!(found, expected, "{handler}");
        nothing_comes(&mut deliveries).await;
    }
    broker.close().await;
}

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
    settle(first, Settlement::Park { until, counts_as_attempt: true, last: Some(failure.clone()) }).await;
    let second = next(&mut deliveries).await;
    assert!(Timestamp::now() >= until, "it came before its time");
    assert_eq!((second.attempt, second.last.clone()), (2, Some(failure.clone())));

    let until = Timestamp::now().plus(Duration::from_millis(1));
    settle(second, Settlement::Park { until, counts_as_attempt: false, last: None }).await;
    let third = next(&mut deliveries).await;
    assert_eq!((third.attempt, third.redeliveries), (2, 0), "waiting costs no attempt and is no redelivery");
    assert_eq!(third.first_attempt_at, first_attempt_at);
    assert_eq!(third.last, Some(failure), "what the attempt before ran into is still known");
    settle(third, Settlement::Done).await;
    broker.close().await;
}

pub async fn what_is_parked_outlives_a_crash(harness: &dyn Harness) {
    let broker = harness.open().await;
    broker.publish(&an_inbound_message()).await.expect("stored");
    let mut deliveries = consume(&broker, NOTES, 4).await;
    let until = Timestamp::now().plus(Duration::from_secs(2));
    settle(next(&mut deliveries).await, Settlement::Park { until, counts_as_attempt: true, last: None }).await;
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

pub async fn no_more_is_out_than_prefetch_allows(harness: &dyn Harness) {
    let broker = harness.open().await;
    for _ in 0..10 {
        broker.publish(&an_inbound_message()).await.expect("stored");
    }
    let mut deliveries = consume(&broker, NOTES, 3).await;

    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut deliveries).await);
    }
    nothing_comes(&mut deliveries).await;
    settle(held.remove(0), Settlement::Done).await;
    held.push(next(&mut deliveries).await);
    nothing_comes(&mut deliveries).await;

    for delivery in held {
        settle(delivery, Settlement::Done).await;
    }
    for _ in 0..6 {
        settle(next(&mut deliveries).await, Settlement::Done).await;
    }
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

pub async fn publishing_again_changes_nothing_while_it_waits_and_repeats_it_after(harness: &dyn Harness) {
    let broker = harness.open().await;
    let event = an_inbound_message();
    broker.publish(&event).await.expect("stored");
    let mut notes = consume(&broker, NOTES, 4).await;
    let mut history = consume(&broker, HISTORY, 4).await;
    settle(next(&mut history).await, Settlement::Done).await;

    let first = next(&mut notes).await;
    settle(first, Settlement::Done).await;
    for why in [Again::Redrive, Again::Replay] {
        broker.publish_again(HandlerName::LogNote, &event, why).await.expect("stored");
        let repeat = next(&mut notes).await;
        assert_eq!((&*repeat.event, repeat.attempt, repeat.again), (&event, 1, Some(why)));
        assert_eq!(repeat.routed_to, routed(&event));
        settle(repeat, Settlement::Done).await;
    }

    nothing_comes(&mut history).await;
    broker.close().await;
}

pub async fn rows_are_handed_out_as_they_came(harness: &dyn Harness) {
    let broker = harness.open().await;
    let events: Vec<Event> = (0..30).map(|_| an_inbound_message()).collect();
    for event in &events {
        broker.publish(event).await.expect("stored");
    }
    let mut deliveries = consume(&broker, NOTES, 4).await;

    for event in &events {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.event.id, event.id);
        settle(delivery, Settlement::Done).await;
    }
    broker.close().await;
}

pub async fn one_handlers_backlog_delays_no_other(harness: &dyn Harness) {
    let broker = harness.open().await;
    for _ in 0..200 {
        broker.publish(&an_inbound_message()).await.expect("stored");
    }
    let mut notes = consume(&broker, NOTES, 8).await;
    let stuck = next(&mut notes).await;
    let mut opt_outs = consume(&broker, Queue::Work(HandlerName::RecordOptOut), 8).await;

    let opt_out = an_opt_out();
    broker.publish(&opt_out).await.expect("stored");

    let delivery = timeout(Duration::from_secs(2), opt_outs.next()).await.expect("it is not kept waiting");
    let delivery = delivery.expect("the queue does not end");
    assert_eq!(delivery.event.id, opt_out.id);
    settle(delivery, Settlement::Done).await;
    settle(stuck, Settlement::Done).await;
    broker.close().await;
}

pub async fn closing_gives_back_what_was_not_taken(harness: &dyn Harness) {
    let broker = harness.open().await;
    for _ in 0..5 {
        broker.publish(&an_inbound_message()).await.expect("stored");
    }
    let mut deliveries = consume(&broker, NOTES, 5).await;
    let taken = next(&mut deliveries).await;
    let taken_id = taken.event.id.clone();
    settle(taken, Settlement::Done).await;
    broker.close().await;
    assert!(within_deadline(deliveries.next()).await.is_none(), "a closed broker hands out nothing");

    let broker = harness.open().await;
    let mut deliveries = consume(&broker, NOTES, 5).await;
    for _ in 0..4 {
        let delivery = next(&mut deliveries).await;
        assert_ne!(delivery.event.id, taken_id);
        assert_eq!((delivery.attempt, delivery.redeliveries), (1, 0), "it was never handed out");
        settle(delivery, Settlement::Done).await;
    }
    nothing_comes(&mut deliveries).await;
    broker.close().await;
}

pub async fn a_consumer_that_goes_gives_back_what_it_did_not_take(harness: &dyn Harness) {
    let broker = harness.open().await;
    for _ in 0..5 {
        broker.publish(&an_inbound_message()).await.expect("stored");
    }
    let mut deliveries = consume(&broker, NOTES, 5).await;
    settle(next(&mut deliveries).await, Settlement::Done).await;
    drop(deliveries);

    let mut deliveries = consume(&broker, NOTES, 5).await;
    for _ in 0..4 {
        let delivery = next(&mut deliveries).await;
        assert_eq!((delivery.attempt, delivery.redeliveries), (1, 0), "it was never handed out");
        settle(delivery, Settlement::Done).await;
    }
    broker.close().await;
}

pub async fn depths_count_what_is_ready_parked_and_out(harness: &dyn Harness) {
    let broker = harness.open().await;
    let received_at = Timestamp::now().minus(Duration::from_secs(90));
    for age in [received_at, Timestamp::now(), Timestamp::now()] {
        broker.publish(&Event { received_at: age, ..an_inbound_message() }).await.expect("stored");
    }
    let mut deliveries = consume(&broker, NOTES, 2).await;
    let until = Timestamp::now().plus(Duration::from_secs(3600));
    settle(next(&mut deliveries).await, Settlement::Park { until, counts_as_attempt: true, last: None }).await;
    let held = next(&mut deliveries).await;

    depth_becomes(&broker, NOTES, |depth| depth.messages == 3 && depth.oldest == Some(received_at)).await;
    depth_becomes(&broker, HISTORY, |depth| depth.messages == 3).await;
    depth_becomes(&broker, DEAD_NOTES, |depth| depth.messages == 0 && depth.oldest.is_none()).await;
    settle(held, Settlement::Done).await;
    depth_becomes(&broker, NOTES, |depth| depth.messages == 2).await;
    broker.close().await;
}

pub async fn what_is_removed_is_not_handed_out(harness: &dyn Harness) {
    let broker = harness.open().await;
    let (erased, kept) = (an_inbound_message(), an_inbound_message());
    broker.publish(&erased).await.expect("stored");
    broker.publish(&kept).await.expect("stored");

    assert!(broker.remove(&erased.id, HandlerName::LogNote).await.expect("asked"));
    assert!(!broker.remove(&erased.id, HandlerName::LogNote).await.expect("asked"), "it is gone");

    let mut deliveries = consume(&broker, NOTES, 4).await;
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.event.id, kept.id);
    settle(delivery, Settlement::Done).await;
    nothing_comes(&mut deliveries).await;
    broker.close().await;
}

async fn consume(broker: &Arc<dyn Broker>, queue: Queue, prefetch: u16) -> Deliveries {
    broker.consume(queue, prefetch).await.expect("the owner consumes")
}

/// The next delivery, within the deadline.
pub async fn next(deliveries: &mut Deliveries) -> Delivery {
    within_deadline(deliveries.next()).await.expect("the stream goes on")
}

/// Settles and expects the settlement to count.
pub async fn settle(delivery: Delivery, settlement: Settlement) {
    assert_eq!(delivery.settle(settlement).await.expect("settled"), Settled::Confirmed);
}

/// Nothing is handed out for a while.
pub async fn nothing_comes(deliveries: &mut Deliveries) {
    if let Ok(Some(delivery)) = timeout(SILENCE, deliveries.next()).await {
        panic!("{:?} was handed out: {:?}", delivery.queue, delivery.event);
    }
}

async fn within_deadline<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it happens within the deadline")
}

async fn depth_becomes(broker: &Arc<dyn Broker>, queue: Queue, is: impl Fn(&QueueDepth) -> bool) {
    let reached = async {
        loop {
            let depths = broker.queues().await.expect("asked");
            let depth = depths.iter().find(|depth| depth.queue == queue).expect("every queue is listed");
            if is(depth) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within_deadline(reached).await;
}

fn routed(event: &Event) -> Vec<HandlerName> {
    HandlerName::ALL.iter().copied().filter(|handler| topology::takes(*handler, &event.event_type)).collect()
}
