//! Opt-outs that were decided before an older opt-in or START text was recorded.

use std::time::Duration;

use hookline_common::event::{Event, EventType};
use hookline_common::names::{Destination, HandlerName, SkipReason, Verdict};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Ending, OptEvent, OptMethod, Overtaking, Parked, PutAnswer, PutDecision};

use crate::helpers::{TestStore, attempt, event_at, phone};
use crate::unsent::{accounts, handled, opt, put, recorded};

const HANDLER: HandlerName = HandlerName::RecordOptOut;
const MINUTE: Duration = Duration::from_mins(1);

/// Records an opt-out of ten minutes ago whose PUTs are proved, and an opt-out of a minute ahead that both accounts take
/// for explained by them. The second one is in a worker's hands.
async fn decided_too_soon(store: &Store) -> Event {
    let first = recorded(store, "first", 10 * MINUTE).await;
    handled(store, &first, &phone(), &["acme", "second"]).await;
    for account in ["acme", "second"] {
        put(store, &first, &phone(), account, PutAnswer::Status(201)).await;
    }
    store.finish(&attempt(&first, HANDLER, 1, Verdict::Done), Ending::Done, &[]).await.expect("settled");
    let names_them = br#"{"optOut":{"phoneNumber":"2025550147"}}"#;
    let again = Event { event_type: EventType::new("contact.opted_out"), ..event_at("again", ahead(), names_them) };
    store.record_events(&[(again.clone(), vec![HANDLER])]).await.expect("recorded");
    handled(store, &again, &phone(), &["acme", "second"]).await;
    for (account, decision) in [("acme", PutDecision::Echo), ("second", PutDecision::AlreadyDone)] {
        assert_eq!(store.decide_put(&opt(&again, &phone(), &[]), account).await.expect("decided"), decision);
    }
    again
}

fn ahead() -> Timestamp {
    Timestamp::now().plus(MINUTE)
}

fn opt_in_at(at: Timestamp) -> Event {
    Event { event_type: EventType::new("contact.opted_in"), ..event_at("in", at, b"{}") }
}

/// Records the opt-in and looks for opt-outs that overtook it.
async fn opted_in(store: &Store, event: &Event, method: OptMethod) -> Overtaking {
    let phone = phone();
    let opt_in = OptEvent { method, ..opt(event, &phone, &[]) };
    match method {
        OptMethod::Webhook => drop(store.record_opt_event(&opt_in).await.expect("recorded")),
        OptMethod::Keyword => store.note_skipped(&opt_in, SkipReason::NoAction).await.expect("recorded"),
    }
    store.reopen_overtaking(&opt_in, &accounts()).await.expect("the store answers")
}

async fn settle(store: &Store, event: &Event, ending: Ending) {
    store.finish(&attempt(event, HANDLER, 1, Verdict::Done), ending, &[]).await.expect("settled");
}

/// Parks the delivery, whose first attempt was ten minutes ago.
async fn park(store: &Store, event: &Event) {
    let first_attempt_at = Some(Timestamp::now().minus(10 * MINUTE));
    let (event_id, handler, until) = (event.id.clone(), HANDLER, ahead());
    let parked = Parked { event_id, handler, until, attempt: 2, first_attempt_at, held_by: None };
    store.park(&parked, None, &[]).await.expect("parked");
}

