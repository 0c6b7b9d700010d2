use hookline_common::names::{DeadReason, DeliveryState, Destination, HandlerName, SkipReason, Verdict};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Begin, DeadLetterFilter, Ending};

use crate::helpers::{TestStore, at, attempt, dead, event, event_at};

const HANDLER: HandlerName = HandlerName::CreateContact;

async fn listed(store: &Store, filter: DeadLetterFilter) -> Vec<String> {
    store.dead_letters(&filter, 50, None).await.expect("the store answers").rows.into_iter().map(|row| row.id).collect()
}

async fn states(store: &Store, state: DeliveryState) -> usize {
    store.delivery_ids(HANDLER, Some(state)).await.expect("the store answers").len()
}

#[tokio::test]
async fn a_dead_letter_is_redriven_with_the_exact_event() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event_at("a", at(0), b"{\"not\": \"utf-8 \xff\"}");
    let routed = [HANDLER, HandlerName::SyncContact, HandlerName::RecordHistory];
    store.insert_dead_letter(&event, HANDLER, &dead(DeadReason::Rejected, at(5)), &routed).await.unwrap();
    let row = store.dead_letters(&DeadLetterFilter::default(), 50, None).await.unwrap().rows.remove(0);
    assert_eq!((row.info.clone(), row.event_id.clone()), (dead(DeadReason::Rejected, at(5)), event.id.clone()));
    for other in [HandlerName::SyncContact, HandlerName::RecordHistory] {
        assert_eq!(store.delivery_ids(other, Some(DeliveryState::Waiting)).await.unwrap().len(), 1, "{other}");
    }

    let (redriven, handler) = store.mark_redriving(&row.id).await.unwrap().expect("a dead letter");

    assert_eq!((&redriven, handler), (&event, HANDLER));
    assert_eq!(store.redriving().await.unwrap(), std::slice::from_ref(&row.id), "a crash here is resumed");
    assert_eq!(states(&store, DeliveryState::Waiting).await, 1);
    assert!(listed(&store, DeadLetterFilter::default()).await.is_empty());
    assert_eq!(store.begin(&event, HANDLER, 1, None).await.unwrap(), Begin::Go);
    assert!(store.mark_redriving(&row.id).await.unwrap().is_some(), "resumed after a crash");
    store.redriven(&row.id).await.unwrap();
    assert!(store.redriving().await.unwrap().is_empty());
    assert!(store.dead_letter(&row.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_delivery_that_dies_again_before_its_redrive_ended_is_not_lost() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    store.insert_dead_letter(&event, HANDLER, &dead(DeadReason::Rejected, at(5)), &[]).await.unwrap();
    let id = store.dead_letter(event.id.as_str()).await.unwrap().remove(0).id;
    store.mark_redriving(&id).await.unwrap();

    store.insert_dead_letter(&event, HANDLER, &dead(DeadReason::NotFound, at(9)), &[]).await.unwrap();
    store.redriven(&id).await.unwrap();

    let rows = store.dead_letter(&id).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.info.reason).collect::<Vec<_>>(), [DeadReason::NotFound]);
    assert_eq!(states(&store, DeliveryState::DeadLettered).await, 1);
}

#[tokio::test]
async fn a_repeat_of_a_dead_letter_that_was_dealt_with_changes_nothing() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (redriven, discarded) = (event("redriven"), event("discarded"));
    for event in [&redriven, &discarded] {
        store.insert_dead_letter(event, HANDLER, &dead(DeadReason::Rejected, at(5)), &[]).await.unwrap();
    }
    let id = store.dead_letter(redriven.id.as_str()).await.unwrap().remove(0).id;
    store.mark_redriving(&id).await.unwrap();
    store.redriven(&id).await.unwrap();
    let id = store.dead_letter(discarded.id.as_str()).await.unwrap().remove(0).id;
    assert!(store.discard(&id, "no such person").await.unwrap());

    for event in [&redriven, &discarded] {
        store.insert_dead_letter(event, HANDLER, &dead(DeadReason::Rejected, at(5)), &[]).await.unwrap();
    }

    assert!(listed(&store, DeadLetterFilter::default()).await.is_empty());
    assert_eq!(states(&store, DeliveryState::Waiting).await, 1);
    assert_eq!(states(&store, DeliveryState::Discarded).await, 1);
}

