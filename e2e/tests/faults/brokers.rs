//! RabbitMQ goes away: killed, frozen, stopped, for long.

use std::time::Duration;

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::{Deployment, Half, Load, eventually, send_all};
use serde_json::Value;

use crate::{Fault, accepted, full, seed, timed};

const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Kills the broker under the first two thirds, which go on while it is away and comes back, and posts the last third
/// when it is back. How long after its port opened everybody could publish and consume again.
async fn killed_and_restarted(all_in_one: &Deployment<'_>, node: &RabbitNode, bodies: &[Value]) -> Duration {
    let (under_fire, after) = bodies.split_at(bodies.len() * 2 / 3);
    let enough = all_in_one.sender.accepted().len() + under_fire.len() / 4;
    let (recovered, ()) = tokio::join!(
        async {
            accepted(all_in_one, enough).await;
            node.kill().await;
            node.up().await;
            connected(all_in_one).await
        },
        send_all(&all_in_one.sender, under_fire)
    );
    send_all(&all_in_one.sender, after).await;
    recovered
}

/// Until every ingest and worker is connected.
pub(crate) async fn connected(all_in_one: &Deployment<'_>) -> Duration {
    timed("all are connected again", BACK_WITHIN, async || {
        for part in all_in_one.parts(Half::Ingest).chain(all_in_one.parts(Half::Worker)) {
            if part.metric("hookline_broker_connected").await < 1.0 {
                return false;
            }
        }
        true
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn f01_killed_under_load_with_a_spool_every_answer_is_200_and_all_is_done_once() {
    let fault = Fault::new("F01", "broker killed under load and restarted, spool on");
    let nodes = [RabbitNode::start().await];
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.start(1, 2, "").await;
    let kills = full(2, 5);
    let load = Load::mixed(seed(), full(300, 3000), full(30, 300), &all_in_one.sandbox);

    let mut recovered = Duration::ZERO;
    for part in load.parts(kills) {
        recovered = recovered.max(killed_and_restarted(&all_in_one, &nodes[0], part).await);
    }
    let tally = all_in_one.holds(&load, 0).await;

    assert_eq!(all_in_one.sender.statuses(), [200].into(), "no answer but 200");
    assert_eq!(all_in_one.sender.unanswered(), 0);
    fault.survived(tally, Some(recovered));
}

#[tokio::test(flavor = "multi_thread")]
async fn f01_killed_under_load_with_reject_every_other_answer_is_503_and_all_200_are_done_once() {
    let fault = Fault::new("F01", "broker killed under load and restarted, reject");
    let nodes = [RabbitNode::start().await];
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.set("HOOKLINE__INGEST__ON_BROKER_OUTAGE", "reject");
    // What ends half stored may be known to the history alone.
    all_in_one.set("HOOKLINE__BROKER__MISSING_AFTER", "10s");
    all_in_one.start(1, 2, "").await;
    let kills = full(2, 5);
    let load = Load::mixed(seed(), full(300, 3000), full(30, 300), &all_in_one.sandbox);

    let mut recovered = Duration::ZERO;
    for part in load.parts(kills) {
        recovered = recovered.max(killed_and_restarted(&all_in_one, &nodes[0], part).await);
    }
    let tally = all_in_one.holds(&load, 0).await;

    assert_eq!(all_in_one.sender.statuses(), [200, 503].into(), "an outage is told, and nothing else");
    assert_eq!(all_in_one.sender.unanswered(), 0);
    fault.survived(tally, Some(recovered));
}

#[tokio::test(flavor = "multi_thread")]
async fn f02_a_batch_that_was_sent_and_not_confirmed_when_the_broker_died_is_spooled() {
    let fault = Fault::new("F02", "broker killed with an unconfirmed batch in flight");
    let nodes = [RabbitNode::start().await];
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 60, 6, &all_in_one.sandbox);
    let parts = load.parts(2);
    send_all(&all_in_one.sender, parts[0]).await;

    // Frozen, it takes what is written and confirms nothing.
    nodes[0].freeze();
    let killed = async {
        let ingest = all_in_one.part(Half::Ingest, 0);
        eventually("a batch is in flight", async || {
            (ingest.metric("hookline_publish_in_flight").await > 0.0).then_some(())
        })
        .await;
        nodes[0].kill().await;
    };
    tokio::join!(send_all(&all_in_one.sender, parts[1]), killed);
    let spooled = all_in_one.spooled().await;
    nodes[0].up().await;
    let recovered = connected(&all_in_one).await;
    let tally = all_in_one.holds(&load, 0).await;

    assert!(spooled > 0, "what had no confirm is in the spool");
    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(recovered));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f03_a_clean_stop_and_start_of_the_broker_is_over_when_it_is_back() {
    let fault = Fault::new("F03", "clean broker stop and start");
    let nodes = [RabbitNode::start().await];
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), 600, 60, &all_in_one.sandbox);
    let parts = load.parts(3);

    send_all(&all_in_one.sender, parts[0]).await;
    tokio::join!(send_all(&all_in_one.sender, parts[1]), async { drop(nodes[0].ctl(&["stop_app"]).await) });
    send_all(&all_in_one.sender, parts[2]).await;
    nodes[0].ctl(&["start_app"]).await;
    let recovered = connected(&all_in_one).await;
    let tally = all_in_one.holds(&load, 0).await;

    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(recovered));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f24_what_was_spooled_through_a_long_outage_is_forwarded_with_its_ids_oldest_first() {
    let fault = Fault::new("F24", "broker away for a minute, spool on (10 minutes in the matrix)");
    let nodes = [RabbitNode::start().await];
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 3000, 300, &all_in_one.sandbox);
    let parts = load.parts(2);
    send_all(&all_in_one.sender, parts[0]).await;

    nodes[0].stop().await;
    let away = tokio::time::Instant::now();
    send_all(&all_in_one.sender, parts[1]).await;
    let spooled = all_in_one.spooled().await;
    // Over lapin's and our own time-outs and the longest pause between two tries.
    tokio::time::sleep_until(away + Duration::from_secs(60)).await;
    nodes[0].up().await;
    let recovered = connected(&all_in_one).await;
    let tally = all_in_one.holds(&load, 0).await;

    let sent: std::collections::BTreeSet<String> = parts[1].iter().map(Value::to_string).collect();
    assert!(spooled as usize >= sent.len() / 2, "{spooled} of {} were spooled", sent.len());
    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(recovered));
}
