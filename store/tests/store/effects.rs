use std::time::Duration;

use hookline_common::event::EventId;
use hookline_common::names::{DeadReason, HandlerName};
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Claim, ClaimRequest, ClaimToken, PhoneLock};

use crate::helpers::{TestStore, at, dead, event, id_of, phone};

pub(crate) const LONG: Duration = Duration::from_secs(60);
/// A little more than a lease.
const MINUTE: Duration = Duration::from_secs(61);

/// Moves the table's times into the past, which looks like a later clock.
async fn a_minute_passes(test: &TestStore) {
    test.execute("UPDATE effects SET lease_until = lease_until - 61000, unknown_ms = unknown_ms - 61000").await;
}

/// A long claim on an effect of its own.
pub(crate) fn wanting<'a>(effect_key: &'a str, event_id: &'a EventId, owner: &'a str) -> ClaimRequest<'a> {
    ClaimRequest {
        handler: HandlerName::LogNote,
        target: "builtin",
        effect_key,
        event_id,
        owner,
        lease: LONG,
        settle_after: LONG,
    }
}

pub(crate) struct Asking<'a> {
    pub(crate) event_id: &'a EventId,
    pub(crate) owner: &'a str,
    pub(crate) lease: Duration,
    pub(crate) settle_after: Duration,
}

impl Asking<'_> {
    pub(crate) async fn ask(&self, store: &Store) -> Claim {
        store
            .claim(&ClaimRequest {
                lease: self.lease,
                settle_after: self.settle_after,
                ..wanting("/messages/1", self.event_id, self.owner)
            })
            .await
            .expect("the store answers")
    }

    pub(crate) async fn ask_afresh(&self, store: &Store) -> ClaimToken {
        let claim = self.ask(store).await;
        let Claim::Fresh(token) = claim else { panic!("not fresh: {claim:?}") };
        token
    }
}

pub(crate) fn by<'a>(owner: &'a str, event_id: &'a EventId) -> Asking<'a> {
    Asking { event_id, owner, lease: LONG, settle_after: LONG }
}

#[tokio::test]
async fn a_done_effect_names_the_event_that_made_it_to_every_other() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (first, second) = (id_of("first"), id_of("second"));
    let token = by("a", &first).ask_afresh(&store).await;
    assert!(store.still_mine(&token, LONG).await.unwrap());

    store.effect_done(&token, Some("note_1")).await.unwrap();

    let done = Claim::Done { event_id: first.clone(), remote_id: Some("note_1".to_owned()) };
    assert_eq!(by("b", &second).ask(&store).await, done);
    store.effect_unknown(&token).await.unwrap();
    store.release(&token).await.unwrap();
    assert_eq!(by("a", &first).ask(&store).await, done);
    assert!(!store.still_mine(&token, LONG).await.unwrap());
}

#[tokio::test]
async fn a_live_claim_makes_others_wait_for_its_lease() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let before = Timestamp::now();
    by("a", &id_of("first")).ask_afresh(&store).await;

    let Claim::Wait { until } = by("b", &id_of("second")).ask(&store).await else { panic!("it was taken over") };

    assert!(until >= before.plus(LONG) && until <= Timestamp::now().plus(LONG));
}

#[tokio::test]
async fn a_claim_given_back_with_nothing_sent_is_fresh_again() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let token = by("a", &id_of("first")).ask_afresh(&store).await;

    store.release(&token).await.unwrap();

    by("b", &id_of("first")).ask_afresh(&store).await;
}

#[tokio::test]
async fn the_same_attempt_asking_twice_must_look_first_where_it_has_sent() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event_id = id_of("first");
    by("a", &event_id).ask_afresh(&store).await;
    let token = by("a", &event_id).ask_afresh(&store).await;
    assert!(store.still_mine(&token, LONG).await.unwrap());

    let again = by("a", &event_id).ask(&store).await;

    assert!(matches!(again, Claim::AfterUnknown { write_again: false, .. }), "{again:?}");
}

#[tokio::test]
async fn an_unknown_outcome_is_left_alone_until_it_can_no_longer_change_and_then_looked_at() {
    let test = TestStore::new().await;
    let store = &test.store;
    let event_id = id_of("first");
    let token = by("a", &event_id).ask_afresh(store).await;
    let before = Timestamp::now();
    store.effect_unknown(&token).await.unwrap();

    let Claim::Wait { until } = by("b", &event_id).ask(store).await else { panic!("it was not waited for") };
    assert!(until >= before.plus(LONG) && until <= Timestamp::now().plus(LONG));
    a_minute_passes(&test).await;
    let claim = by("b", &event_id).ask(store).await;

    let Claim::AfterUnknown { token, write_again: false, .. } = claim else { panic!("{claim:?}") };
    store.release(&token).await.unwrap();
    let claim = by("c", &event_id).ask(store).await;
    assert!(matches!(claim, Claim::AfterUnknown { .. }), "giving it back must not make it fresh: {claim:?}");
}