#[tokio::test]
async fn discarding_and_resolving_are_audited_and_only_what_is_in_doubt_can_be_resolved() {
    let test = TestStore::new().await;
    let store = &test.store;
    let (rejected, unknown) = (event("rejected"), event("unknown"));
    store.insert_dead_letter(&rejected, HANDLER, &dead(DeadReason::Rejected, at(5)), &[]).await.unwrap();
    store.insert_dead_letter(&unknown, HANDLER, &dead(DeadReason::OutcomeUnknown, at(6)), &[]).await.unwrap();
    let rejected_id = store.dead_letter(rejected.id.as_str()).await.unwrap().remove(0).id;
    let unknown_id = store.dead_letter(unknown.id.as_str()).await.unwrap().remove(0).id;

    assert!(!store.resolve_done(&rejected_id).await.unwrap());
    assert!(!store.resolve_write_again(&rejected_id).await.unwrap());
    assert!(store.resolve_done(&unknown_id).await.unwrap());
    assert!(store.discard(&rejected_id, "not a customer").await.unwrap());
    assert!(!store.discard(&rejected_id, "twice").await.unwrap());
    assert!(store.mark_redriving("dl_0000000000000000").await.unwrap().is_none());

    assert_eq!(states(store, DeliveryState::Done).await, 1);
    assert_eq!(states(store, DeliveryState::Discarded).await, 1);
    let audited: Vec<(String, String, Option<String>)> =
        sqlx::query_as("SELECT action, subject, reason FROM audit ORDER BY seq")
            .fetch_all(&mut test.sql().await)
            .await
            .unwrap();
    assert_eq!(
        audited,
        [
            ("resolve_done".to_owned(), unknown_id, None),
            ("discard".to_owned(), rejected_id, Some("not a customer".to_owned()))
        ]
    );
}

#[tokio::test]
async fn what_is_being_redriven_can_be_neither_discarded_nor_resolved() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    store.insert_dead_letter(&event, HANDLER, &dead(DeadReason::OutcomeUnknown, at(5)), &[]).await.unwrap();
    let id = store.dead_letter(event.id.as_str()).await.unwrap().remove(0).id;
    store.mark_redriving(&id).await.unwrap();

    assert!(!store.discard(&id, "too late").await.unwrap());
    assert!(!store.resolve_done(&id).await.unwrap());
    assert!(!store.resolve_write_again(&id).await.unwrap());

    assert_eq!(states(&store, DeliveryState::Waiting).await, 1);
    assert_eq!(store.redriving().await.unwrap(), [id]);
}

#[tokio::test]
async fn a_redrive_that_is_skipped_is_counted_as_skipped() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    store.insert_dead_letter(&event, HANDLER, &dead(DeadReason::Rejected, at(5)), &[]).await.unwrap();
    let id = store.dead_letter(event.id.as_str()).await.unwrap().remove(0).id;
    store.mark_redriving(&id).await.unwrap();
    store.redriven(&id).await.unwrap();

    let record = attempt(&event, HANDLER, 1, Verdict::Skipped);
    store.finish(&record, Ending::Skipped(SkipReason::AlreadyDone), &[]).await.unwrap();

    assert_eq!(states(&store, DeliveryState::Skipped).await, 1);
}

#[tokio::test]
async fn filters_narrow_the_list_and_pages_hold_each_once() {
    let TestStore { store, home: _home } = TestStore::new().await;
    for i in 0..5 {
        let info = dead(DeadReason::Rejected, at(i));
        store.insert_dead_letter(&event(&i.to_string()), HANDLER, &info, &[]).await.unwrap();
    }
    let info = hookline_broker::DeadLetterInfo {
        destination: Some(Destination::SystemOfRecord),
        ..dead(DeadReason::UnknownContact, at(9))
    };
    store.insert_dead_letter(&event("note"), HandlerName::LogNote, &info, &[]).await.unwrap();

    let all = DeadLetterFilter::default();
    for filter in [
        DeadLetterFilter { handler: Some(HandlerName::LogNote), ..all.clone() },
        DeadLetterFilter { reason: Some(DeadReason::UnknownContact), ..all.clone() },
        DeadLetterFilter { destination: Some(Destination::SystemOfRecord), ..all.clone() },
        DeadLetterFilter { since: Some(at(9)), ..all.clone() },
    ] {
        assert_eq!(listed(&store, filter.clone()).await.len(), 1, "{filter:?}");
    }
    let mut times: Vec<Timestamp> = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.dead_letters(&all, 4, cursor.as_deref()).await.unwrap();
        times.extend(page.rows.iter().map(|row| row.info.dead_lettered_at));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(times, [at(9), at(4), at(3), at(2), at(1), at(0)]);
}