#[tokio::test]
async fn an_opt_out_that_overtook_an_opt_in_waits_again_and_is_put() {
    for method in [OptMethod::Webhook, OptMethod::Keyword] {
        for ending in [Ending::Skipped(SkipReason::Echo), Ending::Done] {
            let TestStore { store, home: _home } = TestStore::new().await;
            let again = decided_too_soon(&store).await;
            park(&store, &again).await;
            settle(&store, &again, ending).await;

            let overtaking = opted_in(&store, &opt_in_at(Timestamp::now()), method).await;

            let expected = Overtaking { reopened: vec![again.id.clone()], ..Overtaking::default() };
            assert_eq!(overtaking, expected, "{method:?} {ending:?}");
            let [given] = &store.take_held(Destination::TextUs, 10).await.unwrap()[..] else { panic!("not one") };
            assert_eq!((&given.event_id, given.handler, given.from.attempt), (&again.id, HANDLER, 1));
            assert_eq!(given.from.first_attempt_at, None, "its age counts anew");
            for account in ["acme", "second"] {
                put(&store, &again, &phone(), account, PutAnswer::Status(201)).await;
            }
            settle(&store, &again, Ending::Done).await;
            let repeated = opted_in(&store, &opt_in_at(Timestamp::now()), method).await;
            assert_eq!(repeated, Overtaking::default(), "a redelivery of the opt-in reopens nothing that was PUT");
        }
    }
}

#[tokio::test]
async fn an_opt_in_that_undoes_the_opt_outs_reopens_nothing() {
    for method in [OptMethod::Webhook, OptMethod::Keyword] {
        let TestStore { store, home: _home } = TestStore::new().await;
        let again = decided_too_soon(&store).await;
        settle(&store, &again, Ending::Skipped(SkipReason::Echo)).await;
        let newest = opt_in_at(ahead().plus(MINUTE));
        assert_eq!(opted_in(&store, &newest, method).await, Overtaking::default(), "{method:?}: it undoes them");
        assert_eq!(store.held(Destination::TextUs).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn an_opt_in_reopens_no_older_opt_out_of_another_account() {
    for method in [OptMethod::Webhook, OptMethod::Keyword] {
        let TestStore { store, home: _home } = TestStore::new().await;
        let first = recorded(&store, "first", 10 * MINUTE).await;
        handled(&store, &first, &phone(), &["acme", "second"]).await;
        for account in ["acme", "second"] {
            put(&store, &first, &phone(), account, PutAnswer::Status(201)).await;
        }
        let (echo, phone, targets) = (recorded(&store, "echo", 2 * MINUTE).await, phone(), accounts());
        let opt_out = OptEvent { account: "second", ..opt(&echo, &phone, &targets) };
        store.begin(&echo, HANDLER, 1, None).await.unwrap();
        store.record_opt_event(&opt_out).await.unwrap();
        assert_eq!(store.decide_put(&opt_out, "second").await.unwrap(), PutDecision::Echo);
        settle(&store, &echo, Ending::Skipped(SkipReason::Echo)).await;

        let opt_in = opt_in_at(Timestamp::now().minus(MINUTE));
        assert_eq!(opted_in(&store, &opt_in, method).await, Overtaking::default(), "{method:?}: it came after them");
    }
}

#[tokio::test]
async fn an_opt_out_that_is_being_decided_is_waited_for_and_one_that_is_parked_decides_again_by_itself() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let again = decided_too_soon(&store).await;
    let opt_in = opt_in_at(Timestamp::now());

    let overtaking = opted_in(&store, &opt_in, OptMethod::Webhook).await;
    assert!(overtaking.in_hand_until.is_some_and(|until| until > Timestamp::now()), "{overtaking:?}");
    assert_eq!((overtaking.reopened, overtaking.erased), (vec![], vec![]));

    park(&store, &again).await;
    assert_eq!(opted_in(&store, &opt_in, OptMethod::Webhook).await, Overtaking::default());
    assert_eq!(store.decide_put(&opt(&again, &phone(), &[]), "acme").await.unwrap(), PutDecision::Put);
}

#[tokio::test]
async fn an_opt_out_whose_payload_was_erased_is_told_and_not_reopened() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let again = decided_too_soon(&store).await;
    settle(&store, &again, Ending::Skipped(SkipReason::Echo)).await;
    store.erase(&phone()).await.unwrap();

    let overtaking = opted_in(&store, &opt_in_at(Timestamp::now()), OptMethod::Webhook).await;

    assert_eq!(overtaking, Overtaking { erased: vec![again.id], ..Overtaking::default() });
    assert_eq!(store.held(Destination::TextUs).await.unwrap(), 0);
}
