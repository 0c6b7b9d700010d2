//! Tests of what only a file has: modes, paths, a write-ahead log, one writer at a time, columns of any type.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Begin, Claim, ThreadLease, ThreadTurn, WrittenPart};
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::database::{KEY, open};
use crate::deliveries::{HANDLER, counts};
use crate::effects::{Asking, LONG, by};
use crate::erasure::with_records;
use crate::helpers::{TestStore, at, event, event_at, id_of, phone};
use crate::ledger::{opt_out, tampered};
use crate::threads::{CRM, join, message, to_write};

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    let test = TestStore::new().await;
    test.store.record_events(&[(event("a"), Vec::new())]).await.unwrap();

    for file in ["store.db", "store.db-wal"] {
        let mode = test.home.path().join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn an_entry_is_not_replaced_either() {
    let test = TestStore::new().await;
    opt_out(&test.store, "acme").await;

    let replace = "INSERT OR REPLACE INTO opt_ledger SELECT * FROM opt_ledger WHERE seq = 1";
    let refused = sqlx::query(replace).execute(&mut test.sql().await).await.unwrap_err();

    assert!(refused.to_string().contains("append-only"), "{refused}");
}

#[tokio::test]
async fn a_path_may_hold_what_ends_a_path_in_a_url() {
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("100% ready? #1");

    open(&data_dir, KEY).await.unwrap().counts().await.unwrap();

    assert!(data_dir.join("store.db").exists());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_unavailable_not_invalid() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();

    assert!(open(&file.join("data"), KEY).await.unwrap_err().is_unavailable());
}

#[tokio::test]
async fn what_was_erased_is_in_no_file_any_more() {
    let test = TestStore::new().await;
    with_records(&test).await;
    let body = format!(
        r#"{{"conversation":{{"phoneNumber":"+12025550147"}},"body":"my code is hunter2","pad":"{}"}}"#,
        "x".repeat(9000)
    );
    test.store.record_events(&[(event_at("a", at(0), body.as_bytes()), Vec::new())]).await.unwrap();

    test.store.erase(&phone()).await.unwrap();

    for file in std::fs::read_dir(test.home.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for secret in ["hunter2", "Secretperson"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} in {path:?}");
        }
    }
}

#[tokio::test]
async fn a_reader_that_keeps_the_log_from_being_emptied_is_told() {
    let test = TestStore::new().await;
    with_records(&test).await;
    let mut reader = test.sql().await;
    let mut reading = reader.begin().await.unwrap();
    sqlx::query("SELECT COUNT(*) FROM audit").execute(&mut *reading).await.unwrap();

    assert!(test.store.erase(&phone()).await.unwrap().log_kept);

    reading.rollback().await.unwrap();
    assert!(!test.store.erase(&phone()).await.unwrap().log_kept);
}

#[tokio::test]
async fn a_write_waits_for_another_process_that_is_writing() {
    let test = TestStore::new().await;
    let mut other = test.sql().await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let (store, event) = (test.store.clone(), event("a"));
    let mut write = tokio::spawn(async move { store.begin(&event, HANDLER, 1, None).await });
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut write).await;
    assert!(waited.is_err(), "it cannot be written yet");
    assert_eq!(counts(&test.store).await.waiting, 0, "but read");

    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();

    assert_eq!(write.await.unwrap().unwrap(), Begin::Go);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_behind_a_write_that_another_process_held_up_still_has_their_turn() {
    let test = TestStore::new().await;
    let mut other = test.sql().await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let write = |name: &'static str| {
        let store = test.store.clone();
        tokio::spawn(async move { store.record_events(&[(event(name), Vec::new())]).await })
    };
    let held_up = write("held up");
    // The one writer takes the first write at once, and then waits ten seconds for the lock.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let behind = write("behind");

    assert!(held_up.await.unwrap().unwrap_err().is_unavailable());
    lock.rollback().await.unwrap();
    behind.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_value_of_another_type_in_the_ledger_is_found() {
    tampered(&["UPDATE opt_ledger SET status = 'two hundred' WHERE seq = 3"], "cannot be read").await;
}

#[tokio::test]
async fn what_a_killed_process_had_claimed_need_not_be_waited_for() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event_id = id_of("a");
    let token = by("killed", &event_id).ask_afresh(&store).await;
    assert!(matches!(by("next", &event_id).ask(&store).await, Claim::Wait { .. }));

    store.end_claims_of_the_dead().await.unwrap();

    let next = by("killed too", &event_id).ask_afresh(&store).await;
    assert!(!store.still_mine(&token, LONG).await.unwrap());
    assert!(store.still_mine(&next, LONG).await.unwrap());
    store.end_claims_of_the_dead().await.unwrap();
    // The killed process may have written, so the next owner looks first.
    let last = Asking { settle_after: Duration::ZERO, ..by("last", &event_id) }.ask(&store).await;
    assert!(matches!(last, Claim::AfterUnknown { write_again: false, .. }), "{last:?}");
    store.end_claims_of_the_dead().await.unwrap();
    let after_it = Asking { settle_after: Duration::ZERO, ..by("after it", &event_id) }.ask(&store).await;
    assert!(matches!(after_it, Claim::AfterUnknown { .. }), "looking and dying makes nothing fresh: {after_it:?}");
}

#[tokio::test]
async fn what_a_killed_back_fill_had_locked_is_free_and_a_deliverys_lease_stays() {
    let test = TestStore::new().await;
    let mut ids = Vec::new();
    let changing = Store::sync_owner();
    for (number, owner) in [(1, Store::sync_owner()), (2, "worker:1".to_owned()), (3, changing.clone())] {
        let mut ask = join(&owner, message(number));
        ask.facts.day = format!("2026-11-0{number}");
        ids.push(to_write(&test.store, ask).await.0.thread_id);
    }
    let lease = |thread_id: &str, owner: &str| ThreadLease {
        thread_id: thread_id.to_owned(),
        system: CRM.to_owned(),
        owner: owner.to_owned(),
    };
    let part = WrittenPart { id: "note 1".to_owned(), hash: "h".to_owned() };
    assert!(test.store.thread_parts(&lease(&ids[2], &changing), "person 1", (0, &[part])).await.unwrap());

    test.store.end_leases_of_dead_syncs().await.unwrap();

    let mut turns = Vec::new();
    for thread_id in &ids {
        turns.push(test.store.take_thread(&lease(thread_id, "next"), LONG, Duration::ZERO).await.unwrap());
    }
    let a_minute = Timestamp::now().plus(Duration::from_mins(1));
    let [Some(ThreadTurn::Write(_)), Some(ThreadTurn::Busy { until: live }), Some(ThreadTurn::Busy { until: late })] =
        turns.as_slice()
    else {
        panic!("the first is free, the others are not")
    };
    assert!(*live > a_minute, "{live}");
    assert!(*late < a_minute, "a change of its note may still land: {late}");
}
