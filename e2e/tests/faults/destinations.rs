//! The API: throttles, hangs, breaks off.

use std::time::{Duration, SystemTime};

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::{ACCOUNT, Deployment, Half, Load, TOKEN, eventually, send_all};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{Endpoint, Fault as ApiFault, FaultRule, RecordedRequest};
use jiff::Timestamp;

use crate::brokers::connected;
use crate::{Fault, seed, shared_node, timed};

const CLOSED: &str = "destination.closed: its rate limit is reached; deliveries wait, no attempt is spent";
const A_QUARTER_OF_AN_HOUR_MS: u64 = 15 * 60 * 1000;
/// Other processes hear of a 429 this much later at most.
const HEARD_WITHIN: Duration = Duration::from_millis(250);

fn throttle(retry_after: &str) -> FaultRule {
    FaultRule::new(ApiFault::Throttle { retry_after: retry_after.to_owned() }).on(Endpoint::PutOptOut).times(1)
}

/// Requests that began too early after the newest 429.
fn too_early(requests: &[RecordedRequest], wait: Duration) -> Vec<Timestamp> {
    let throttled = requests.iter().rfind(|request| request.status == Some(429)).expect("one was throttled");
    let from = throttled.at + HEARD_WITHIN;
    let until = throttled.at + wait;
    requests.iter().map(|request| request.at).filter(|at| (from..until).contains(at)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn f26_a_retry_after_binds_every_worker_in_seconds_and_as_a_date_and_an_absurd_one_is_capped() {
    let fault = Fault::new("F26", "429 with Retry-After in seconds, as a date, absurd");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), 90, 9, &all_in_one.sandbox);
    let parts = load.parts(3);

    for (part, as_date) in parts[..2].iter().zip([false, true]) {
        let said =
            if as_date { httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(5)) } else { "4".to_owned() };
        all_in_one.sandbox.clear_requests();
        all_in_one.sandbox.fault(throttle(&said));
        send_all(&all_in_one.sender, part).await;
        all_in_one.settled().await;
        // A date has whole seconds only, and time has passed since it was written.
        let wait = if as_date { Duration::from_secs(2) } else { Duration::from_secs(4) };
        let early = too_early(&all_in_one.sandbox.requests(), wait);
        assert_eq!(early, [], "Retry-After: {said}");
    }

    send_all(&all_in_one.sender, parts[2]).await;
    let tally = all_in_one.holds(&load, 0).await;

    all_in_one.sandbox.fault(throttle("99999999"));
    all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;
    let closed = async || {
        let closed = all_in_one.logged(CLOSED);
        // Told as soon as the answer is read.
        let told = A_QUARTER_OF_AN_HOUR_MS - 1_000..=A_QUARTER_OF_AN_HOUR_MS;
        closed.iter().filter_map(|line| line["wait_ms"].as_u64()).any(|wait| told.contains(&wait))
    };
    timed("it is closed for a quarter of an hour", Duration::from_secs(60), closed).await;
    let longest = all_in_one.logged(CLOSED).iter().filter_map(|line| line["wait_ms"].as_u64()).max();
    assert!(longest <= Some(A_QUARTER_OF_AN_HOUR_MS), "and no longer: {longest:?}");
    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f25_an_api_that_hangs_drips_resets_truncates_and_fails_in_bursts_is_tried_again() {
    let fault = Fault::new("F25", "API hangs, drips, resets, truncates, 5xx bursts");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), 300, 30, &all_in_one.sandbox);
    let faults = [
        ApiFault::Hang(Duration::from_secs(3)),
        ApiFault::Reset,
        ApiFault::TruncatedBody,
        ApiFault::DripBody(Duration::from_millis(200)),
        ApiFault::GarbageBody,
        ApiFault::status(500),
        ApiFault::status(502),
        ApiFault::EffectThenReset,
    ];

    for (part, trouble) in load.parts(faults.len()).into_iter().zip(faults) {
        all_in_one.sandbox.fault(FaultRule::new(trouble).times(3));
        send_all(&all_in_one.sender, part).await;
        all_in_one.settled().await;
    }
    // An effect whose answer was lost may be repeated where a repeat changes nothing.
    let tally = all_in_one.holds(&load, 1).await;

    assert!(all_in_one.parts(Half::Worker).count() == 2);
    let person = SampleFacts::random(ACCOUNT);
    all_in_one.sender.send(&sample("contact.opted_out", &person)).await;
    all_in_one.settled().await;
    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f27_an_effect_whose_answer_was_lost_is_found_and_not_made_again() {
    let fault = Fault::new("F27", "effect made, answer lost");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), 200, 20, &all_in_one.sandbox);
    all_in_one.sandbox.fault(FaultRule::new(ApiFault::EffectThenReset).on(Endpoint::CreateContact).times(5));
    all_in_one.sandbox.fault(FaultRule::new(ApiFault::EffectThenStatus(500)).on(Endpoint::CreateContact).times(5));
    all_in_one.sandbox.fault(FaultRule::new(ApiFault::EffectThenReset).on(Endpoint::PutOptOut).times(5));

    send_all(&all_in_one.sender, &load.bodies).await;
    let tally = all_in_one.holds(&load, 5).await;

    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f37_refused_credentials_pause_the_destination_and_the_broker_and_lose_nothing() {
    let fault = Fault::new("F37", "API token and broker password refused for a while");
    let nodes = [RabbitNode::start().await];
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), 300, 30, &all_in_one.sandbox);
    let parts = load.parts(3);

    all_in_one.sandbox.configure(|sandbox| "another-synthetic-token".clone_into(&mut sandbox.token));
    send_all(&all_in_one.sender, parts[0]).await;
    let paused = async || all_in_one.json(&["status"]).await["destinations"].to_string().contains("paused");
    timed("the destination is paused", Duration::from_secs(60), paused).await;
    all_in_one.sandbox.configure(|sandbox| TOKEN.clone_into(&mut sandbox.token));
    // `paused_probe` finds out.
    all_in_one.settled().await;

    let password = |word: &'static str| async { all_in_one.ctl(&["change_password", "all_in_one", word]).await };
    password("rotated-synthetic-password").await;
    all_in_one.ctl(&["close_all_connections", "--vhost", &all_in_one.vhost, "rotated"]).await;
    send_all(&all_in_one.sender, parts[1]).await;
    eventually("ingest spools", async || (all_in_one.spooled().await > 0).then_some(())).await;
    password("synthetic-broker-password-of-all-in-one").await;
    let recovered = connected(&all_in_one).await;
    send_all(&all_in_one.sender, parts[2]).await;
    let tally = all_in_one.holds(&load, 0).await;

    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(recovered));
}
