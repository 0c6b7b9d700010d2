//! What is stored, which queues get it and how much of it, and what the queues report about themselves.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;

use hookline_common::event::{Event, EventId, Keyword};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::testing::events::{an_event, an_inbound_message, an_opt_out};
use hookline_common::time::Timestamp;

use super::{
    DEAD_NOTES, HISTORY, Harness, NOTES, consume, depth_becomes, next, nothing_comes, routed, settle, within_deadline,
};
use crate::topology::{self};
use crate::{Again, Resumed, Settlement, Spends};

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
    let types =
        hookline_common::event::KNOWN_TYPES.iter().chain(&["deal.won", "contact.merged-in", "Grüße", "unparsed"]);
    let mut events: Vec<Event> = types.map(|event_type| an_event(event_type)).collect();
    for keyword in [Keyword::Stop, Keyword::Start] {
        let text = an_event("message.received");
        events.push(Event { event_type: text.event_type.with_keyword(Some(keyword)), ..text });
    }
    // A sender's own type is never mistaken for a keyword.
    events.push(an_event("message.received.stop"));
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
            let published = events.iter().find(|event| event.id == delivery.event.id);
            assert_eq!(published.map(|event| &event.event_type), Some(&delivery.event.event_type));
            found.insert(delivery.event.id.clone());
            settle(delivery, Settlement::Done).await;
        }
        assert_eq!(found, expected, "{handler}");
        nothing_comes(&mut deliveries).await;
    }
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

pub async fn what_is_published_anew_goes_on_where_it_was(harness: &dyn Harness) {
    let broker = harness.open().await;
    let event = an_inbound_message();
    broker.publish(&event).await.expect("stored");
    let mut notes = consume(&broker, NOTES, 4).await;
    let first = next(&mut notes).await;
    let far = Timestamp::now().plus(Duration::from_secs(4000));
    settle(first, Settlement::Park { until: far, spends: Spends::Attempt, last: None }).await;
    nothing_comes(&mut notes).await;

    // The first time the delivery is still parked; the second time it is in no queue.
    for copy in [1, 2] {
        let first_attempt_at = Some(Timestamp::from_millis(Timestamp::now().as_millis() - 77_000));
        let from = Resumed { attempt: 2, first_attempt_at, copy: Timestamp::from_millis(copy) };
        broker.publish_anew(HandlerName::LogNote, &event, from).await.expect("stored");
        let delivery = next(&mut notes).await;
        assert_eq!((&*delivery.event, delivery.attempt, delivery.again), (&event, 2, None));
        assert!(delivery.copy.is_none_or(|of| of == from.copy), "{:?}", delivery.copy);
        // A broker that holds one copy at most keeps the age of the copy that is there.
        let is_its_own = delivery.copy.is_none() && copy == 1;
        assert_eq!(Some(delivery.first_attempt_at) == first_attempt_at, !is_its_own);
        settle(delivery, Settlement::Done).await;
        nothing_comes(&mut notes).await;
    }
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
    settle(next(&mut deliveries).await, Settlement::Park { until, spends: Spends::Attempt, last: None }).await;
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
