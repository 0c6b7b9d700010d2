use hookline_common::names::SkipReason;
use hookline_common::phone::Phone;
use hookline_store::Store;
use hookline_store::model::{LedgerKind, OptEvent, OptMethod, PutAnswer, PutDecision};

use crate::helpers::{TestStore, at, id_of, phone};

/// Records an opt-out and its PUT: three entries.
pub(crate) async fn opt_out(store: &Store, name: &str) {
    let event_id = id_of(name);
    let phone = phone();
    let event = OptEvent {
        event_id: &event_id,
        source_event_id: Some(name),
        account: name,
        phone: &phone,
        opted_out: true,
        event_time: Some(at(0)),
        received_at: at(1),
        method: OptMethod::Webhook,
        targets: &[],
    };
    store.record_opt_event(&event).await.expect("the store answers");
    assert_eq!(store.decide_put(&event, name).await.expect("the store answers"), PutDecision::Put);
    store.put_answered(&event_id, &phone, name, PutAnswer::Status(201)).await.expect("the store answers");
}

#[tokio::test]
async fn the_evidence_tells_what_came_and_what_was_done_in_order() {
    let TestStore { store, home: _home } = TestStore::new().await;
    opt_out(&store, "acme").await;
    let event_id = id_of("acme");
    store.put_answered(&event_id, &phone(), "acme", PutAnswer::ReadBack(409)).await.unwrap();
    store.put_answered(&event_id, &phone(), "acme", PutAnswer::NoAnswer).await.unwrap();

    let entries = store.prove(&phone()).await.unwrap();

    let told: Vec<_> = entries.iter().map(|entry| (entry.kind, entry.status)).collect();
    assert_eq!(
        told,
        [
            (LedgerKind::Received, None),
            (LedgerKind::PutSent, None),
            (LedgerKind::PutAnswered, Some(201)),
            (LedgerKind::PutAnswered, Some(409)),
            (LedgerKind::ReadBack, Some(200)),
            (LedgerKind::PutAnswered, None),
        ]
    );
    assert_eq!(entries[0].previous_hash, "0".repeat(64));
    assert!(entries.windows(2).all(|pair| pair[0].hash == pair[1].previous_hash));
}

#[tokio::test]
async fn a_skip_is_noted_once_per_event() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (event_id, phone) = (id_of("echo"), phone());
    let event = OptEvent {
        event_id: &event_id,
        source_event_id: None,
        account: "acme",
        phone: &phone,
        opted_out: true,
        event_time: None,
        received_at: at(1),
        method: OptMethod::Webhook,
        targets: &[],
    };

    store.note_skipped(&event, SkipReason::Echo).await.unwrap();
    store.note_skipped(&event, SkipReason::Echo).await.unwrap();

    let entries = store.prove(&phone).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [LedgerKind::Skipped]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_is_whole_after_eight_appenders_in_two_processes() {
    let test = TestStore::new().await;
    let other = test.other().await;

    let appenders = (0..8).map(|i| {
        let store = if i % 2 == 0 { test.store.clone() } else { other.clone() };
        tokio::spawn(async move {
            for n in 0..10 {
                opt_out(&store, &format!("account-{i}-{n}")).await;
            }
        })
    });
    for appender in appenders.collect::<Vec<_>>() {
        appender.await.unwrap();
    }

    let check = test.store.verify(None).await.unwrap();
    assert_eq!((check.entries, check.broken), (240, None));
}

#[tokio::test]
async fn an_empty_chain_is_whole_and_its_head_can_be_exported_too() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let empty = store.verify(None).await.unwrap();
    assert_eq!((empty.entries, &empty.broken), (0, &None));

    opt_out(&store, "acme").await;

    assert_eq!(store.verify(Some(&empty.head)).await.unwrap().broken, None);
}

#[tokio::test]
async fn entries_cannot_be_changed_or_removed_by_plain_sql() {
    let test = TestStore::new().await;
    opt_out(&test.store, "acme").await;

    let replace = "INSERT INTO opt_ledger SELECT * FROM opt_ledger WHERE seq = 1 ON CONFLICT (seq) DO UPDATE \
                   SET status = 204";
    for statement in ["UPDATE opt_ledger SET status = 204", "DELETE FROM opt_ledger", replace] {
        let refused = sqlx::query(statement).execute(&mut test.sql().await).await.unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{statement}: {refused}");
    }
}

