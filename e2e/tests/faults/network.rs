//! What lies between Hookline and RabbitMQ: resets, black holes, slow links.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::{
    ACCOUNT, Deployment, Direction, HANDLERS, Half, Load, Part, Proxy, Tally, Toxics, eventually, send_all,
};
use hookline_sandbox::samples::{SampleFacts, sample};

use crate::brokers::connected;
use crate::{Fault, full, seed, shared_node, timed};

async fn proxy_to(node: &RabbitNode) -> Proxy {
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, node.port()));
    Proxy::start(upstream, seed()).await.expect("the proxy listens")
}

/// Threads and descriptors.
fn holds_of(part: &Part) -> (usize, usize) {
    let count = |what: &str| {
        let listed = std::fs::read_dir(format!("/proc/{}/{what}", part.process.id()));
        listed.expect("a process of ours").count()
    };
    (count("task"), count("fd"))
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_connections_that_are_reset_again_and_again_lose_nothing_and_leave_nothing_behind() {
    let fault = Fault::new("F08", "connections to the broker reset every 2 s");
    let nodes = shared_node().await;
    let proxy = proxy_to(&nodes[0]).await;
    let mut all_in_one = Deployment::on(nodes).await;
    all_in_one.broker_through(proxy.address());
    all_in_one.start(1, 1, "").await;
    let resets = full(10, 30);
    let load = Load::mixed(seed(), full(300, 1500), full(30, 150), &all_in_one.sandbox);
    let mut parts = load.parts(resets + 1).into_iter();
    send_all(&all_in_one.sender, parts.next().unwrap_or_default()).await;
    connected(&all_in_one).await;
    let all = || all_in_one.parts(Half::Ingest).chain(all_in_one.parts(Half::Worker));
    let before: Vec<(usize, usize)> = all().map(holds_of).collect();

    let mut every = tokio::time::interval(Duration::from_secs(2));
    every.tick().await;
    for _ in 0..resets {
        tokio::join!(send_all(&all_in_one.sender, parts.next().unwrap_or_default()), async {
            every.tick().await;
            proxy.reset();
        });
    }
    let recovered = connected(&all_in_one).await;
    let tally = all_in_one.holds(&load, 0).await;

    assert!(proxy.accepted() as usize > resets, "they were reset, and made anew");
    eventually("nothing is left behind", async || {
        let fits = |(part, before): (&Part, &(usize, usize))| {
            let (threads, descriptors) = holds_of(part);
            // A connection being made, and an idle keep-alive or two, are no leak: thirty resets would show.
            threads <= before.0 + 2 && descriptors <= before.1 + 8
        };
        all().zip(&before).all(fits).then_some(())
    })
    .await;
    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(recovered));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f07_a_black_hole_between_ingest_and_broker_is_noticed_and_spooled_around() {
    let fault = Fault::new("F07", "black hole between ingest and broker");
    let nodes = shared_node().await;
    let proxy = proxy_to(&nodes[0]).await;
    let mut all_in_one = Deployment::on(nodes).await;
    all_in_one.broker_through(proxy.address());
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 300, 30, &all_in_one.sandbox);
    let parts = load.parts(3);
    send_all(&all_in_one.sender, parts[0]).await;

    // Nothing is published meanwhile: only the heartbeat can notice.
    proxy.set_both(&Toxics { blackhole: true, ..Toxics::default() });
    let ingest = all_in_one.part(Half::Ingest, 0);
    let noticed = timed("the black hole is noticed", Duration::from_secs(25), async || {
        ingest.metric("hookline_broker_connected").await < 1.0
    });
    noticed.await;
    send_all(&all_in_one.sender, parts[1]).await;
    proxy.heal();
    let recovered = connected(&all_in_one).await;
    send_all(&all_in_one.sender, parts[2]).await;
    let tally = all_in_one.holds(&load, 0).await;

    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(recovered));
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_an_event_of_unknown_outcome_reaches_all_of_its_queues_though_its_sender_gives_up() {
    let fault = Fault::new("F07", "black hole between ingest and broker, reject");
    let nodes = shared_node().await;
    let proxy = proxy_to(&nodes[0]).await;
    let mut all_in_one = Deployment::on(nodes).await;
    all_in_one.set("HOOKLINE__INGEST__ON_BROKER_OUTAGE", "reject");
    all_in_one.start(0, 1, "").await;
    all_in_one.broker_through(proxy.address());
    all_in_one.start(1, 0, "").await;
    connected(&all_in_one).await;

    proxy.set_both(&Toxics { blackhole: true, ..Toxics::default() });
    let body = sample("contact.opted_out", &SampleFacts::random(ACCOUNT)).to_string();
    let answer = all_in_one.sender.post(body.as_bytes()).await.expect("an answer");
    // What was sent is lost with its connection.
    proxy.refuse(true);
    proxy.reset();
    eventually("its connection is gone", async || (proxy.open() == 0).then_some(())).await;
    proxy.heal();
    let clock = Instant::now();
    eventually("it is recorded", async || {
        let recorded = all_in_one.json(&["events", "list"]).await;
        recorded["events"].as_array().is_some_and(|events| !events.is_empty()).then_some(())
    })
    .await;
    let recovered = clock.elapsed();
    let accounts = all_in_one.settled().await;

    assert_eq!(answer.status, 503);
    for handler in ["record_opt_out", "flag_opt_out"] {
        assert_eq!(accounts.of(handler, "waiting").len(), 0, "{handler}");
    }
    assert_eq!(accounts.of("record_opt_out", "done").len(), 1);
    let count = |state| HANDLERS.iter().map(|handler| accounts.of(handler, state).len()).sum();
    let tally = Tally { events: 1, done: count("done"), skipped: count("skipped"), ..Tally::default() };
    fault.survived(tally, Some(recovered));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f09_a_slow_link_is_no_outage_and_no_refusal() {
    let fault = Fault::new("F09", "500 ms latency, 64 KB/s, slices of 1 to 16 bytes");
    let nodes = shared_node().await;
    let proxy = proxy_to(&nodes[0]).await;
    let mut all_in_one = Deployment::on(nodes).await;
    all_in_one.broker_through(proxy.address());
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 120, 12, &all_in_one.sandbox);
    let parts = load.parts(2);

    let slow = Toxics { latency: Duration::from_millis(500), jitter: Duration::from_millis(100), ..Toxics::default() };
    proxy.set_both(&slow);
    send_all(&all_in_one.sender, parts[0]).await;
    proxy.set(Direction::Up, Toxics { bytes_per_second: Some(64 * 1024), slicer: true, ..slow.clone() });
    proxy.set(Direction::Down, Toxics { slicer: true, ..slow });
    send_all(&all_in_one.sender, parts[1]).await;
    let recovered = timed("what was spooled is forwarded over it", Duration::from_secs(120), async || {
        all_in_one.spooled().await == 0
    })
    .await;
    proxy.heal();
    let tally = all_in_one.holds(&load, 0).await;

    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(recovered));
}
