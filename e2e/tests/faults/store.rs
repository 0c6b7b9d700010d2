//! The store goes away: everything waits, nothing is spent.

use std::time::Duration;

use hookline_common::testing::nodes::PostgresNode;
use hookline_e2e::{Deployment, Half, Load, eventually, send_all};

use crate::{Fault, full, seed, shared_node, timed};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_killed_under_load_pauses_handlers_and_costs_no_attempt() {
    let fault = Fault::new("store", "PostgreSQL killed under load, restarted");
    let postgres = PostgresNode::start().await;
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.use_store(&postgres.database().await);
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), full(200, 2000), full(20, 200), &all_in_one.sandbox);
    let parts = load.parts(3);

    tokio::join!(send_all(&all_in_one.sender, parts[0]), async {
        crate::accepted(&all_in_one, parts[0].len() / 3).await;
        postgres.kill().await;
    });
    send_all(&all_in_one.sender, parts[1]).await;
    eventually("the workers hold what they have", async || {
        let held = all_in_one.logged("store.away: deliveries wait in their queues until it answers");
        (!held.is_empty()).then_some(())
    })
    .await;
    for worker in all_in_one.parts(Half::Worker) {
        eventually("a worker without a store is not ready", async || {
            let (status, why) = worker.admin("/readyz").await;
            (status == 503 && why.contains("the store is not available")).then_some(())
        })
        .await;
        assert!(worker.metric("hookline_store_available").await == 0.0);
    }
    postgres.up().await;
    let recovered = timed("work is done again", Duration::from_secs(60), async || {
        all_in_one.json(&["status"]).await["handlers"].to_string().contains("\"waiting\":0")
    })
    .await;
    for worker in all_in_one.parts(Half::Worker) {
        eventually("a worker is ready again", async || (worker.admin("/readyz").await.0 == 200).then_some(())).await;
        assert!(worker.metric("hookline_store_available").await == 1.0);
    }
    send_all(&all_in_one.sender, parts[2]).await;
    let tally = all_in_one.holds(&load, 1).await;

    assert_eq!(all_in_one.sender.statuses(), [200].into(), "ingest does not use the store");
    let listed = all_in_one.rows(&["events", "list"], "events").await;
    let most = listed.iter().flat_map(|event| event["deliveries"].as_array().cloned().unwrap_or_default());
    let most = most.filter_map(|delivery| delivery["attempts"].as_u64()).max();
    assert!(most.is_some_and(|attempts| attempts <= 2), "waiting for the store spends no attempt: {most:?}");
    fault.survived(tally, Some(recovered));
}