/// Runs what somebody with the file but without the key might do, and checks the answer of `verify`.
pub(crate) async fn tampered(statements: &[&'static str], expected: &str) {
    let test = TestStore::new().await;
    for name in ["one", "two"] {
        opt_out(&test.store, name).await;
    }
    test.drop_triggers().await;
    for &statement in statements {
        test.execute(statement).await;
    }

    let broken = test.store.verify(None).await.expect("the store answers").broken.expect(statements[0]);

    assert!(broken.contains(expected), "{statements:?}: {broken}");
}

#[tokio::test]
async fn every_kind_of_tampering_is_found() {
    for statement in [
        "UPDATE opt_ledger SET status = 500 WHERE seq = 3",
        "UPDATE opt_ledger SET status = NULL WHERE seq = 3",
        "UPDATE opt_ledger SET phone = '+12025550100' WHERE seq = 3",
        "UPDATE opt_ledger SET event_time_ms = 0 WHERE seq = 1",
        "UPDATE opt_ledger SET at_ms = at_ms + 1 WHERE seq = 2",
        "UPDATE opt_ledger SET kind = 'opted_in' WHERE seq = 1",
        "UPDATE opt_ledger SET account = 'else' WHERE seq = 1",
        "UPDATE opt_ledger SET reason = 'echo' WHERE seq = 1",
        "UPDATE opt_ledger SET received_ms = received_ms + 1 WHERE seq = 1",
        "UPDATE opt_ledger SET received_ms = NULL WHERE seq = 1",
        "UPDATE opt_ledger SET method = 'keyword' WHERE seq = 1",
        "UPDATE opt_ledger SET source_event_id = 'else' WHERE seq = 1",
        "UPDATE opt_ledger SET hash_version = 1 WHERE seq = 1",
        "UPDATE opt_ledger SET hash_version = NULL WHERE seq = 3",
        // The first digit becomes another one, whatever it was: the hashes differ in every run, because the key is new.
        "UPDATE opt_ledger SET hash = CASE substr(hash, 1, 1) WHEN 'a' THEN 'b' ELSE 'a' END || substr(hash, 2) \
         WHERE seq = 6",
    ] {
        tampered(&[statement], "was changed").await;
    }
    tampered(&["DELETE FROM opt_ledger WHERE seq = 2"], "entry 2 is missing").await;
    tampered(&["DELETE FROM opt_ledger WHERE seq = 6"], "ends at entry 5").await;
    tampered(&["DELETE FROM opt_ledger_head"], "ends at entry 6").await;
    tampered(&["UPDATE opt_ledger_head SET seq = 5"], "ends at entry 6").await;
    tampered(
        &["DELETE FROM opt_ledger WHERE seq = 3", "UPDATE opt_ledger SET seq = seq - 1 WHERE seq > 3"],
        "does not follow",
    )
    .await;
}

#[tokio::test]
async fn a_state_that_does_not_follow_from_the_chain_is_found() {
    for statement in [
        "UPDATE opt_state SET opted_out = 0",
        "UPDATE opt_state SET opted_out = NULL",
        "UPDATE opt_state SET opted_out_ms = 4102444800000",
        "UPDATE opt_state SET opted_out_stated_ms = 4102444800000",
        "UPDATE opt_state SET opted_in_ms = 4102444800000",
        "UPDATE opt_state SET opted_in_stated_ms = 4102444800000",
        "UPDATE opt_state SET source_event_id = 'else' WHERE account = 'two'",
    ] {
        tampered(&[statement], "opt_state holds another state").await;
    }
    tampered(&["DELETE FROM opt_state"], "opt_state misses a number of account one").await;
    tampered(&["DELETE FROM opt_state WHERE account = 'two'"], "opt_state misses a number of account two").await;
    tampered(
        &["INSERT INTO opt_state (account, phone, opted_out, opted_out_ms) VALUES ('one', '+447700900123', 1, 5)"],
        "opt_state holds a number that the chain does not know",
    )
    .await;
}

#[tokio::test]
async fn the_state_of_many_numbers_follows_from_the_chain() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let events: Vec<_> = (0..1100_i64).map(|n| (id_of(&format!("many-{n}")), numbered(n / 2), n % 3 > 0)).collect();
    for (n, (event_id, phone, opted_out)) in (0..).zip(&events) {
        let event = OptEvent {
            event_id,
            source_event_id: Some("many"),
            account: if n % 5 == 0 { "acme" } else { "second" },
            phone,
            opted_out: *opted_out,
            event_time: Some(at(n)),
            received_at: at(n + 1),
            method: OptMethod::Webhook,
            targets: &[],
        };
        store.record_opt_event(&event).await.expect("the store answers");
    }

    let check = store.verify(None).await.unwrap();

    assert_eq!((check.entries, check.broken), (1100, None));
}

