//! A part of the API fails, and the rest works: an opt-out is PUT all the same, and soon.

use std::time::{Duration, Instant};

use hookline_e2e::{ACCOUNT, Deployment, Load};
use hookline_sandbox::{EffectKind, Endpoint, Fault as ApiFault, FaultRule};
use serde_json::Value;

use crate::{Fault, seed, shared_node};

/// What waits while reads fail, and takes the probes.
const NOTES: usize = 8;
/// Between two opt-outs.
const EVERY: Duration = Duration::from_secs(5);
/// How late an opt-out may be.
const WITHIN: Duration = Duration::from_secs(5);
/// How long a breaker is open at most, by default.
const OPEN_MAX: Duration = Duration::from_mins(5);
/// The delay queue for whatever waits a little longer than that, and a minute.
const LONGEST_PARKED: Duration = Duration::from_mins(11);

async fn reads_fail_for(time: Duration, fault: Fault) {
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 2, "").await;
    // Three of ten are opt-outs.
    let events = NOTES * 4 + usize::try_from(time.as_secs() / EVERY.as_secs()).expect("few") * 4;
    let mut load = Load::mixed(seed(), events, 0, &all_in_one.sandbox);
    // What comes after the opt-outs shows that reads work again; more of it would only take the API's quota.
    load.keep_of_others(NOTES * 4);
    let is_text = |body: &&Value| body["action"].as_str().is_some_and(|action| action.starts_with("message."));
    let (texts, others): (Vec<_>, Vec<_>) = load.bodies.iter().partition(is_text);
    let (opt_outs, contacts): (Vec<_>, Vec<_>) = others.into_iter().partition(|body| body["optOut"].is_object());
    for endpoint in [
        Endpoint::GetMessage,
        Endpoint::GetOptOut,
        Endpoint::FindConversation,
        Endpoint::FindContactPhones,
        Endpoint::GetContact,
        Endpoint::ListPhones,
    ] {
        all_in_one.sandbox.fault(FaultRule::new(ApiFault::status(500)).on(endpoint));
    }
    let (first, rest) = texts.split_at(NOTES);
    for text in first {
        all_in_one.sender.send(text).await;
    }
    hookline_e2e::eventually("reads are held", async || reads_are_held(&all_in_one).await.then_some(())).await;

    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut opt_outs = opt_outs.into_iter();
    let mut sent = 0;
    while began.elapsed() < time
        && let Some(body) = opt_outs.next()
    {
        let phone = body["optOut"]["phoneNumber"].as_str().expect("a phone number");
        let clock = Instant::now();
        all_in_one.sender.send(body).await;
        hookline_e2e::eventually("the opt-out is PUT", async || {
            (all_in_one.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, phone) > 0).then_some(())
        })
        .await;
        slowest = slowest.max(clock.elapsed());
        sent += 1;
        tokio::time::sleep(EVERY.saturating_sub(clock.elapsed())).await;
    }
    println!("parts: {sent} opt-outs while reads failed for {time:?}; the slowest PUT after {slowest:.2?}");
    assert!(slowest <= WITHIN, "{slowest:?}");
    let ended = Instant::now();
    all_in_one.sandbox.clear_faults();
    for body in rest.iter().copied().chain(contacts).chain(opt_outs) {
        all_in_one.sender.send(body).await;
    }
    // The distance of probes has doubled up to its bound by then.
    while reads_are_held(&all_in_one).await {
        assert!(ended.elapsed() < OPEN_MAX + Duration::from_mins(1), "nobody finds out that reads work");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // What the breaker parked may come back from the next longer delay queue.
    while waits(&all_in_one).await {
        assert!(ended.elapsed() < OPEN_MAX + LONGEST_PARKED, "it does not come back");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let tally = all_in_one.holds(&load, 0).await;
    fault.survived(tally, Some(ended.elapsed()));
}

async fn waits(all_in_one: &Deployment<'_>) -> bool {
    let status = all_in_one.json(&["status"]).await;
    status["handlers"].as_array().is_some_and(|all| all.iter().any(|handler| handler["waiting"] != 0))
}

async fn reads_are_held(all_in_one: &Deployment<'_>) -> bool {
    let status = all_in_one.json(&["status"]).await;
    status["destinations"][0]["reason"].as_str().is_some_and(|why| why.starts_with("reads fail"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn reads_that_fail_for_twenty_minutes_hold_no_opt_out_up() {
    let fault = Fault::new("parts", "all GETs answer 500 for 20 minutes, PUTs work; 8 notes wait; 2 workers");
    reads_fail_for(Duration::from_secs(20 * 60), fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_fail_hold_no_opt_out_up() {
    let fault = Fault::new("parts", "all GETs answer 500 for 20 s, PUTs work; 8 notes wait; 2 workers");
    reads_fail_for(Duration::from_secs(20), fault).await;
}
