//! Requests of many callers are written together, and each caller gets the answer that it would get alone.

use futures::future::join_all;
use hookline_broker::Again;
use hookline_common::names::{DeliveryState, HandlerName, SkipReason, Verdict};
use hookline_common::phone::Phone;
use hookline_store::Store;
use hookline_store::model::{
    Begin, Claim, ClaimRequest, ClaimToken, CompletedEffect, Copied, Ending, LedgerKind, OptEvent, PutAnswer,
    PutDecision,
};

use crate::deliveries::{HANDLER, counts};
use crate::effects::{LONG, wanting};
use crate::helpers::{TestStore, attempt, event, id_of};
use crate::opt_outs::opted_out;

/// Enough for several statements per batch, and for several batches.
const MANY: usize = 150;

pub(crate) fn phone(number: usize) -> Phone {
    Phone::parse(&format!("+1202555{number:04}")).expect("a number")
}

async fn skip(store: &Store, name: &str) {
    let event = event(name);
    store.begin(&event, HANDLER, 1, None).await.expect("the store answers");
    let record = attempt(&event, HANDLER, 1, Verdict::Skipped);
    store.finish(&record, Ending::Skipped(SkipReason::UnknownContact), &[]).await.expect("the store answers");
}

#[tokio::test]
async fn attempts_that_begin_together_are_told_apart() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (done, later) = (event("done"), event("later"));
    store.finish(&attempt(&done, HANDLER, 1, Verdict::Done), Ending::Done, &[]).await.unwrap();
    store.begin(&later, HANDLER, 3, None).await.unwrap();
    skip(&store, "skipped").await;
    skip(&store, "redriven").await;

    let expected = [
        ("new", 1, None, Begin::Go),
        ("done", 2, None, Begin::AlreadySettled(DeliveryState::Done)),
        ("redriven", 1, Some(Again::Redrive), Begin::Go),
        ("later", 2, None, Begin::StaleCopy),
        ("skipped", 2, None, Begin::AlreadySettled(DeliveryState::Skipped)),
        ("another new", 1, Some(Again::Replay), Begin::Go),
        ("new", 1, None, Begin::Go),
    ];
    let events = expected.each_ref().map(|(name, ..)| event(name));
    let begins = expected
        .iter()
        .zip(&events)
        .map(|((_, attempt, again, _), event)| store.begin(event, HANDLER, *attempt, *again));
    let begun = join_all(begins).await;

    for ((name, attempt, _, expected), begun) in expected.into_iter().zip(begun) {
        assert_eq!(begun.unwrap(), expected, "{name}, attempt {attempt}");
    }
}

