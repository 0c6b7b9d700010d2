//! A server that dies, stops answering, or refuses: every answer is `Unavailable`, nothing hangs, and the store
//! recovers by itself.

use std::time::{Duration, Instant};

use futures::future::join_all;
use hookline_common::names::Verdict;
use hookline_common::testing::nodes::PostgresNode;
use hookline_store::model::{Begin, Claim, Ending, LedgerKind, PutDecision};
use sqlx::{Connection as _, Executor as _};
use tokio::net::TcpListener;

use crate::database::{KEY, open};
use crate::deliveries::{HANDLER, counts};
use crate::effects::{LONG, wanting};
use crate::helpers::{attempt, event, id_of};
use crate::ledger::opt_out;
use crate::opt_outs::opted_out;
use crate::together::phone as numbered;

/// Finds hangs; generous compared with the store's own time-outs.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_unavailable_and_nothing_is_half_written_when_it_is_back() {
    let node = PostgresNode::start().await;
    let store = open(&node.database().await, KEY).await.unwrap();
    opt_out(&store, "before").await;

    let working = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut told_done = Vec::new();
            for n in 0.. {
                let events: Vec<_> = (0..16).map(|i| event(&format!("{n} {i}"))).collect();
                let ended = join_all(events.iter().map(|event| {
                    let store = &store;
                    async move {
                        store.begin(event, HANDLER, 1, None).await?;
                        store.finish(&attempt(event, HANDLER, 1, Verdict::Done), Ending::Done, &[]).await
                    }
                }))
                .await;
                for (event, ended) in events.into_iter().zip(ended) {
                    match ended {
                        Ok(()) => told_done.push(event.id),
                        Err(error) => {
                            assert!(error.is_unavailable(), "{error}");
                            return told_done;
                        }
                    }
                }
            }
            told_done
        })
    };
    let deadline = Instant::now() + DEADLINE;
    while counts(&store).await.done < 32 {
        assert!(Instant::now() < deadline, "nothing is written");
    }
    node.kill().await;
    let told_done = working.await.unwrap();
    assert!(store.counts().await.unwrap_err().is_unavailable());
    node.up().await;

    // The next calls work without a restart or help.
    let after = event("after");
    assert_eq!(store.begin(&after, HANDLER, 1, None).await.unwrap(), Begin::Go);
    let done = store.delivery_ids(HANDLER, Some(hookline_common::names::DeliveryState::Done)).await.unwrap();
    assert!(told_done.iter().all(|id| done.contains(id)), "what was said to be written is");
    let check = store.verify(None).await.unwrap();
    assert_eq!((check.entries, check.broken), (3, None));
}

/// Before a call is made, all writes that led to it are on the disk; otherwise another worker could make the call
/// again.
// On one thread, all requests arrive before the first is written, so they share a batch.
#[tokio::test]
async fn what_was_noted_before_a_call_outlives_a_killed_server() {
    let node = PostgresNode::start().await;
    let store = open(&node.database().await, KEY).await.unwrap();
    let keys: Vec<String> = (0..16).map(|i| format!("/messages/{i}")).collect();
    let (store, event_id) = (&store, &id_of("a"));
    let claim = async |owner: &'static str| {
        join_all(keys.iter().map(|key| async move { store.claim(&wanting(key, event_id, owner)).await.unwrap() })).await
    };
    let tokens: Vec<_> = claim("first")
        .await
        .into_iter()
        .map(|claim| match claim {
            Claim::Fresh(token) => token,
            other @ (Claim::AfterUnknown { .. } | Claim::Done { .. } | Claim::Wait { .. }) => panic!("{other:?}"),
        })
        .collect();

    let held = join_all(tokens.iter().map(|token| store.still_mine(token, LONG))).await;
    node.kill().await;
    node.up().await;

    assert!(held.into_iter().all(|held| held.unwrap()));
    // If no call were recorded as sent, the next owner would call at once.
    store.end_claims_of("first").await.unwrap();
    let claims = claim("second").await;
    assert!(claims.iter().all(|claim| matches!(claim, Claim::Wait { .. })), "{claims:?}");
}

