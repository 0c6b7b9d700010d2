use std::time::Duration;

use hookline_common::event::{Event, EventType, Keyword};
use hookline_common::names::{DeadReason, DeliveryState, HandlerName, Verdict};
use hookline_common::time::Timestamp;
use hookline_store::model::{DeadLetterFilter, Ending, EventFilter, Payload, RequestRecord};

use crate::helpers::{TestStore, at, attempt, dead, event, event_at, id_of};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn an_event_is_kept_byte_for_byte_and_its_first_copy_counts() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let (odd, empty) = (event_at("odd", at(0), &every_byte), event_at("empty", at(0), b""));
    store.record_events(&[(odd.clone(), Vec::new()), (empty.clone(), Vec::new())]).await.unwrap();

    store.record_events(&[(event_at("odd", at(9), b"another"), Vec::new())]).await.unwrap();

    assert_eq!(store.event_payload(&odd.id).await.unwrap(), Payload::Here(odd));
    assert_eq!(store.event_payload(&empty.id).await.unwrap(), Payload::Here(empty));
    assert_eq!(store.event_payload(&id_of("other")).await.unwrap(), Payload::Unknown);
}

#[tokio::test]
async fn a_batch_of_256_events_is_recorded_with_its_deliveries() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let handlers = vec![HandlerName::LogNote, HandlerName::RecordHistory];
    let events: Vec<_> = (0..256).map(|i| (event_at(&i.to_string(), at(i), b"{}"), handlers.clone())).collect();

    store.record_events(&events).await.unwrap();

    let waiting = store.delivery_ids(HandlerName::LogNote, Some(DeliveryState::Waiting)).await.unwrap();
    assert_eq!(waiting.len(), 256);
    // The record is the handler's own effect.
    let recorded = store.delivery_ids(HandlerName::RecordHistory, Some(DeliveryState::Done)).await.unwrap();
    assert_eq!(recorded.len(), 256);
    assert_eq!(store.events(&EventFilter::default(), 1000, None).await.unwrap().rows.len(), 256);
}

#[tokio::test]
async fn what_cannot_be_read_is_a_dead_letter_once() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let unparsed = Event { event_type: EventType::unparsed(), ..event_at("unparsed", at(0), b"hello") };
    let unknown = Event { event_type: EventType::new("deal.won"), ..event_at("unknown", at(0), b"{}") };
    let batch = [unparsed.clone(), unknown].map(|event| (event, vec![HandlerName::RecordHistory]));

    assert_eq!(store.record_events(&batch).await.unwrap(), std::slice::from_ref(&unparsed.id));
    assert_eq!(store.record_events(&batch).await.unwrap(), [], "a repeat");

    let dead = store.dead_letters(&DeadLetterFilter::default(), 10, None).await.unwrap().rows;
    assert_eq!(
        dead.iter().map(|row| (&row.event_id, row.info.reason)).collect::<Vec<_>>(),
        [(&unparsed.id, DeadReason::Unreadable)]
    );
    let history = |state| store.delivery_ids(HandlerName::RecordHistory, Some(state));
    assert_eq!(history(DeliveryState::Done).await.unwrap().len(), 1);
    assert_eq!(history(DeliveryState::DeadLettered).await.unwrap(), std::slice::from_ref(&unparsed.id));
    assert_eq!(store.event_payload(&unparsed.id).await.unwrap(), Payload::Here(unparsed.clone()));

    let (event, handler) = store.mark_redriving(&dead[0].id).await.unwrap().expect("redriven");
    assert_eq!(history(DeliveryState::Waiting).await.unwrap(), std::slice::from_ref(&unparsed.id));
    assert_eq!(store.record_events(&[(event, vec![handler])]).await.unwrap(), std::slice::from_ref(&unparsed.id));
    store.redriven(&dead[0].id).await.unwrap();
    assert_eq!(history(DeliveryState::DeadLettered).await.unwrap(), std::slice::from_ref(&unparsed.id));
}

#[tokio::test]
async fn which_keyword_a_text_is_stays_with_it() {
    let TestStore { store, home: _home } = TestStore::new().await;
    for keyword in [None, Some(Keyword::Stop), Some(Keyword::Start)] {
        let text = event(&format!("{keyword:?}"));
        let text = Event { event_type: text.event_type.with_keyword(keyword), ..text };
        let dead = dead(DeadReason::Rejected, at(5));
        store.record_events(&[(text.clone(), vec![HandlerName::LogNote])]).await.unwrap();
        store.insert_dead_letter(&text, HandlerName::RecordOptOut, &dead, &[]).await.unwrap();

        let Payload::Here(kept) = store.event_payload(&text.id).await.unwrap() else { panic!("{keyword:?}") };
        assert_eq!(kept.event_type.keyword(), keyword);
        let (row, _) = store.event(&text.id).await.unwrap().expect("it is in the history");
        assert_eq!((row.event_type.as_str(), row.event_type.keyword()), ("message.received", keyword));
        let id = store.dead_letter(text.id.as_str()).await.unwrap().remove(0).id;
        assert_eq!(store.mark_redriving(&id).await.unwrap().expect("a dead letter").0, kept);
    }
}

