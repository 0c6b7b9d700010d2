use std::os::unix::fs::PermissionsExt;

use hookline_store::{Found, StoreError, ledger_key_file, ledger_key_if_there};
use tempfile::TempDir;

use crate::database::KEY;
use crate::helpers::{TestStore, event};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_may_open_a_new_store_at_once() {
    let home = TestStore::nowhere().await;

    let opens = futures::future::join_all((0..8).map(|_| TestStore::open_at(&home))).await;

    for store in opens {
        store.expect("each of them opens it").counts().await.unwrap();
    }
}

#[tokio::test]
async fn tables_that_only_a_newer_program_understands_are_refused() {
    let test = TestStore::new().await;
    test.execute("UPDATE store_meta SET value = '9999' WHERE name = 'oldest_reader'").await;

    let refused = test.open(KEY).await.unwrap_err();

    assert!(matches!(refused, StoreError::Incompatible(_)), "{refused}");
    assert!(!refused.is_unavailable());
}

#[tokio::test]
async fn a_migration_of_a_newer_program_that_we_can_live_with_is_no_obstacle() {
    let test = TestStore::new().await;
    test.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         SELECT 9999, 'later', TRUE, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
    )
    .await;

    test.open(KEY).await.expect("one version newer");
}

#[tokio::test]
async fn a_ledger_is_not_continued_with_another_key() {
    let test = TestStore::new().await;

    let refused = test.open("some other ledger key").await.unwrap_err();

    assert!(matches!(refused, StoreError::Incompatible(_)), "{refused}");
}

#[tokio::test]
async fn a_closed_store_says_that_it_is_unavailable() {
    let test = TestStore::new().await;
    test.store.close().await;

    assert!(test.store.record_events(&[(event("a"), Vec::new())]).await.unwrap_err().is_unavailable());
    assert!(test.store.counts().await.unwrap_err().is_unavailable());
}

#[tokio::test]
async fn who_only_looks_makes_nothing() {
    let home = TestStore::nowhere().await;

    for key in [None, Some(KEY)] {
        assert!(matches!(TestStore::look_at(&home, key).await.unwrap(), Found::Nothing));
    }

    assert!(matches!(TestStore::look_at(&home, Some(KEY)).await.unwrap(), Found::Nothing), "the first look made none");
    TestStore::open_at(&home).await.expect("made by who works with it").close().await;
    let Found::Store(store) = TestStore::look_at(&home, Some(KEY)).await.unwrap() else { panic!("it is there") };
    assert_eq!(store.verify(None).await.unwrap().entries, 0);
}

#[tokio::test]
async fn who_only_looks_brings_no_older_store_up_to_date() {
    let test = TestStore::new().await;
    for older in [
        "DELETE FROM store_meta WHERE name = 'opt_state_rule'",
        "DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)",
    ] {
        test.execute(older).await;
        for _ in 0..2 {
            assert!(matches!(TestStore::look_at(&test.home, Some(KEY)).await.unwrap(), Found::Older), "{older}");
        }
    }
}

#[tokio::test]
async fn who_only_looks_needs_the_ledgers_own_key_and_makes_none() {
    let test = TestStore::new().await;

    for key in [None, Some("some other ledger key")] {
        let refused = TestStore::look_at(&test.home, key).await.unwrap_err();
        assert!(matches!(refused, StoreError::Incompatible(_)), "{refused}");
    }
}

#[test]
fn a_ledger_key_that_is_only_looked_for_is_not_made() {
    let dir = TempDir::new().unwrap();

    assert!(ledger_key_if_there(&dir.path().join("data")).unwrap().is_none());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_ledger_key_is_made_once_whoever_asks_first() {
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("data");

    let keys: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| ledger_key_file(&data_dir).unwrap().expose().to_owned())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    assert_eq!(keys[0].len(), 64);
    assert!(keys.iter().all(|key| *key == keys[0]));
    let mode = data_dir.join("ledger.key").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&data_dir).unwrap().count(), 1, "no drafts are left");
}

#[test]
fn an_emptied_key_file_is_reported_not_replaced() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("ledger.key"), "").unwrap();

    assert!(matches!(ledger_key_file(dir.path()), Err(StoreError::Invalid(_))));
}
