//! Workers die at every line that matters, are stopped, frozen, and restarted while they work.

use std::time::Duration;

use hookline_e2e::{ACCOUNT, Deployment, Half, Load, eventually, send_all};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EffectKind, Endpoint, Fault as ApiFault, FaultRule};
use serde_json::{Value, json};

use crate::{Fault, accepted, full, seed, shared_node};

/// Posts an opt-out to a worker that dies at `point`, and starts one that does not.
async fn dies_at(all_in_one: &mut Deployment<'_>, point: &str) -> (String, SampleFacts) {
    all_in_one.put(Half::Worker, 0, &[("HOOKLINE_TEST_ABORT_AT", point)]).await;
    let person = SampleFacts::random(ACCOUNT);
    let id = all_in_one.sender.send(&sample("contact.opted_out", &person)).await;
    assert_eq!(all_in_one.dies(Half::Worker, 0).await, None, "it is aborted at {point}");
    all_in_one.put(Half::Worker, 0, &[]).await;
    all_in_one.settled().await;
    (id, person)
}

fn puts(all_in_one: &Deployment<'_>, person: &SampleFacts) -> usize {
    all_in_one.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone)
}

/// How often `record_opt_out` counted an attempt at it.
async fn attempts(all_in_one: &Deployment<'_>, id: &str) -> Value {
    let shown = all_in_one.json(&["events", "show", id]).await;
    let deliveries = shown["deliveries"].as_array().expect("deliveries").clone();
    deliveries.into_iter().find(|delivery| delivery["handler"] == "record_opt_out").expect("it takes opt-outs")
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_f18_a_worker_that_dies_around_a_call_or_before_the_ack_leaves_one_effect() {
    let before = Fault::new("F17", "worker dies before the API's answer");
    let after = Fault::new("F18", "worker dies after the answer, and before the ack");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 20, 2, &all_in_one.sandbox);
    send_all(&all_in_one.sender, &load.bodies).await;
    all_in_one.settled().await;

    all_in_one.stop(Half::Worker, 0).await;
    let (_, unanswered) = dies_at(&mut all_in_one, "call.before").await;
    assert_eq!(puts(&all_in_one, &unanswered), 1, "asked once: the first never was");
    let tally = all_in_one.holds(&load, 0).await;
    before.survived(tally, None);

    all_in_one.stop(Half::Worker, 0).await;
    let (_, unrecorded) = dies_at(&mut all_in_one, "call.answered").await;
    assert!((1..=2).contains(&puts(&all_in_one, &unrecorded)), "a PUT that was not recorded may be repeated, once");
    all_in_one.stop(Half::Worker, 0).await;
    let (_, unacknowledged) = dies_at(&mut all_in_one, "ack.before").await;
    assert_eq!(puts(&all_in_one, &unacknowledged), 1, "what is recorded is not repeated");
    let tally = all_in_one.holds(&load, 0).await;
    after.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn f19_a_worker_that_dies_between_a_confirm_and_its_ack_counts_right_and_makes_one_effect() {
    let fault = Fault::new("F19", "worker dies between the confirm of a retry or dead letter and the ack");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 20, 2, &all_in_one.sandbox);
    send_all(&all_in_one.sender, &load.bodies).await;
    all_in_one.settled().await;

    all_in_one.stop(Half::Worker, 0).await;
    all_in_one.sandbox.fault(FaultRule::new(ApiFault::status(503)).on(Endpoint::PutOptOut).times(1));
    let (id, retried) = dies_at(&mut all_in_one, "retry.confirmed").await;
    let delivery = attempts(&all_in_one, &id).await;
    let log = delivery["attempt_log"].as_array().expect("attempts");
    let verdicts: Vec<_> = log.iter().map(|attempt| attempt["verdict"].as_str().expect("a text")).collect();
    assert_eq!(verdicts, ["parked", "done"], "{delivery}");
    // Whichever is handed out first, the message that was not acknowledged (attempt 1 once more) or its retry
    // (attempt 2), does it, and the other finds it done, or has begun meanwhile and waits for it.
    let made = log[1]["attempt"].as_u64().expect("a number");
    assert!((made..=2).contains(&delivery["attempts"].as_u64().expect("a number")), "{delivery}");
    assert_eq!(delivery["state"], "done", "{delivery}");
    assert_eq!(puts(&all_in_one, &retried), 1);

    all_in_one.stop(Half::Worker, 0).await;
    let refusal = ApiFault::Status { status: 400, headers: Vec::new(), body: Some(json!({}).to_string()) };
    // The copy that comes again may be tried before the dead letter is in the store: then it is refused as well.
    all_in_one.sandbox.fault(FaultRule::new(refusal).on(Endpoint::PutOptOut));
    let (id, refused) = dies_at(&mut all_in_one, "dead.confirmed").await;
    let dead = all_in_one.rows(&["dead-letters", "list"], "dead_letters").await;
    assert_eq!(dead.len(), 1, "one dead letter: {dead:?}");
    assert_eq!(dead[0]["event_id"], id.as_str());
    assert_eq!(puts(&all_in_one, &refused), 0);
    all_in_one.sandbox.clear_faults();
    all_in_one.json(&["dead-letters", "redrive", &id]).await;
    let tally = all_in_one.holds(&load, 0).await;
    assert_eq!(puts(&all_in_one, &refused), 1, "done when it is redriven");
    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn f20_rolling_restarts_give_everything_back_and_dead_letter_nothing() {
    let fault = Fault::new("F20", "rolling SIGTERM restarts of workers and ingests");
    let mut all_in_one =
        Deployment::with(shared_node().await, |sandbox| sandbox.latency = Duration::from_millis(30)).await;
    all_in_one.start(2, 2, "").await;
    let restarts = full(3, 10);
    let load = Load::mixed(seed(), full(200, 1500), full(20, 150), &all_in_one.sandbox);

    for (restart, part) in load.parts(restarts).into_iter().enumerate() {
        let sender = all_in_one.sender.clone();
        let restarted = async {
            let place = restart % 2;
            assert_eq!(all_in_one.stop(Half::Worker, place).await, Some(0), "a worker ends well within its grace");
            all_in_one.put(Half::Worker, place, &[]).await;
            assert_eq!(all_in_one.stop(Half::Ingest, place).await, Some(0), "an ingest ends well within its grace");
            all_in_one.put(Half::Ingest, place, &[]).await;
        };
        tokio::join!(send_all(&sender, part), restarted);
    }
    let tally = all_in_one.holds(&load, 0).await;

    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_again_and_again_under_load_lose_nothing_and_repeat_nothing() {
    let fault = Fault::new("kill", "workers killed -9 (quick 5, full 20 times) with 10 % repeats sent");
    let mut all_in_one =
        Deployment::with(shared_node().await, |sandbox| sandbox.latency = Duration::from_millis(15)).await;
    all_in_one.start(1, 2, "").await;
    let kills = full(5, 20);
    let load = Load::mixed(seed(), full(400, 5000), full(40, 500), &all_in_one.sandbox);

    for (kill, part) in load.parts(kills).into_iter().enumerate() {
        let sender = all_in_one.sender.clone();
        let enough = sender.accepted().len() + part.len() / 3;
        let killed = async {
            accepted(&all_in_one, enough).await;
            all_in_one.kill(Half::Worker, kill % 2).await;
            all_in_one.put(Half::Worker, kill % 2, &[]).await;
        };
        tokio::join!(send_all(&sender, part), killed);
    }
    let tally = all_in_one.holds(&load, kills).await;

    assert_eq!(all_in_one.sender.statuses(), [200].into());
    assert_eq!(tally.accepted, full(400, 5000));
    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn f28_payloads_that_no_handler_can_read_become_dead_letters_and_the_others_go_on() {
    let fault = Fault::new("F28", "payloads that no handler can read (none is known that makes one panic)");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 40, 4, &all_in_one.sandbox);
    let parts = load.parts(2);
    send_all(&all_in_one.sender, parts[0]).await;

    let mut odd = vec![
        json!({ "id": "/d/1", "action": "message.received", "message": [] }),
        json!({ "id": "/d/2", "action": "message.received", "message": { "id": { "deep": [[[[[[0]]]]]] } } }),
        json!({ "id": "/d/3", "action": "contact.opted_out", "optOut": { "phoneNumber": 7 } }),
        json!({ "id": "/d/4", "action": "contact.created", "contact": null }),
        json!({ "id": "/d/5", "action": "contact.opted_out", "optOut": { "phoneNumber": "\u{0}\u{202e}9".repeat(300) } }),
    ];
    odd.push(json!({ "id": "/d/6", "action": "x".repeat(300) }));
    odd.push(json!({ "id": "/d/7", "action": "Odd €vent/#*.type" }));
    for body in &odd {
        let id = all_in_one.sender.send(body).await;
        all_in_one.doomed.insert(id);
    }
    send_all(&all_in_one.sender, parts[1]).await;
    let accounts = all_in_one.settled().await;
    let tally = all_in_one.holds(&load, 0).await;

    let unreadable = accounts.reasons.values().filter(|reason| *reason == "unreadable").count();
    assert!(unreadable >= 5, "{unreadable} are unreadable: {:?}", accounts.reasons);
    assert!(all_in_one.part(Half::Worker, 0).metric("hookline_panics_total").await < 1.0, "and nothing panicked");
    fault.survived(tally, None);
}

const ALL_BUT_OPT_OUTS: [&str; 5] = ["flag_opt_out", "log_note", "sync_contact", "create_contact", "record_history"];

/// How often a delivery may be handed out in vain.
const LIMIT: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn f29_a_payload_that_ends_its_process_each_time_becomes_a_dead_letter_and_the_others_go_on() {
    let fault = Fault::new("F29", "an opt-out that aborts each of the 21 workers that call for it");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 0, "").await;
    all_in_one.add_worker_of(&ALL_BUT_OPT_OUTS).await;
    let place = all_in_one.add_worker_of(&["record_opt_out"]).await;
    let load = Load::mixed(seed(), 60, 6, &all_in_one.sandbox);
    let (opt_outs, others): (Vec<Value>, Vec<Value>) =
        load.bodies.iter().cloned().partition(|body| body["optOut"].is_object());

    all_in_one.stop(Half::Worker, place).await;
    let person = SampleFacts::random(ACCOUNT);
    let deadly = all_in_one.sender.send(&sample("contact.opted_out", &person)).await;
    all_in_one.doomed.insert(deadly.clone());
    for _ in 0..=LIMIT {
        let aborts = [("HOOKLINE_TEST_ABORT_AT", "call.before")];
        all_in_one.put_worker_of(place, &["record_opt_out"], &aborts).await;
        assert_eq!(all_in_one.dies(Half::Worker, place).await, None, "it is aborted at its call");
    }
    eventually("the broker gives it up", async || {
        (all_in_one.queues().await["hookline.dead.record_opt_out"] == 1).then_some(())
    })
    .await;
    // Other handlers had a worker all the time.
    send_all(&all_in_one.sender, &others).await;
    all_in_one.put_worker_of(place, &["record_opt_out"], &[]).await;
    send_all(&all_in_one.sender, &opt_outs).await;
    let tally = all_in_one.holds(&load, 0).await;

    let dead = all_in_one.rows(&["dead-letters", "list"], "dead_letters").await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!((&dead[0]["event_id"], &dead[0]["reason"]), (&json!(deadly), &json!("delivery_limit")));
    assert_eq!(puts(&all_in_one, &person), 0, "it was never called for");
    // As with a version that can take it.
    all_in_one.json(&["dead-letters", "redrive", &deadly]).await;
    all_in_one.settled().await;
    assert_eq!(puts(&all_in_one, &person), 1, "done when it is redriven");
    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f15_a_consumer_that_the_broker_gives_up_is_made_anew_and_the_effect_is_made_once() {
    let fault = Fault::new("F15", "consumer timeout 60 s with a hung API");
    let nodes = [hookline_common::testing::nodes::RabbitNode::start().await];
    nodes[0].ctl(&["eval", "application:set_env(rabbit, consumer_timeout, 60000)."]).await;
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.set("HOOKLINE__TEXTUS__TIMEOUT", "100s");
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 100, 10, &all_in_one.sandbox);
    let parts = load.parts(2);
    send_all(&all_in_one.sender, parts[0]).await;
    all_in_one.settled().await;

    let hang = ApiFault::EffectThenHang(Duration::from_secs(95));
    all_in_one.sandbox.fault(FaultRule::new(hang).on(Endpoint::PutOptOut).times(1));
    let person = SampleFacts::random(ACCOUNT);
    all_in_one.sender.send(&sample("contact.opted_out", &person)).await;
    // The broker looks once a minute; until then the delivery is out.
    let began = std::time::Instant::now();
    let node = || nodes[0].ctl(&["eval", "length([C || C <- rabbit_channel:list(), is_process_alive(C)])."]);
    node().await;
    tokio::time::sleep(Duration::from_secs(75)).await;
    send_all(&all_in_one.sender, parts[1]).await;
    eventually("its call has ended", async || (puts(&all_in_one, &person) >= 1).then_some(())).await;
    tokio::time::sleep_until((began + Duration::from_secs(100)).into()).await;
    let tally = all_in_one.holds(&load, 1).await;

    assert!((1..=2).contains(&puts(&all_in_one, &person)), "an answer was lost: at most one PUT more");
    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f36_a_worker_that_is_stopped_for_long_is_fenced_when_it_goes_on() {
    let fault = Fault::new("F36", "worker stopped 90 s");
    let mut all_in_one =
        Deployment::with(shared_node().await, |sandbox| sandbox.latency = Duration::from_millis(200)).await;
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), 400, 40, &all_in_one.sandbox);
    let parts = load.parts(2);

    tokio::join!(send_all(&all_in_one.sender, parts[0]), async {
        accepted(&all_in_one, parts[0].len() / 3).await;
        all_in_one.part(Half::Worker, 0).process.freeze();
    });
    let frozen = tokio::time::Instant::now();
    send_all(&all_in_one.sender, parts[1]).await;
    tokio::time::sleep_until(frozen + Duration::from_secs(90)).await;
    all_in_one.part(Half::Worker, 0).process.thaw();
    let tally = all_in_one.holds(&load, 1).await;

    fault.survived(tally, None);
}