#[tokio::test]
async fn history_that_comes_late_keeps_what_the_handler_has_settled() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    store.finish(&attempt(&event, HandlerName::LogNote, 1, Verdict::Done), Ending::Done, &[]).await.unwrap();

    store.record_events(&[(event.clone(), vec![HandlerName::LogNote])]).await.unwrap();

    let (row, _) = store.event(&event.id).await.unwrap().expect("it is in the history");
    assert_eq!(row.deliveries[0].state, DeliveryState::Done);
}

#[tokio::test]
async fn pages_go_from_new_to_old_with_every_delivery_and_hold_each_event_once() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let handlers = vec![HandlerName::LogNote, HandlerName::RecordHistory];
    // Two events at each moment: the cursor must neither lose nor repeat one of them.
    let events: Vec<_> = (0..7).map(|i| (event_at(&i.to_string(), at(i / 2), b"{}"), handlers.clone())).collect();
    store.record_events(&events).await.unwrap();

    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.events(&EventFilter::default(), 3, cursor.as_deref()).await.unwrap();
        assert!(page.rows.len() <= 3);
        rows.extend(page.rows);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }

    assert_eq!(rows.len(), 7);
    assert!(rows.windows(2).all(|pair| pair[0].received_at >= pair[1].received_at));
    assert!(rows.iter().all(|row| row.deliveries.len() == 2 && row.has_payload));
    let mut ids: Vec<_> = rows.into_iter().map(|row| row.event_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 7);
}

#[tokio::test]
async fn a_list_can_be_narrowed_by_time_and_type() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let mut opt_out = event_at("opt-out", at(5), b"{}");
    opt_out.event_type = hookline_common::event::EventType::new("contact.opted-out");
    store.record_events(&[(opt_out.clone(), Vec::new()), (event_at("b", at(6), b"{}"), Vec::new())]).await.unwrap();

    let all = EventFilter::default();
    for (filter, expected) in [
        (EventFilter { since: Some(at(6)), ..all.clone() }, vec![id_of("b")]),
        (EventFilter { until: Some(at(6)), ..all.clone() }, vec![id_of("opt-out")]),
        (EventFilter { event_type: Some("contact.opted-out".to_owned()), ..all.clone() }, vec![id_of("opt-out")]),
        (EventFilter { event_type: Some("deal.won".to_owned()), ..all.clone() }, vec![]),
    ] {
        let rows = store.events(&filter, 10, None).await.unwrap().rows;
        assert_eq!(rows.into_iter().map(|row| row.event_id).collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn an_event_shows_every_attempt_with_its_requests() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    store.record_events(&[(event.clone(), vec![HandlerName::LogNote])]).await.unwrap();
    let mut parked = attempt(&event, HandlerName::LogNote, 1, Verdict::Parked);
    parked.detail = Some("503".to_owned());
    parked.requests = vec![RequestRecord {
        method: "GET".to_owned(),
        path: "/messages/1".to_owned(),
        status: None,
        duration_ms: 10_000,
    }];
    let done = attempt(&event, HandlerName::LogNote, 2, Verdict::Done);
    store.log_attempt(&parked, &[]).await.unwrap();
    store.finish(&done, Ending::Done, &[]).await.unwrap();

    let (row, attempts) = store.event(&event.id).await.unwrap().expect("it is in the history");

    assert_eq!(attempts, [parked, done]);
    assert_eq!((row.deliveries[0].state, row.deliveries[0].attempts), (DeliveryState::Done, 2));
    assert!(store.event(&id_of("other")).await.unwrap().is_none());
}

#[tokio::test]
async fn retention_takes_payloads_and_attempts_and_leaves_what_effects_need() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let now = Timestamp::now();
    let (old, young) = (event_at("old", now.minus(31 * DAY), b"{}"), event_at("young", now.minus(DAY), b"{}"));
    for event in [&old, &young] {
        store.record_events(&[(event.clone(), vec![HandlerName::LogNote])]).await.unwrap();
        let mut record = attempt(event, HandlerName::LogNote, 1, Verdict::Done);
        record.started_at = event.received_at;
        store.finish(&record, Ending::Done, &[]).await.unwrap();
    }

    let expired = store.expire(30 * DAY, now).await.unwrap();

    assert_eq!((expired.payloads, expired.attempts), (1, 1));
    assert_eq!(store.event_payload(&old.id).await.unwrap(), Payload::Gone);
    assert!(matches!(store.event_payload(&young.id).await.unwrap(), Payload::Here(_)));
    let (row, attempts) = store.event(&old.id).await.unwrap().expect("the event is still known");
    assert_eq!((row.has_payload, row.deliveries.len(), attempts.len()), (false, 1, 0));

    store.expire(30 * DAY, now.plus(91 * DAY)).await.unwrap();
    assert!(store.event(&old.id).await.unwrap().is_none());
    assert!(store.delivery_ids(HandlerName::LogNote, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_settled_outlives_every_retention() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    store.record_events(&[(event.clone(), vec![HandlerName::LogNote])]).await.unwrap();

    store.expire(DAY, Timestamp::now().plus(400 * DAY)).await.unwrap();

    assert_eq!(store.delivery_ids(HandlerName::LogNote, Some(DeliveryState::Waiting)).await.unwrap(), [event.id]);
}