#[tokio::test]
async fn an_expired_claim_that_sent_is_unknown_from_its_end() {
    let test = TestStore::new().await;
    let store = &test.store;
    let event_id = id_of("first");
    let token = by("a", &event_id).ask_afresh(store).await;
    assert!(store.still_mine(&token, LONG).await.unwrap());
    let Claim::Wait { until: end } = by("b", &event_id).ask(store).await else { panic!("it was taken over alive") };
    a_minute_passes(&test).await;

    let Claim::Wait { until } = by("b", &event_id).ask(store).await else { panic!("it was looked at too soon") };
    assert_eq!(until, end.minus(MINUTE).plus(LONG));
    a_minute_passes(&test).await;

    let claim = by("b", &event_id).ask(store).await;
    let Claim::AfterUnknown { token: second, write_again: false, .. } = claim else { panic!("{claim:?}") };
    store.release(&token).await.unwrap();
    store.effect_unknown(&token).await.unwrap();
    assert!(!store.still_mine(&token, LONG).await.unwrap(), "what was taken over may not write");
    assert!(store.still_mine(&second, LONG).await.unwrap(), "the first owner no longer has a say");
}

#[tokio::test]
async fn an_expired_claim_that_sent_nothing_is_fresh_at_once() {
    let test = TestStore::new().await;
    let event_id = id_of("first");
    let first = by("a", &event_id).ask_afresh(&test.store).await;
    a_minute_passes(&test).await;

    let second = by("b", &event_id).ask_afresh(&test.store).await;

    assert!(!test.store.still_mine(&first, LONG).await.unwrap(), "what was taken over may not write");
    assert!(test.store.still_mine(&second, LONG).await.unwrap());
}

#[tokio::test]
async fn what_a_claim_sent_is_not_held_against_the_one_after_it() {
    let test = TestStore::new().await;
    let store = &test.store;
    let (first, second) = (id_of("first"), id_of("second"));
    let token = by("a", &first).ask_afresh(store).await;
    assert!(store.still_mine(&token, LONG).await.unwrap());
    a_minute_passes(&test).await;
    a_minute_passes(&test).await;
    assert!(matches!(by("b", &second).ask(store).await, Claim::AfterUnknown { .. }));
    a_minute_passes(&test).await;

    // The second owner looked for too long and sent nothing: no settle time applies, and the first event's doubt
    // remains.
    let claim = by("c", &second).ask(store).await;

    let Claim::AfterUnknown { event_id, .. } = claim else { panic!("{claim:?}") };
    assert_eq!(event_id, first);
}

#[tokio::test]
async fn a_lease_that_ran_out_is_renewed_while_nobody_took_it_over() {
    let test = TestStore::new().await;
    let event_id = id_of("first");
    let token = by("a", &event_id).ask_afresh(&test.store).await;
    a_minute_passes(&test).await;

    assert!(test.store.still_mine(&token, LONG).await.unwrap());

    let Claim::Wait { until } = by("b", &event_id).ask(&test.store).await else { panic!("it was taken over") };
    assert!(until > Timestamp::now());
}

#[tokio::test]
async fn a_doubt_names_the_event_whose_call_it_was_however_often_others_look() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (first, second) = (id_of("first"), id_of("second"));
    let token = by("a", &first).ask_afresh(&store).await;
    store.effect_unknown(&token).await.unwrap();
    let looking = Asking { settle_after: Duration::ZERO, ..by("b", &second) };

    for _ in 0..2 {
        let claim = looking.ask(&store).await;
        let Claim::AfterUnknown { token, event_id, .. } = claim else { panic!("{claim:?}") };
        assert_eq!(event_id, first);
        store.release(&token).await.unwrap();
    }

    let claim = looking.ask(&store).await;
    let Claim::AfterUnknown { token, .. } = claim else { panic!("{claim:?}") };
    store.effect_done(&token, Some("note_1")).await.unwrap();
    let found = Claim::Done { event_id: first, remote_id: Some("note_1".to_owned()) };
    assert_eq!(by("c", &second).ask(&store).await, found, "it was found, not made");
}

#[tokio::test]
async fn an_effect_that_was_written_after_a_doubt_is_the_writers() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (first, second) = (id_of("first"), id_of("second"));
    let token = by("a", &first).ask_afresh(&store).await;
    store.effect_unknown(&token).await.unwrap();
    let claim = Asking { settle_after: Duration::ZERO, ..by("b", &second) }.ask(&store).await;
    let Claim::AfterUnknown { token, .. } = claim else { panic!("{claim:?}") };

    assert!(store.still_mine(&token, LONG).await.unwrap());
    store.effect_done(&token, None).await.unwrap();

    assert_eq!(by("c", &first).ask(&store).await, Claim::Done { event_id: second, remote_id: None });
}