/// Attempts that may go ahead get a claim of their own on `key`; the others claim nothing.
#[tokio::test]
async fn attempts_that_begin_together_claim_where_they_may_go_ahead() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let events: Vec<_> = (0..MANY).map(|i| event(&i.to_string())).collect();
    let key = |i: usize| format!("/messages/{i}");
    let ask = |i: usize, owner: &'static str| {
        let (store, event, key) = (&store, &events[i], key(i));
        async move {
            let claim = wanting(&key, &event.id, owner);
            store
                .begin_claiming(event, HANDLER, Copied { attempt: 1, again: None, copy: None }, Some(&claim))
                .await
                .unwrap()
        }
    };
    // Every third event is done, and another worker has claimed every third.
    let done = join_all((0..MANY).step_by(3).map(|i| ask(i, "first"))).await;
    for (i, (_, claim)) in (0..MANY).step_by(3).zip(done) {
        let Some(Claim::Fresh(token)) = claim else { panic!("{i}: {claim:?}") };
        let record = attempt(&events[i], HANDLER, 1, Verdict::Done);
        store.finish(&record, Ending::Done, &[CompletedEffect::new(token, Some("note"))]).await.unwrap();
    }
    join_all((1..MANY).step_by(3).map(|i| ask(i, "first"))).await;

    let begun = join_all((0..MANY).map(|i| ask(i, "second"))).await;

    for (i, begun) in begun.into_iter().enumerate() {
        match (i % 3, begun) {
            (0, (Begin::AlreadySettled(DeliveryState::Done), None)) | (1, (Begin::Go, Some(Claim::Wait { .. }))) => {}
            (2, (Begin::Go, Some(Claim::Fresh(token)))) => assert_eq!(token.effect_key, key(i)),
            (_, other) => panic!("{i}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_attempt_begins_without_its_claim_where_the_claim_alone_fails() {
    let test = TestStore::new().await;
    let (before, event) = (event("before"), event("now"));
    let key = "/messages/1";
    let Claim::Fresh(token) = test.store.claim(&wanting(key, &before.id, "first")).await.unwrap() else {
        panic!("nobody else is at it")
    };
    test.store.effect_done(&token, None).await.unwrap();
    test.execute("UPDATE effects SET event_id = 'no id'").await;

    let claim = wanting(key, &event.id, "second");
    let copied = Copied { attempt: 1, again: None, copy: None };
    let begun = test.store.begin_claiming(&event, HANDLER, copied, Some(&claim)).await;

    assert_eq!(begun.unwrap(), (Begin::Go, None));
    assert!(test.store.claim(&claim).await.is_err());
}

#[tokio::test]
async fn what_attempts_made_is_noted_with_their_end() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let events: Vec<_> = (0..MANY).map(|i| event(&i.to_string())).collect();
    let routed: Vec<_> = events.iter().map(|event| (event.clone(), vec![HANDLER])).collect();
    store.record_events(&routed).await.unwrap();
    let keys: Vec<_> = (0..MANY).map(|i| format!("/messages/{i}")).collect();
    let claim = |i: usize, owner: &'static str| {
        let request = wanting(&keys[i], &events[i].id, owner);
        let store = &store;
        async move { store.claim(&request).await.unwrap() }
    };
    let claims = join_all((0..MANY).map(|i| claim(i, "first"))).await;

    join_all(claims.into_iter().enumerate().map(|(i, claim)| {
        let Claim::Fresh(token) = claim else { panic!("{i}: {claim:?}") };
        let (effects, store, event) = ([CompletedEffect::new(token, Some(&i.to_string()))], &store, &events[i]);
        async move {
            // Settled, or parked for another target.
            if i % 2 == 0 {
                store.finish(&attempt(event, HANDLER, 1, Verdict::Done), Ending::Done, &effects).await.unwrap();
            } else {
                store.log_attempt(&attempt(event, HANDLER, 1, Verdict::Parked), &effects).await.unwrap();
            }
        }
    }))
    .await;

    for (i, claim) in join_all((0..MANY).map(|i| claim(i, "second"))).await.into_iter().enumerate() {
        let expected = Claim::Done { event_id: events[i].id.clone(), remote_id: Some(i.to_string()) };
        assert_eq!(claim, expected);
        let (_, logged) = store.event(&events[i].id).await.unwrap().expect("it is known");
        assert_eq!(logged.len(), 1);
    }
}

#[tokio::test]
async fn attempts_that_end_together_are_each_settled_and_logged() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let events: Vec<_> = (0..MANY).map(|i| event(&i.to_string())).collect();
    let routed: Vec<_> = events.iter().map(|event| (event.clone(), vec![HANDLER])).collect();
    store.record_events(&routed).await.unwrap();

    let store = &store;
    join_all(events.iter().enumerate().map(|(i, event)| async move {
        let number = u32::try_from(i).unwrap() + 1;
        let (verdict, ending) = match i % 3 {
            0 => (Verdict::Skipped, Ending::Skipped(SkipReason::Unchanged)),
            _ => (Verdict::Done, Ending::Done),
        };
        store.finish(&attempt(event, HANDLER, number, verdict), ending, &[]).await.unwrap();
    }))
    .await;

    let counts = counts(store).await;
    assert_eq!((counts.done, counts.skipped), (100, 50));
    for (i, event) in events.iter().enumerate() {
        let (_, logged) = store.event(&event.id).await.unwrap().expect("it is known");
        let numbers: Vec<u32> = logged.iter().map(|logged| logged.attempt).collect();
        assert_eq!(numbers, [u32::try_from(i).unwrap() + 1]);
    }
}