#[tokio::test]
async fn a_decision_to_put_outlives_a_killed_server() {
    let node = PostgresNode::start().await;
    let store = open(&node.database().await, KEY).await.unwrap();
    let people: Vec<_> = (0..16).map(|i| (id_of(&i.to_string()), numbered(i))).collect();

    let decided = join_all(people.iter().map(|(event_id, phone)| {
        let event = opted_out(event_id, phone);
        let store = &store;
        async move { store.record_and_decide(&event, "acme").await.unwrap() }
    }))
    .await;
    node.kill().await;
    node.up().await;

    assert!(decided.into_iter().all(|decision| decision == Some(PutDecision::Put)));
    for (_, phone) in &people {
        let kinds: Vec<_> = store.prove(phone).await.unwrap().into_iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [LedgerKind::Received, LedgerKind::PutSent]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_two_writes_is_not_noticed() {
    let node = PostgresNode::start().await;
    let store = open(&node.database().await, KEY).await.unwrap();
    store.begin(&event("before"), HANDLER, 1, None).await.unwrap();
    store.gates().await.unwrap();

    node.stop().await;
    node.up().await;

    assert_eq!(store.begin(&event("after"), HANDLER, 1, None).await.unwrap(), Begin::Go);
    assert_eq!(counts(&store).await.waiting, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_an_administrator_ends_are_replaced() {
    let node = PostgresNode::shared().await;
    let url = node.database().await;
    let store = open(&url, KEY).await.unwrap();
    store.begin(&event("before"), HANDLER, 1, None).await.unwrap();
    let mut admin = sqlx::postgres::PgConnection::connect(&url).await.unwrap();

    admin
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();

    assert_eq!(store.begin(&event("after"), HANDLER, 1, None).await.unwrap(), Begin::Go);
}

#[tokio::test]
async fn nobody_there_is_unavailable_at_once_and_the_password_is_not_told() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();

    let refused = open(&format!("postgres://hookline:s3cret-w0rd@127.0.0.1:{port}/db"), KEY).await.unwrap_err();

    assert!(refused.is_unavailable(), "{refused}");
    assert!(!format!("{refused} {refused:?}").contains("s3cret-w0rd"), "{refused}");
}

#[tokio::test]
async fn a_server_that_takes_the_connection_and_says_nothing_is_unavailable() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://hookline@{}/db?sslmode=disable", silent.local_addr().unwrap());

    let opened = tokio::time::timeout(DEADLINE, open(&url, KEY)).await.expect("no hang");

    assert!(opened.unwrap_err().is_unavailable());
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_named_as_what_to_look_at() {
    let url = format!("{}?sslmode=verify-full&sslrootcert=/there/is/none.pem", PostgresNode::shared().await.url());

    let refused = open(&url, KEY).await.unwrap_err();

    assert!(refused.is_unavailable(), "{refused}");
    assert!(refused.to_string().contains("ssl") || refused.to_string().contains("TLS"), "{refused}");
}

#[tokio::test]
async fn a_database_or_right_that_is_missing_is_for_a_person_to_mend() {
    let node = PostgresNode::shared().await;
    let nowhere = node.url().replace("/postgres", "/there_is_no_such_database");

    assert!(open(&nowhere, KEY).await.unwrap_err().is_unavailable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_may_only_be_read_is_unavailable_for_writes() {
    let node = PostgresNode::shared().await;
    let url = node.database().await;
    open(&url, KEY).await.unwrap().close().await;
    let mut admin = sqlx::postgres::PgConnection::connect(&url).await.unwrap();
    let database = url.rsplit('/').next().unwrap();
    let read_only = format!("ALTER DATABASE {database} SET default_transaction_read_only = on");
    admin.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(read_only))).await.unwrap();

    let refused = open(&url, KEY).await.unwrap_err();

    assert!(refused.is_unavailable(), "{refused}");
}