#[tokio::test]
async fn a_late_success_of_a_lost_claim_stops_the_next_from_writing() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event_id = id_of("first");
    let first = Asking { lease: Duration::ZERO, ..by("a", &event_id) }.ask_afresh(&store).await;
    assert!(store.still_mine(&first, Duration::ZERO).await.unwrap());
    let claim = Asking { settle_after: Duration::ZERO, ..by("b", &event_id) }.ask(&store).await;
    let Claim::AfterUnknown { token: second, .. } = claim else { panic!("{claim:?}") };

    store.effect_done(&first, Some("note_1")).await.unwrap();

    assert!(!store.still_mine(&second, LONG).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_only_one_wins_a_claim() {
    let test = TestStore::new().await;
    let other = test.other().await;

    for round in 0..20 {
        let claims = (0..8).map(|i| {
            let store = if i % 2 == 0 { test.store.clone() } else { other.clone() };
            tokio::spawn(async move {
                let event_id = id_of("first");
                let (effect_key, owner) = (format!("/messages/{round}"), format!("owner {i}"));
                store
                    .claim(&ClaimRequest {
                        handler: HandlerName::LogNote,
                        target: "builtin",
                        effect_key: &effect_key,
                        event_id: &event_id,
                        owner: &owner,
                        lease: LONG,
                        settle_after: LONG,
                    })
                    .await
                    .unwrap()
            })
        });
        let mut fresh = 0;
        for claim in claims.collect::<Vec<_>>() {
            let claim = claim.await.unwrap();
            assert!(matches!(claim, Claim::Fresh(_) | Claim::Wait { .. }), "{claim:?}");
            fresh += u32::from(matches!(claim, Claim::Fresh(_)));
        }
        assert_eq!(fresh, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_only_one_takes_an_unknown_outcome_over() {
    let test = TestStore::new().await;
    let other = test.other().await;
    let event_id = id_of("first");
    let token = by("dead", &event_id).ask_afresh(&test.store).await;
    test.store.effect_unknown(&token).await.unwrap();

    let (left, right) = ("left", "right");
    let (asks_left, asks_right) = (
        Asking { settle_after: Duration::ZERO, ..by(left, &event_id) },
        Asking { settle_after: Duration::ZERO, ..by(right, &event_id) },
    );
    let (left, right) = tokio::join!(asks_left.ask(&test.store), asks_right.ask(&other));

    let won = [&left, &right].into_iter().filter(|claim| matches!(claim, Claim::AfterUnknown { .. })).count();
    assert_eq!(won, 1, "{left:?} {right:?}");
}

#[tokio::test]
async fn a_person_may_say_that_it_was_not_made_and_that_counts_once() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("first");
    let token = by("a", &event.id).ask_afresh(&store).await;
    store.effect_unknown(&token).await.unwrap();
    store
        .insert_dead_letter(&event, HandlerName::LogNote, &dead(DeadReason::OutcomeUnknown, at(0)), &[])
        .await
        .unwrap();
    let dead_letter = store.dead_letter(event.id.as_str()).await.unwrap().remove(0);

    assert!(store.resolve_write_again(&dead_letter.id).await.unwrap());

    let asking = Asking { settle_after: Duration::ZERO, ..by("b", &event.id) };
    let claim = asking.ask(&store).await;
    let Claim::AfterUnknown { token, write_again: true, .. } = claim else { panic!("{claim:?}") };
    store.effect_unknown(&token).await.unwrap();
    let claim = asking.ask(&store).await;
    assert!(matches!(claim, Claim::AfterUnknown { write_again: false, .. }), "{claim:?}");
}

#[tokio::test]
async fn a_person_may_say_that_it_was_made() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("first");
    let token = by("a", &event.id).ask_afresh(&store).await;
    store.effect_unknown(&token).await.unwrap();
    store
        .insert_dead_letter(&event, HandlerName::LogNote, &dead(DeadReason::OutcomeUnknown, at(0)), &[])
        .await
        .unwrap();
    let dead_letter = store.dead_letter(event.id.as_str()).await.unwrap().remove(0);

    assert!(store.resolve_done(&dead_letter.id).await.unwrap());

    assert!(matches!(by("b", &id_of("second")).ask(&store).await, Claim::Done { .. }));
    assert!(!store.resolve_done(&dead_letter.id).await.unwrap(), "it is gone");
}

#[tokio::test]
async fn what_a_panicked_handler_held_is_free_and_what_others_hold_is_theirs() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event_id = id_of("a");
    let another = Phone::parse("+12025550100").unwrap();
    let held = by("held", &event_id).ask_afresh(&store).await;
    store.lock_phone("acme", &phone(), "panicked", LONG).await.unwrap();
    store.lock_phone("acme", &another, "held", LONG).await.unwrap();

    store.end_claims_of("panicked").await.unwrap();

    assert!(store.still_mine(&held, LONG).await.unwrap());
    assert!(matches!(store.lock_phone("acme", &phone(), "next", LONG).await.unwrap(), PhoneLock::Mine(_)));
    assert!(matches!(store.lock_phone("acme", &another, "next", LONG).await.unwrap(), PhoneLock::Wait { .. }));
    store.end_claims_of("held").await.unwrap();
    let next = Asking { settle_after: Duration::ZERO, ..by("next", &event_id) }.ask(&store).await;
    assert!(matches!(next, Claim::AfterUnknown { .. }), "it had sent: {next:?}");
}
