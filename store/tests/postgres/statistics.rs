//! A write or a look-up reads the rows that it is about, however large the table is. PostgreSQL chooses among indexes by
//! statistics, which a table that grew a moment ago does not have.

use std::time::Duration;

use futures::future::join_all;
use hookline_common::phone::Phone;
use hookline_store::model::{OptEvent, OptMethod, PersonFacts};
use sqlx::{Connection as _, Executor as _};

use crate::helpers::{TestStore, at, id_of};

const LONG: Duration = Duration::from_secs(60);
/// Entries of other phones.
const OTHERS: i64 = 20_000;
const ASKS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opt_outs_read_the_entries_of_their_phones_alone_before_the_first_analyze() {
    let test = TestStore::new().await;
    test.execute(
        "ALTER TABLE opt_ledger SET (autovacuum_enabled = off);
         INSERT INTO opt_ledger
             (seq, kind, at_ms, event_id, account, phone, event_time_ms, received_ms, previous_hash, hash)
         SELECT n, 'received', 1, 'evt_' || n, 'acme', '+1303' || n, 1, 1, '', '' FROM generate_series(5000001, 5020000) n",
    )
    .await;
    let record = |(time, n): (i64, usize)| {
        let store = test.store.clone();
        tokio::spawn(async move {
            let name = format!("event {time} {n}");
            let phone = Phone::parse(&format!("+1202555{n:04}")).expect("a number");
            let event = OptEvent {
                event_id: &id_of(&name),
                source_event_id: None,
                account: "acme",
                phone: &phone,
                opted_out: true,
                event_time: Some(at(time)),
                received_at: at(time),
                method: OptMethod::Webhook,
                targets: &[],
            };
            store.record_opt_event(&event).await.expect("the store answers");
        })
    };
    let all = |time: i64| (0..ASKS).map(|n| record((time, n))).collect::<Vec<_>>();
    for recorded in join_all(all(1)).await {
        recorded.expect("no panic");
    }

    // The store takes together what waits for the ledger's end.
    let mut admin = test.sql().await;
    let mut ledgers_end = test.sql().await;
    ledgers_end.execute("BEGIN; SELECT 1 FROM opt_ledger_head FOR UPDATE").await.unwrap();
    let recording = all(2);
    let waiting =
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waits = async {
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut admin).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, waits).await.expect("an opt-out waits for the ledger's end");
    admin.close().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    ledgers_end.execute("COMMIT").await.unwrap();
    ledgers_end.close().await.unwrap();
    for recorded in join_all(recording).await {
        recorded.expect("no panic");
    }

    let read = rows_read(test, "opt_ledger").await;
    assert!(read < OTHERS, "{ASKS} opt-outs read {read} entries");
}

#[tokio::test]
async fn a_person_is_found_by_number_without_reading_the_others() {
    let test = TestStore::new().await;
    test.execute(
        "INSERT INTO records_people (record_id, phone, created_ms) SELECT 'person_' || n, '+1303' || n, 1
             FROM generate_series(5000001, 5020000) n;
         INSERT INTO records_phones (record_id, phone, position) SELECT 'person_' || n, '+1303' || n, 0
             FROM generate_series(5000001, 5020000) n;
         ANALYZE records_people, records_phones",
    )
    .await;
    let phone = Phone::parse("+13035000007").expect("a number");
    let before = PersonFacts { contact_id: None, phones: vec![phone.clone()], name: None };

    let found = test.store.find_person(None, Some(&phone)).await.unwrap();
    let (upserted, ..) = test.store.upsert_person(&before).await.unwrap();

    assert_eq!((found.len(), &found[0].record_id), (1, &upserted.record_id));
    let read = rows_read(test, "records_people").await;
    assert!(read < 1_000, "{read} people were read");
}

/// Closes the store, and returns how many rows and entries of indexes were read of a table.
async fn rows_read(test: TestStore, table: &str) -> i64 {
    // A connection hands in its counts at its end.
    test.store.close().await;
    let mut admin = test.sql().await;
    let connections = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let ended = async {
        while sqlx::query_scalar::<_, i64>(connections).fetch_one(&mut admin).await.expect("a count") > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, ended).await.expect("the server ends the connections");
    let read = "SELECT CAST(SUM(i.idx_tup_read) + MAX(t.seq_tup_read) AS BIGINT) FROM pg_stat_user_indexes i
                JOIN pg_stat_user_tables t USING (relid) WHERE t.relname = $1";
    let read: i64 = sqlx::query_scalar(read).bind(table).fetch_one(&mut admin).await.expect("counts");
    admin.close().await.expect("closed");
    read
}
