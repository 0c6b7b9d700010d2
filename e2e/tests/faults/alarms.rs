//! RabbitMQ blocks publishers: an alarm of its memory or its disk. Consumers go on.

use std::time::Duration;

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::{Deployment, Half, Load, eventually, send_all};

use crate::{Fault, full, seed, timed};

const LASTS_QUICK: usize = 10;
const LASTS_FULL: usize = 30;
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// Raises an alarm with a backlog waiting, posts on meanwhile, and lifts it.
async fn survives(fault: Fault, raise: &[&str], lift: &[&str]) {
    let nodes = [RabbitNode::start().await];
    // A backlog that lasts through the alarm.
    let mut all_in_one = Deployment::with(&nodes, |sandbox| sandbox.latency = Duration::from_millis(200)).await;
    all_in_one.start(1, 1, "[handlers.log_note]\nconcurrency = 8\n").await;
    let load = Load::mixed(seed(), full(600, 1800), full(60, 180), &all_in_one.sandbox);
    let parts = load.parts(2);
    send_all(&all_in_one.sender, parts[0]).await;

    nodes[0].ctl(raise).await;
    let raised = tokio::time::Instant::now();
    let waited = async || all_in_one.queues().await["hookline.work.log_note"];
    let before = waited().await;
    send_all(&all_in_one.sender, parts[1]).await;
    let ingest = all_in_one.part(Half::Ingest, 0);
    eventually("ingest spools", async || (all_in_one.spooled().await > 0).then_some(())).await;
    eventually("acks go on", async || (waited().await < before).then_some(())).await;
    let (status, ready) = ingest.admin("/readyz").await;
    let blocked = ingest.metric("hookline_broker_blocked").await;
    tokio::time::sleep_until(raised + Duration::from_secs(full(LASTS_QUICK, LASTS_FULL) as u64)).await;
    nodes[0].ctl(lift).await;
    let recovered = timed("the spool is forwarded", BACK_WITHIN, async || all_in_one.spooled().await == 0).await;
    let tally = all_in_one.holds(&load, 0).await;

    assert_eq!(all_in_one.sender.statuses(), [200].into(), "every answer is 200");
    assert_eq!(status, 200, "it can make webhooks durable: {ready}");
    assert!(ready.contains("RabbitMQ"), "and it says what is wrong: {ready}");
    assert!(blocked > 0.0, "the metric tells");
    fault.survived(tally, Some(recovered));
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_through_a_memory_alarm_acks_go_on_and_ingest_spools() {
    let fault = Fault::new("F10", "memory alarm");
    let raise = ["set_vm_memory_high_watermark", "0.0000001"];
    survives(fault, &raise, &["set_vm_memory_high_watermark", "0.4"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f11_through_a_disk_alarm_acks_go_on_and_ingest_spools() {
    let fault = Fault::new("F11", "disk alarm");
    survives(fault, &["set_disk_free_limit", "1000000GB"], &["set_disk_free_limit", "500MB"]).await;
}