fn numbered(n: i64) -> Phone {
    Phone::parse(&format!("+1202555{n:04}")).expect("a number")
}

#[tokio::test]
async fn a_cut_tail_with_a_mended_head_is_found_by_a_head_exported_before() {
    let test = TestStore::new().await;
    opt_out(&test.store, "one").await;
    let early = test.store.verify(None).await.unwrap().head;
    opt_out(&test.store, "two").await;
    let exported = test.store.verify(None).await.unwrap().head;
    assert_eq!(test.store.verify(Some(&exported)).await.unwrap().broken, None);
    test.drop_triggers().await;
    test.execute("DELETE FROM opt_ledger WHERE seq > 4").await;
    test.execute("UPDATE opt_ledger_head SET seq = 4, hash = (SELECT hash FROM opt_ledger WHERE seq = 4)").await;

    assert_eq!(test.store.verify(None).await.unwrap().broken, None, "nothing inside shows it");
    assert_eq!(test.store.verify(Some(&early)).await.unwrap().broken, None, "the cut came after this export");
    let broken = test.store.verify(Some(&exported)).await.unwrap().broken.expect("a cut tail");
    assert!(broken.contains("exported head"), "{broken}");
}

#[tokio::test]
async fn an_entry_of_another_past_does_not_fit_into_the_chain() {
    let test = TestStore::new().await;
    opt_out(&test.store, "one").await;
    opt_out(&test.store, "two").await;
    test.drop_triggers().await;
    for statement in [
        "CREATE TABLE other_past AS SELECT * FROM opt_ledger WHERE seq = 6",
        "DELETE FROM opt_ledger WHERE seq > 3",
        "DELETE FROM opt_state WHERE account = 'two'",
        "UPDATE opt_ledger_head SET seq = 3, hash = (SELECT hash FROM opt_ledger WHERE seq = 3)",
    ] {
        test.execute(statement).await;
    }
    opt_out(&test.store, "three").await;
    assert_eq!(test.store.verify(None).await.unwrap().broken, None);

    for statement in [
        "DELETE FROM opt_ledger WHERE seq = 6",
        "UPDATE other_past SET previous_hash = (SELECT hash FROM opt_ledger WHERE seq = 5)",
        "INSERT INTO opt_ledger SELECT * FROM other_past",
        "UPDATE opt_ledger_head SET hash = (SELECT hash FROM opt_ledger WHERE seq = 6)",
    ] {
        test.execute(statement).await;
    }

    let broken = test.store.verify(None).await.unwrap().broken.expect("a foreign entry");
    assert!(broken.contains("entry 6 was changed"), "{broken}");
}

#[tokio::test]
async fn the_evidence_tells_when_and_how_the_news_came() {
    let TestStore { store, home: _home } = TestStore::new().await;
    opt_out(&store, "acme").await;
    let (event_id, phone) = (id_of("keyword"), phone());
    let untimed = OptEvent {
        event_id: &event_id,
        source_event_id: None,
        account: "acme",
        phone: &phone,
        opted_out: true,
        event_time: None,
        received_at: at(5),
        method: OptMethod::Keyword,
        targets: &[],
    };
    store.record_opt_event(&untimed).await.unwrap();

    let entries = store.prove(&phone).await.unwrap();

    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            (entry.seq, text(&entry.event_time), text(&entry.received_at), text(&entry.method))
        })
        .collect();
    let (stated, received) = (at(0).to_string(), at(1).to_string());
    assert_eq!(
        told,
        [
            (1, stated.clone(), received.clone(), "webhook".to_owned()),
            (2, stated, received, "webhook".to_owned()),
            (3, String::new(), String::new(), String::new()),
            (4, String::new(), at(5).to_string(), "keyword".to_owned()),
        ]
    );
    assert_eq!(entries[0].source_event_id.as_deref(), Some("acme"));
    assert!(entries.iter().all(|entry| entry.hash_version == 2));
}
