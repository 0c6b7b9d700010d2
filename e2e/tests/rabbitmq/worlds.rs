//! With RabbitMQ and PostgreSQL: commands migrate nothing, and a store that all workers share is of one world.

use hookline_common::testing::nodes::{PostgresNode, RabbitNode};
use hookline_e2e::{ACCOUNT, AllInOne, eventually};
use hookline_sandbox::samples::{SampleFacts, sample};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::broker;

/// An all-in-one Hookline with a virtual host and a database of its own, and the URL of that.
async fn all_in_one() -> (AllInOne, String) {
    let node = RabbitNode::shared().await;
    let vhost = node.new_vhost().await;
    let database = PostgresNode::shared().await.database().await;
    let more = format!("{}[store]\nurl = \"{database}\"\n", broker(&node.url_of(&vhost)));
    (AllInOne::with(|sandbox| sandbox.marked = false, &more).await, database)
}

async fn number(database: &str, query: &'static str) -> i64 {
    let mut connection = PgConnection::connect(database).await.expect("a connection");
    sqlx::query(query).fetch_one(&mut connection).await.expect(query).get(0)
}

const COMMANDS: [&[&str]; 7] = [
    &["status"],
    &["events", "list"],
    &["dead-letters", "list"],
    &["opt-outs", "list"],
    &["opt-outs", "verify"],
    &["records", "notes"],
    &["pause", "textus"],
];

#[tokio::test(flavor = "multi_thread")]
async fn commands_make_no_table_and_bring_none_up_to_date() {
    let (all_in_one, database) = all_in_one().await;
    const TABLES: &str = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'";
    const APPLIED: &str = "SELECT COUNT(*) FROM _sqlx_migrations";

    for command in COMMANDS {
        let ran = all_in_one.cli(command).await;
        assert_eq!(ran.code, Some(1), "{command:?}: {ran:?}");
        assert!(ran.stderr.contains("nothing here"), "{command:?}: {ran:?}");
    }
    assert_eq!(number(&database, TABLES).await, 0);
    assert!(!all_in_one.dir().join("data").exists(), "no ledger key");

    all_in_one.run().await.stop().await;
    let applied = number(&database, APPLIED).await;
    let older = "WITH gone AS (DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations) \
                 RETURNING version) SELECT COUNT(*) FROM gone";
    assert_eq!(number(&database, older).await, 1);
    for command in COMMANDS {
        let ran = all_in_one.cli(command).await;
        assert_eq!(ran.code, Some(1), "{command:?}: {ran:?}");
        assert!(ran.stderr.contains("earlier version"), "{command:?}: {ran:?}");
    }
    assert_eq!(number(&database, APPLIED).await, applied - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_store_that_workers_share_puts_nothing_to_the_sandbox() {
    let (all_in_one, _) = all_in_one().await;
    let running = all_in_one.run().await;
    let opt_out = async || {
        let person = SampleFacts::random(ACCOUNT);
        (all_in_one.sender.send(&sample("contact.opted_out", &person)).await, person)
    };
    let (id, _) = opt_out().await;
    assert_eq!(all_in_one.settled().await.ending(&id, "record_opt_out"), "done");
    running.stop().await;
    all_in_one.sandbox.configure(|options| options.marked = true);
    let running = all_in_one.run().await;

    let (kept, person) = opt_out().await;

    eventually("paused, with the remedy", async || {
        let status = all_in_one.json(&["status"]).await;
        status["destinations"][0]["reason"].as_str()?.contains("[textus] base_url").then_some(())
    })
    .await;
    assert_eq!(all_in_one.sandbox.effects().len(), 1, "nothing is put");
    let proof = all_in_one.json(&["opt-outs", "prove", &person.phone]).await;
    let kinds: Vec<&Value> = proof["entries"].as_array().expect("a list").iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["received"]);
    running.stop().await;

    all_in_one.sandbox.configure(|options| options.marked = false);
    let running = all_in_one.run().await;
    assert_eq!(all_in_one.cli(&["resume", "textus"]).await.code, Some(0));
    assert_eq!(all_in_one.settled().await.ending(&kept, "record_opt_out"), "done");
    running.stop().await;
}