#[tokio::test]
async fn effects_that_are_claimed_together_are_each_somebodys() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event_id = id_of("a");
    let ask = |key: String, owner: &'static str| {
        let (store, event_id) = (store.clone(), event_id.clone());
        async move {
            let request = wanting(&key, &event_id, owner);
            store.claim(&request).await.unwrap()
        }
    };
    let taken = join_all((0..MANY).step_by(3).map(|i| ask(format!("/messages/{i}"), "first"))).await;
    assert!(taken.iter().all(|claim| matches!(claim, Claim::Fresh(_))));

    let claims = join_all((0..MANY).map(|i| ask(format!("/messages/{i}"), "second"))).await;

    let mut tokens: Vec<ClaimToken> = Vec::new();
    for (i, claim) in claims.into_iter().enumerate() {
        match claim {
            Claim::Wait { .. } => assert_eq!(i % 3, 0, "{i}"),
            Claim::Fresh(token) => {
                assert_eq!((i % 3 != 0, &token.effect_key), (true, &format!("/messages/{i}")));
                tokens.push(token);
            }
            Claim::Done { .. } | Claim::AfterUnknown { .. } => panic!("{i}: nothing was sent"),
        }
    }
    // Half of the tokens name an owner that does not hold the claim.
    let lost = tokens.iter().map(|token| ClaimToken { owner: "somebody else".to_owned(), ..token.clone() });
    let asked: Vec<ClaimToken> = tokens.iter().cloned().zip(lost).flat_map(|(ours, lost)| [ours, lost]).collect();
    let held = join_all(asked.iter().map(|token| store.still_mine(token, LONG))).await;
    for (token, held) in asked.iter().zip(held) {
        assert_eq!(held.unwrap(), token.owner == "second", "{token:?}");
    }
    let remote_id = |token: &ClaimToken| format!("note of {}", token.effect_key);
    join_all(tokens.iter().map(|token| async { store.effect_done(token, Some(&remote_id(token))).await.unwrap() }))
        .await;
    for token in &tokens {
        let Claim::Done { remote_id: known, .. } = ask(token.effect_key.clone(), "third").await else {
            panic!("{token:?} is not done");
        };
        assert_eq!(known, Some(remote_id(token)));
    }
}

#[tokio::test]
async fn opt_outs_that_come_together_are_each_decided_once() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let names: Vec<_> = (0..MANY).map(|i| (id_of(&i.to_string()), phone(i / 2))).collect();
    // Each event twice, and two events per phone.
    let opts: Vec<OptEvent<'_>> =
        names.iter().flat_map(|name| [name, name]).map(|(event_id, phone)| opted_out(event_id, phone)).collect();

    join_all(names.iter().map(|(event_id, _)| async {
        let request = ClaimRequest {
            handler: HandlerName::RecordOptOut,
            target: "acme",
            effect_key: event_id.as_str(),
            ..wanting("", event_id, "a worker")
        };
        assert!(matches!(store.claim(&request).await, Ok(Claim::Fresh(_))));
    }))
    .await;

    let decisions = join_all(opts.iter().map(|opt| store.record_and_decide(opt, "acme"))).await;

    let decisions: Vec<PutDecision> =
        decisions.into_iter().map(|decision| decision.unwrap().expect("none is stale")).collect();
    let mut expected = Vec::new();
    for (opts, decisions) in opts.chunks(4).zip(decisions.chunks(4)) {
        // The first event of a phone is PUT; the other may be the echo of our own PUT.
        let (first, again) = match decisions {
            [PutDecision::Put, PutDecision::Put, PutDecision::Wait { .. }, PutDecision::Wait { .. }] => {
                (0, ["Duplicate", "Echo"])
            }
            [PutDecision::Wait { .. }, PutDecision::Wait { .. }, PutDecision::Put, PutDecision::Put] => {
                (2, ["Echo", "Duplicate"])
            }
            others => panic!("{others:?}"),
        };
        let put = &opts[first];
        store.put_answered(put.event_id, put.phone, "acme", PutAnswer::Status(201)).await.unwrap();
        let ledger = store.prove(put.phone).await.unwrap();
        let received = ledger.iter().filter(|entry| entry.kind == LedgerKind::Received).count();
        assert_eq!(received, 2, "{ledger:?}");
        expected.extend(again.into_iter().flat_map(|name| [name, name]));
    }
    let again = join_all(opts.iter().map(|opt| store.decide_put(opt, "acme"))).await;
    let again: Vec<String> = again.into_iter().map(|decision| format!("{:?}", decision.unwrap())).collect();
    assert_eq!(again, expected);
    let check = store.verify(None).await.unwrap();
    assert_eq!(check.broken, None);
}
