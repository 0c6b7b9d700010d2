//! Three nodes: one that leads is killed, two are, one is parted from the others.

use std::time::{Duration, Instant};

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::{Deployment, Load, send_all};
use hookline_sandbox::samples::sample;

use crate::brokers::connected;
use crate::{Fault, accepted, full, seed, timed};

const QUEUE: &str = "hookline.work.log_note";

/// How long from now until something is answered 200 with nothing but the broker to store it.
async fn publishes_again(all_in_one: &Deployment<'_>) -> Duration {
    let body = sample("phone_call.completed", &hookline_sandbox::SampleFacts::random(hookline_e2e::ACCOUNT));
    let began = Instant::now();
    all_in_one.sender.send(&body).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn f04_the_node_that_leads_a_work_queue_is_killed_under_load() {
    let fault = Fault::new("F04", "leader of a work queue killed, 3 nodes");
    let nodes = RabbitNode::cluster().await;
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.set("HOOKLINE__INGEST__ON_BROKER_OUTAGE", "reject");
    // What ends half stored may be known to the history alone.
    all_in_one.set("HOOKLINE__BROKER__MISSING_AFTER", "10s");
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), full(200, 2000), full(20, 200), &all_in_one.sandbox);
    connected(&all_in_one).await;
    let leader = all_in_one.leader(QUEUE).await;
    let leading = nodes.iter().find(|node| node.name() == leader).expect("one of the three leads");

    let parts = load.parts(2);
    let (resumed, ()) = tokio::join!(
        async {
            accepted(&all_in_one, parts[0].len() / 3).await;
            leading.kill().await;
            publishes_again(&all_in_one).await
        },
        send_all(&all_in_one.sender, parts[0])
    );
    // The cluster is short of one, and goes on.
    send_all(&all_in_one.sender, parts[1]).await;
    let another = all_in_one.leader(QUEUE).await;
    leading.up().await;
    let tally = all_in_one.holds(&load, 0).await;

    assert_ne!(another, leader, "another node leads");
    assert!(all_in_one.sender.statuses().is_subset(&[200, 503].into()), "{:?}", all_in_one.sender.answers());
    assert!(resumed < Duration::from_secs(full(30, 10) as u64), "published again after {resumed:?}");
    fault.survived(tally, Some(resumed));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f05_with_two_of_three_nodes_gone_webhooks_are_spooled_and_forwarded_when_one_is_back() {
    let fault = Fault::new("F05", "quorum lost for 60 s");
    let nodes = RabbitNode::cluster().await;
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), 600, 60, &all_in_one.sandbox);
    let parts = load.parts(2);
    send_all(&all_in_one.sender, parts[0]).await;

    nodes[1].kill().await;
    nodes[2].kill().await;
    let lost = tokio::time::Instant::now();
    send_all(&all_in_one.sender, parts[1]).await;
    tokio::time::sleep_until(lost + Duration::from_secs(60)).await;
    tokio::join!(nodes[1].up(), nodes[2].up());
    let recovered = connected(&all_in_one).await;
    let tally = all_in_one.holds(&load, 0).await;

    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(recovered));
}

/// Over RabbitMQ's own notice of it (10 s here, a minute by default) and all time-outs of Hookline.
const PARTED: Duration = Duration::from_secs(40);

/// Clients reach all three nodes all the time. The parted one goes on as if it led, until it notices and pauses.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f06_the_node_that_leads_a_work_queue_is_parted_from_the_others_under_load_and_comes_back() {
    let fault = Fault::new("F06", "leader of a work queue parted from the 2 others for 40 s");
    let nodes = match RabbitNode::cluster_apart().await {
        Ok(nodes) => nodes,
        Err(why) => return fault.not_run(&why),
    };
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.start(2, 2, "").await;
    let load = Load::mixed(seed(), 600, 60, &all_in_one.sandbox);
    let parts = load.parts(3);
    connected(&all_in_one).await;
    let leader = all_in_one.leader(QUEUE).await;
    let (leading, others): (Vec<&RabbitNode>, Vec<_>) = nodes.iter().partition(|node| node.name() == leader);
    let leading = *leading.first().expect("one of the three leads");

    let (parted, ()) = tokio::join!(
        async {
            accepted(&all_in_one, parts[0].len() / 3).await;
            leading.part_from(&others).await;
            tokio::time::Instant::now()
        },
        send_all(&all_in_one.sender, parts[0])
    );
    send_all(&all_in_one.sender, parts[1]).await;
    tokio::time::sleep_until(parted + PARTED).await;
    let is_up = || async { leading.try_ctl(&["eval", "rabbit:is_running()."]).await == Ok("true\n".to_owned()) };
    let paused = !is_up().await;
    let another = all_in_one.leader_seen_by(others[0], QUEUE).await;
    leading.join_with(&others).await;
    let back = timed("it is in the cluster again", Duration::from_secs(60), async || is_up().await).await;
    let recovered = back + connected(&all_in_one).await;
    send_all(&all_in_one.sender, parts[2]).await;
    let tally = all_in_one.holds(&load, 0).await;

    assert!(paused, "a node without a majority pauses");
    assert_ne!(another, leader, "another node led meanwhile");
    assert_eq!(all_in_one.sender.statuses(), [200].into(), "every answer is 200");
    fault.survived(tally, Some(recovered));
}
