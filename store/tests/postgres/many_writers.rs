//! Several processes write to one database at once. Each `Store` has connections of its own, as a process has.

use std::time::{Duration, Instant};

use futures::future::join_all;
use hookline_common::names::{DeliveryState, HandlerName, Verdict};
use hookline_common::phone::Phone;
use hookline_store::model::{Begin, Claim, ContactLink, Copied, Ending, PersonFacts, PhoneLock};
use hookline_store::{Store, StoreError};
use sqlx::Connection as _;

use crate::database::KEY;
use crate::deliveries::{HANDLER, counts};
use crate::effects::wanting;
use crate::helpers::{TestStore, at, attempt, event, id_of, phone};
use crate::ledger::opt_out;

const LONG: Duration = Duration::from_secs(60);

async fn processes(test: &TestStore, count: usize) -> Vec<Store> {
    let mut all = vec![test.store.clone()];
    while all.len() < count {
        all.push(test.other().await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_of_four_processes_is_one_chain() {
    let test = TestStore::new().await;
    let processes = processes(&test, 4).await;

    let appenders = (0..32).map(|i| {
        let store = processes[i % processes.len()].clone();
        tokio::spawn(async move {
            for n in 0..5 {
                opt_out(&store, &format!("account-{i}-{n}")).await;
            }
        })
    });
    for appender in appenders.collect::<Vec<_>>() {
        appender.await.unwrap();
    }

    let check = test.store.verify(None).await.unwrap();
    assert_eq!((check.entries, check.broken), (32 * 5 * 3, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_opens_no_more_connections_than_configured_and_two_are_enough() {
    let test = TestStore::new().await;
    let mut admin = test.sql().await;
    let mut opened = async || {
        let count = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()
                     AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut admin).await.unwrap()
    };
    test.store.close().await;
    for (connections, limit) in [(2, 2), (5, 5)] {
        let deadline = Instant::now() + LONG;
        while opened().await > 0 {
            assert!(Instant::now() < deadline, "the server ends the connections that were closed");
        }
        let store = test.with_connections(connections).await;
        let work = (0..40).map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                opt_out(&store, &format!("account-{connections}-{n}")).await;
                store.begin(&event(&format!("{connections} {n}")), HANDLER, 1, None).await.unwrap();
                assert_eq!(store.verify(None).await.unwrap().broken, None);
                store.counts().await.unwrap();
                store.erase(&phone()).await.unwrap();
            })
        });
        let work: Vec<_> = work.collect();
        let mut most = 0;
        while !work.iter().all(tokio::task::JoinHandle::is_finished) {
            most = most.max(opened().await);
        }
        for done in join_all(work).await {
            done.unwrap();
        }
        store.close().await;
        assert!((1..=limit).contains(&most), "{most} connections of {limit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_is_seen_whole_while_it_grows() {
    let test = TestStore::new().await;
    let other = test.other().await;
    let appending = tokio::spawn(async move {
        for n in 0..40 {
            opt_out(&other, &format!("account-{n}")).await;
        }
    });

    while !appending.is_finished() {
        let check = test.store.verify(None).await.unwrap();
        assert_eq!(check.broken, None, "after {} entries", check.entries);
    }

    appending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixty_four_that_claim_one_effect_exactly_one_gets_it() {
    let test = TestStore::new().await;
    let processes = processes(&test, 4).await;
    let event_id = id_of("a");

    for round in 0..5 {
        let key = format!("/messages/{round}");
        let owners: Vec<String> = (0..64).map(|i| format!("owner {i}")).collect();
        let claims = join_all(owners.iter().enumerate().map(|(i, owner)| {
            let request = wanting(&key, &event_id, owner);
            let store = &processes[i % processes.len()];
            async move { store.claim(&request).await.unwrap() }
        }))
        .await;

        let won = claims.iter().filter(|claim| matches!(claim, Claim::Fresh(_))).count();
        let waiting = claims.iter().filter(|claim| matches!(claim, Claim::Wait { .. })).count();
        assert_eq!((won, waiting), (1, 63));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_person_is_made_of_many_events_at_once() {
    let test = TestStore::new().await;
    let processes = processes(&test, 4).await;
    let facts = [
        PersonFacts { contact_id: Some("/contacts/1".to_owned()), phones: vec![phone()], name: None },
        PersonFacts { contact_id: Some("/contacts/1".to_owned()), phones: Vec::new(), name: Some("Ann".to_owned()) },
        PersonFacts { contact_id: None, phones: vec![phone()], name: None },
    ];
    test.store.upsert_person(&facts[0]).await.unwrap();
    let other = Phone::parse("+12025550148").unwrap();
    let fresh = PersonFacts { contact_id: None, phones: vec![other], name: None };

    let made = join_all((0..48).map(|i| {
        let (store, facts) = (&processes[i % processes.len()], if i % 2 == 0 { &fresh } else { &facts[i % 3] });
        async move { store.upsert_person(facts).await.unwrap() }
    }))
    .await;

    assert_eq!(made.iter().filter(|(_, created, _)| *created).count(), 1, "of the second person");
    assert_eq!(test.store.persons(100, None).await.unwrap().rows.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_whose_numbers_come_in_any_order_at_once_is_one_and_nothing_deadlocks() {
    let test = TestStore::new().await;
    let processes = processes(&test, 4).await;
    let numbers = [1, 2, 3, 4].map(|last| Phone::parse(&format!("+1202555100{last}")).unwrap());
    // By their numbers alone first, so that each becomes a separate person.
    for number in &numbers {
        let facts = PersonFacts { contact_id: None, phones: vec![number.clone()], name: None };
        test.store.upsert_person(&facts).await.unwrap();
    }

    join_all((0..48).map(|i| {
        let mut phones = numbers.to_vec();
        phones.rotate_left(i % numbers.len());
        if i % 3 == 0 {
            phones.reverse();
        }
        let facts = PersonFacts { contact_id: Some("/contacts/1".to_owned()), phones, name: None };
        let store = &processes[i % processes.len()];
        async move { store.upsert_person(&facts).await.unwrap() }
    }))
    .await;

    let people = test.store.persons(100, None).await.unwrap().rows;
    assert_eq!(people.iter().map(|person| person.phones.len()).collect::<Vec<_>>(), [4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_changes_once_for_many_that_set_it() {
    let test = TestStore::new().await;
    let processes = processes(&test, 4).await;

    let changed = join_all((0..32).map(|i| {
        let store = &processes[i % processes.len()];
        async move { store.set_opt_flag(&phone(), true, at(0)).await.unwrap() }
    }))
    .await;

    assert_eq!(changed.into_iter().filter(|changed| *changed).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_is_locked_for_one_owner_of_many() {
    let test = TestStore::new().await;
    let processes = processes(&test, 4).await;
    let owners: Vec<String> = (0..32).map(|i| format!("owner {i}")).collect();

    let locks = join_all(owners.iter().enumerate().map(|(i, owner)| {
        let store = &processes[i % processes.len()];
        async move { store.lock_phone("acme", &phone(), owner, LONG).await.unwrap() }
    }))
    .await;

    assert_eq!(locks.iter().filter(|lock| matches!(lock, PhoneLock::Mine(_))).count(), 1);
    let nothing = ContactLink {
        account: "acme".to_owned(),
        phone: phone(),
        contact_id: None,
        person_id: None,
        created_by_us: false,
    };
    assert!(locks.contains(&PhoneLock::Mine(nothing)));
}

/// History records events while their handlers, in other processes, begin and end them, in every order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_and_handlers_meet_at_the_same_events_without_standing_in_each_others_way() {
    let test = TestStore::new().await;
    let processes = processes(&test, 4).await;
    let events: Vec<_> = (0..256).map(|i| event(&format!("event {i}"))).collect();
    let routed = HandlerName::ALL.to_vec();

    let recording = join_all(processes[..2].iter().map(|store| {
        let mut batch: Vec<_> = events.iter().map(|event| (event.clone(), routed.clone())).collect();
        batch.reverse();
        async move { store.record_events(&batch).await.unwrap() }
    }));
    let handling = join_all(events.iter().enumerate().map(|(i, event)| {
        let store = &processes[2 + i % 2];
        async move {
            assert_eq!(store.begin(event, HANDLER, 1, None).await.unwrap(), Begin::Go);
            store.finish(&attempt(event, HANDLER, 1, Verdict::Done), Ending::Done, &[]).await.unwrap();
        }
    }));
    tokio::join!(recording, handling);

    let counted = counts(&test.store).await;
    assert_eq!((counted.accepted, counted.done, counted.waiting), (256, 256, 0));
    let history = test.store.delivery_ids(HandlerName::RecordHistory, Some(DeliveryState::Done)).await.unwrap();
    assert_eq!(history.len(), 256);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_of_an_event_in_one_batch_are_one() {
    let test = TestStore::new().await;
    let twice = [(event("a"), vec![HandlerName::RecordHistory]), (event("a"), vec![HandlerName::RecordHistory])];

    test.store.record_events(&twice).await.unwrap();

    assert_eq!(test.store.delivery_ids(HandlerName::RecordHistory, None).await.unwrap().len(), 1);
}

/// A transaction that is stopped midway with a lock holds up only the jobs that need that lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_somebody_keeps_holds_up_only_what_needs_it_and_then_says_so() {
    let test = TestStore::new().await;
    let blocked = event("blocked");
    test.store.begin(&blocked, HANDLER, 1, None).await.unwrap();
    let mut other = test.sql().await;
    let mut held = other.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM deliveries FOR UPDATE").execute(&mut *held).await.unwrap();

    let record = attempt(&blocked, HANDLER, 1, Verdict::Done);
    let (refused, others) = tokio::join!(
        test.store.finish(&record, Ending::Done, &[]),
        join_all((0..20).map(|i| {
            let (store, event) = (test.store.clone(), event(&format!("free {i}")));
            async move { store.begin(&event, HANDLER, 1, None).await }
        }))
    );

    assert!(others.into_iter().all(|begun| begun.unwrap() == Begin::Go));
    let refused = refused.unwrap_err();
    assert!(matches!(refused, StoreError::Contended(_)) && refused.is_unavailable(), "{refused}");
    held.rollback().await.unwrap();
    test.store.finish(&record, Ending::Done, &[]).await.unwrap();
    assert_eq!(counts(&test.store).await.done, 1);
}

#[tokio::test]
async fn a_row_that_somebody_keeps_fails_alone_of_those_asked_with_it() {
    let test = TestStore::new().await;
    let events: Vec<_> = (0..20).map(|i| event(&i.to_string())).collect();
    join_all(events.iter().map(|event| test.store.begin(event, HANDLER, 1, None))).await;
    let mut other = test.sql().await;
    let mut held = other.begin().await.unwrap();
    let lock = "SELECT 1 FROM deliveries WHERE event_id = $1 FOR UPDATE";
    sqlx::query(lock).bind(events[7].id.as_str()).execute(&mut *held).await.unwrap();

    let records: Vec<_> = events.iter().map(|event| attempt(event, HANDLER, 1, Verdict::Done)).collect();
    let ended = join_all(records.iter().map(|record| test.store.finish(record, Ending::Done, &[]))).await;

    for (i, ended) in ended.into_iter().enumerate() {
        match ended {
            Ok(()) => assert_ne!(i, 7),
            Err(error) => assert!(i == 7 && matches!(error, StoreError::Contended(_)), "{i}: {error}"),
        }
    }
    held.rollback().await.unwrap();
    assert_eq!(counts(&test.store).await.done, 19);
}

#[tokio::test]
async fn the_attempt_whose_effect_somebody_keeps_begins_without_its_claim_and_the_others_have_theirs() {
    let test = TestStore::new().await;
    let events: Vec<_> = (0..20).map(|i| event(&i.to_string())).collect();
    let begin = || {
        join_all(events.iter().map(|event| async {
            let claim = wanting(event.id.as_str(), &event.id, "a");
            test.store
                .begin_claiming(event, HANDLER, Copied { attempt: 1, again: None, copy: None }, Some(&claim))
                .await
        }))
    };
    assert!(begin().await.into_iter().all(|begun| matches!(begun, Ok((Begin::Go, Some(Claim::Fresh(_)))))));
    let mut other = test.sql().await;
    let mut held = other.begin().await.unwrap();
    let lock = "SELECT 1 FROM effects WHERE effect_key = $1 FOR UPDATE";
    sqlx::query(lock).bind(events[7].id.as_str()).execute(&mut *held).await.unwrap();

    for (i, begun) in begin().await.into_iter().enumerate() {
        let begun = begun.unwrap_or_else(|error| panic!("{i}: {error}"));
        match begun {
            (Begin::Go, None) => assert_eq!(i, 7, "only its claim is missing"),
            // The owner gets its own claim again.
            begun => assert!(i != 7 && matches!(begun, (Begin::Go, Some(Claim::Fresh(_)))), "{i}: {begun:?}"),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_written_fails_alone_of_those_asked_with_it() {
    let test = TestStore::new().await;
    let event_id = id_of("a");
    let keys: Vec<String> = (0..20).map(|i| format!("/messages/{i}")).collect();

    let claims = join_all(keys.iter().enumerate().map(|(i, key)| {
        // PostgreSQL texts hold no NUL.
        let request = wanting(key, &event_id, if i == 7 { "a\0b" } else { "a" });
        let store = &test.store;
        async move { store.claim(&request).await }
    }))
    .await;

    for (i, claim) in claims.into_iter().enumerate() {
        match claim {
            Ok(claim) => assert!(i != 7 && matches!(claim, Claim::Fresh(_)), "{i}: {claim:?}"),
            Err(error) => assert!(i == 7 && matches!(error, StoreError::Invalid(_)), "{i}: {error}"),
        }
    }
}

#[tokio::test]
async fn columns_that_a_newer_version_adds_do_not_break_what_is_prepared() {
    let test = TestStore::new().await;
    let all = [(event("a"), vec![HANDLER])];
    test.store.record_events(&all).await.unwrap();
    test.store.gates().await.unwrap();
    test.store.event(&all[0].0.id).await.unwrap();

    for table in ["gates", "attempts", "events", "deliveries", "effects", "opt_ledger", "workers"] {
        let statement = format!("ALTER TABLE {table} ADD COLUMN later BIGINT");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut test.sql().await).await.unwrap();
    }

    test.store.gates().await.unwrap();
    test.store.event(&all[0].0.id).await.unwrap();
    test.store.event_payload(&all[0].0.id).await.unwrap();
    test.open(KEY).await.unwrap().verify(None).await.unwrap();
}
