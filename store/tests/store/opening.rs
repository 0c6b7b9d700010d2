use std::os::unix::fs::PermissionsExt;

use hookline_store::{StoreError, ledger_key_file};
use tempfile::TempDir;

use crate::helpers::{TestStore, event, open, open_with_key};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_may_open_a_new_store_at_once() {
    let dir = TempDir::new().unwrap();

    let opens = (0..4).map(|_| {
        let path = dir.path().to_owned();
        tokio::spawn(async move { open(&path).await })
    });
    for store in opens.collect::<Vec<_>>() {
        store.await.unwrap().expect("each of them opens it").counts().await.unwrap();
    }
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    let test = TestStore::new().await;
    test.store.record_events(&[(event("a"), Vec::new())]).await.unwrap();

    for file in ["store.db", "store.db-wal"] {
        let mode = test.dir.path().join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_path_may_hold_what_ends_a_path_in_a_url() {
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("100% ready? #1");

    open(&data_dir).await.unwrap().counts().await.unwrap();

    assert!(data_dir.join("store.db").exists());
}

#[tokio::test]
async fn tables_that_only_a_newer_program_understands_are_refused() {
    let test = TestStore::new().await;
    test.execute("UPDATE store_meta SET value = '2' WHERE name = 'oldest_reader'").await;

    let refused = open(test.dir.path()).await.unwrap_err();

    assert!(matches!(refused, StoreError::Incompatible(_)), "{refused}");
    assert!(!refused.is_unavailable());
}

#[tokio::test]
async fn a_migration_of_a_newer_program_that_we_can_live_with_is_no_obstacle() {
    let test = TestStore::new().await;
    test.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', TRUE, x'00', 0)",
    )
    .await;

    open(test.dir.path()).await.expect("one version newer");
}

#[tokio::test]
async fn a_ledger_is_not_continued_with_another_key() {
    let test = TestStore::new().await;

    let refused = open_with_key(test.dir.path(), "some other ledger key").await.unwrap_err();

    assert!(matches!(refused, StoreError::Incompatible(_)), "{refused}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_unavailable_not_invalid() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();

    assert!(open(&file.join("data")).await.unwrap_err().is_unavailable());
}

#[tokio::test]
async fn a_closed_store_says_that_it_is_unavailable() {
    let test = TestStore::new().await;
    test.store.close().await;

    assert!(test.store.record_events(&[(event("a"), Vec::new())]).await.unwrap_err().is_unavailable());
    assert!(test.store.counts().await.unwrap_err().is_unavailable());
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
