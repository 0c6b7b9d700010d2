use std::time::Duration;

use hookline_common::names::HandlerName;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::model::{Claim, ClaimRequest, ContactLink, PhoneLock};

use crate::helpers::{TestStore, id_of, phone};

const LONG: Duration = Duration::from_secs(60);

fn nothing_known() -> ContactLink {
    ContactLink { account: "acme".to_owned(), phone: phone(), contact_id: None, person_id: None, created_by_us: false }
}

#[tokio::test]
async fn one_owner_at_a_time_and_each_learns_what_the_one_before_found_out() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let first = store.lock_phone("acme", &phone(), "a", LONG).await.unwrap();
    assert_eq!(first, PhoneLock::Mine(nothing_known()));
    assert_eq!(store.link("acme", &phone()).await.unwrap(), None, "a lock is no knowledge");

    let other = store.lock_phone("acme", &phone(), "b", LONG).await.unwrap();
    assert!(matches!(other, PhoneLock::Wait { until } if until > Timestamp::now()), "{other:?}");
    let elsewhere = store.lock_phone("other", &phone(), "b", LONG).await.unwrap();
    assert!(matches!(elsewhere, PhoneLock::Mine(_)), "another account is another lock: {elsewhere:?}");

    let made = ContactLink { contact_id: Some("/contacts/1".to_owned()), created_by_us: true, ..nothing_known() };
    store.save_link(&made).await.unwrap();
    store.unlock_phone("acme", &phone(), "b").await.unwrap();
    assert!(matches!(store.lock_phone("acme", &phone(), "b", LONG).await.unwrap(), PhoneLock::Wait { .. }));
    store.unlock_phone("acme", &phone(), "a").await.unwrap();

    assert_eq!(store.lock_phone("acme", &phone(), "b", LONG).await.unwrap(), PhoneLock::Mine(made.clone()));
    assert_eq!(store.link("acme", &phone()).await.unwrap(), Some(made));
}

#[tokio::test]
async fn a_lock_ends_with_its_lease() {
    let test = TestStore::new().await;
    test.store.lock_phone("acme", &phone(), "a", LONG).await.unwrap();
    assert!(matches!(test.store.lock_phone("acme", &phone(), "b", LONG).await.unwrap(), PhoneLock::Wait { .. }));

    // A minute and a second pass.
    test.execute("UPDATE contact_links SET lock_until = lock_until - 61000").await;

    assert!(matches!(test.store.lock_phone("acme", &phone(), "b", LONG).await.unwrap(), PhoneLock::Mine(_)));
}

#[tokio::test]
async fn locks_over_a_post_that_may_come_true_outlive_who_held_them() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (one, another) = (phone(), Phone::parse("+12025550100").unwrap());
    let event_id = id_of("a");
    let claim = ClaimRequest {
        handler: HandlerName::CreateContact,
        target: "acme",
        effect_key: one.as_e164(),
        event_id: &event_id,
        owner: "sent",
        lease: LONG,
        settle_after: LONG,
    };
    let Claim::Fresh(token) = store.claim(&claim).await.unwrap() else { panic!("claimed twice") };
    let lock = async |phone: &Phone, owner| store.lock_phone("acme", phone, owner, LONG).await.unwrap();
    lock(&one, "sent").await;
    lock(&another, "sent").await;
    store.end_claims_of("sent").await.unwrap();
    assert!(matches!(lock(&another, "next").await, PhoneLock::Mine(_)), "nothing was sent");
    store.unlock_phone("acme", &another, "next").await.unwrap();

    assert!(matches!(store.claim(&claim).await.unwrap(), Claim::Fresh(_)));
    lock(&one, "sent").await;
    lock(&another, "sent").await;
    assert!(store.still_mine(&token, LONG).await.unwrap());
    // Once while the call is under way, and once while it is in doubt.
    for _ in 0..2 {
        store.end_claims_of("sent").await.unwrap();
        for phone in [&one, &another] {
            assert!(matches!(lock(phone, "next").await, PhoneLock::Wait { .. }));
        }
    }
}

#[tokio::test]
async fn what_is_known_is_only_added_to() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let ours = ContactLink { contact_id: Some("/contacts/1".to_owned()), created_by_us: true, ..nothing_known() };
    store.save_link(&ours).await.unwrap();

    store.save_link(&ContactLink { person_id: Some("person_1".to_owned()), ..nothing_known() }).await.unwrap();

    let known = store.link("acme", &phone()).await.unwrap().expect("a link");
    assert_eq!(known, ContactLink { person_id: Some("person_1".to_owned()), ..ours });
    assert!(store.created_by_us("/contacts/1").await.unwrap());
    assert!(!store.created_by_us("/contacts/2").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_only_one_gets_the_lock() {
    let test = TestStore::new().await;
    let other = test.other().await;

    for account in ["a", "b", "c", "d", "e"] {
        let number = phone();
        let (left, right) = tokio::join!(
            test.store.lock_phone(account, &number, "left", LONG),
            other.lock_phone(account, &number, "right", LONG)
        );

        let won = [left.unwrap(), right.unwrap()].iter().filter(|lock| matches!(lock, PhoneLock::Mine(_))).count();
        assert_eq!(won, 1);
    }
}

#[tokio::test]
async fn a_post_stays_in_doubt_for_others_while_its_contact_is_looked_for() {
    let test = TestStore::new().await;
    let (store, phone) = (&test.store, phone());
    let [first, second, echo] = ["first", "second", "echo"].map(id_of);
    let claim = async |event_id, owner| {
        let request = ClaimRequest {
            handler: HandlerName::CreateContact,
            target: "acme",
            effect_key: phone.as_e164(),
            event_id,
            owner,
            lease: LONG,
            settle_after: Duration::ZERO,
        };
        match store.claim(&request).await.unwrap() {
            Claim::Fresh(token) | Claim::AfterUnknown { token, .. } => token,
            claim @ (Claim::Done { .. } | Claim::Wait { .. }) => panic!("not claimed: {claim:?}"),
        }
    };
    let in_doubt = async || {
        let mut doubts = Vec::new();
        for event_id in [&first, &second, &echo] {
            doubts.push(store.contact_in_doubt(&phone, event_id).await.unwrap());
        }
        <[bool; 3]>::try_from(doubts).unwrap()
    };

    let token = claim(&first, "a").await;
    assert_eq!(in_doubt().await, [false; 3], "nothing was sent");
    assert!(store.still_mine(&token, LONG).await.unwrap());
    assert_eq!(in_doubt().await, [false, true, true], "no answer yet");
    store.effect_unknown(&token).await.unwrap();
    assert_eq!(in_doubt().await, [false, true, true], "the answer was lost");
    for event_id in [&first, &second] {
        let token = claim(event_id, event_id.as_str()).await;
        assert_eq!(in_doubt().await, [false, true, true], "looked for by {event_id}");
        store.release(&token).await.unwrap();
        assert_eq!(in_doubt().await, [false, true, true], "not found out by {event_id}");
    }
}
