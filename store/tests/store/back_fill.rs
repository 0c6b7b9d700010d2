//! What a back-fill reads: threads with what one system has of them, texts that no thread has, and its own place.

use std::time::Duration;

use hookline_common::event::EventType;
use hookline_common::names::HandlerName;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{ThreadLease, ThreadTurn};

use crate::helpers::{TestStore, at, event_at, phone};
use crate::threads::{CRM, join, message, to_write, write};

const HOUR: Duration = Duration::from_secs(3600);

async fn take(store: &Store, lease: &ThreadLease) -> Option<ThreadTurn> {
    store.take_thread(lease, HOUR, Duration::ZERO).await.expect("the store answers")
}

fn lease(thread_id: &str, owner: &str) -> ThreadLease {
    ThreadLease { thread_id: thread_id.to_owned(), system: CRM.to_owned(), owner: owner.to_owned() }
}

#[tokio::test]
async fn a_written_thread_is_taken_again_by_one_at_a_time() {
    let test = TestStore::new().await;
    let store = test.store.clone();
    let id = write(&store, message(1)).await.thread.thread_id.clone();

    let Some(ThreadTurn::Write(taken)) = take(&store, &lease(&id, "one")).await else { panic!("it is free") };
    assert_eq!((taken.thread.messages.len(), taken.parts.len()), (1, 1));
    assert!(matches!(take(&store, &lease(&id, "two")).await, Some(ThreadTurn::Busy { .. })));
    store.release_thread(&lease(&id, "one"), true).await.expect("the store answers");
    assert!(matches!(take(&store, &lease(&id, "two")).await, Some(ThreadTurn::Write(_))));
    assert!(take(&store, &lease("thread_of_nobody", "two")).await.is_none());
}

#[tokio::test]
async fn each_system_has_a_stand_of_its_own_and_pages_meet() {
    let test = TestStore::new().await;
    let store = test.store.clone();
    write(&store, message(1)).await;
    let (_, other) = to_write(&store, {
        let mut other = join("one", message(2));
        other.facts.day = "2026-11-05".to_owned();
        other
    })
    .await;

    let stands = async |system: &str, day: &str| {
        let (mut stands, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.threads_since(system, day, 1, cursor.as_deref()).await.expect("the store answers");
            stands.extend(page.rows.into_iter().map(|stand| (stand.thread.day, stand.parts.len())));
            cursor = page.next;
            if cursor.is_none() {
                return stands;
            }
        }
    };

    let day = |day: &str, parts| (day.to_owned(), parts);
    assert_eq!(stands(CRM, "2026-11-02").await, [day("2026-11-02", 1), day("2026-11-05", 0)]);
    assert_eq!(stands("another", "2026-11-02").await, [day("2026-11-02", 0), day("2026-11-05", 0)]);
    assert_eq!(stands(CRM, "2026-11-03").await, [day("2026-11-05", 0)]);
    let stand = store.open_stand(CRM, &join("one", message(1)).facts).await.expect("the store answers");
    assert!(stand.is_some_and(|stand| stand.thread.thread_id != other.thread.thread_id && stand.parts.len() == 1));
}

#[tokio::test]
async fn texts_of_which_somebody_else_takes_care_are_left_out() {
    let test = TestStore::new().await;
    let store = test.store.clone();
    let of_type = |name: &str, event_type: &str| {
        let mut text = event_at(name, Timestamp::now(), b"{}");
        text.event_type = EventType::new(event_type);
        text
    };
    let text = |name: &str| of_type(name, "message.received");
    let threaded = text("event 1");
    write(&store, message(1)).await;
    let (loose, waiting) = (text("loose"), text("waiting"));
    let events = [
        (threaded, vec![]),
        (loose.clone(), vec![]),
        (waiting, vec![HandlerName::LogNote]),
        (of_type("an opt-out", "contact.opted_out"), vec![]),
    ];
    store.record_events(&events).await.expect("the store answers");

    let long_ago = Timestamp::EPOCH;
    let page = store.texts_without_thread(long_ago, 10, None).await.expect("the store answers");

    assert_eq!(page.rows.iter().map(|event| &event.id).collect::<Vec<_>>(), [&loose.id]);
}

#[tokio::test]
async fn the_history_is_read_in_bounded_parts_that_meet() {
    let test = TestStore::new().await;
    let store = test.store.clone();
    let mut events: Vec<_> = (0..2_500)
        .map(|number| {
            let mut event = event_at(&format!("event {number}"), at(number / 7), b"{}");
            let is_text = [0, 1, 2, 2_499].contains(&number);
            event.event_type = EventType::new(if is_text { "message.received" } else { "contact.opted_out" });
            (event, Vec::new())
        })
        .collect();
    store.record_events(&events).await.expect("the store answers");
    events.retain(|(event, _)| event.event_type == EventType::new("message.received"));

    let (mut found, mut pages, mut cursor) = (Vec::new(), Vec::new(), None);
    loop {
        let page = store.texts_without_thread(Timestamp::EPOCH, 2, cursor.as_deref()).await.expect("the store answers");
        pages.push(page.rows.len());
        found.extend(page.rows.into_iter().map(|event| (event.received_at, event.id)));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }

    let mut expected: Vec<_> = events.into_iter().map(|(event, _)| (event.received_at, event.id)).collect();
    expected.sort();
    assert_eq!(found, expected);
    assert!(pages.contains(&0) && pages.len() >= 4, "no call looks at all of the history: {pages:?}");
}

#[tokio::test]
async fn a_place_is_kept_until_the_end_or_for_a_time() {
    let test = TestStore::new().await;
    let store = test.store.clone();
    let done = async |within| store.sync_done("opt_outs crm", within).await.expect("the store answers");

    assert_eq!(done(HOUR).await, None);
    for place in ["+14155550100", "+14155550101"] {
        store.save_sync("opt_outs crm", Some(place)).await.expect("the store answers");
        assert_eq!(done(HOUR).await.as_deref(), Some(place));
    }
    assert_eq!(done(Duration::ZERO).await, None);
    store.save_sync("opt_outs crm", None).await.expect("the store answers");
    assert_eq!(done(HOUR).await, None);
}

#[tokio::test]
async fn numbers_go_on_behind_a_number_and_its_erasure_begins_anew() {
    let test = TestStore::new().await;
    let store = test.store.clone();
    crate::erasure::with_records(&test).await;

    let (before, behind) = store.phones_with_state(None).await.expect("the store answers");
    assert_eq!((before, behind), (0, vec![phone()]));
    let earlier = Phone::parse("+12025550146").expect("a number");
    assert_eq!(store.phones_with_state(Some(&earlier)).await.expect("the store answers"), (0, vec![phone()]));
    assert_eq!(store.phones_with_state(Some(&phone())).await.expect("the store answers"), (1, vec![]));
    store.save_sync("opt_outs crm", Some(phone().as_e164())).await.expect("the store answers");
    store.erase(&phone()).await.expect("the store answers");
    assert_eq!(store.sync_done("opt_outs crm", HOUR).await.expect("the store answers"), None);
}
