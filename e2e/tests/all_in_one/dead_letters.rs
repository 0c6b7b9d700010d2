//! What was given up, and the ways out: redrive, discard, resolve, also when the process is killed meanwhile.

use std::time::Duration;

use futures::StreamExt as _;
use hookline_e2e::{ACCOUNT, AllInOne, eventually};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EffectKind, Endpoint, Fault, FaultRule};
use serde_json::{Value, json};

use crate::erasure::write_to_store;

fn refusal() -> Fault {
    Fault::Status { status: 400, headers: Vec::new(), body: Some(r#"{"error":"no"}"#.to_owned()) }
}

async fn dead_letters(all_in_one: &AllInOne, count: usize) -> Vec<Value> {
    eventually("the dead letters", async || {
        let rows = all_in_one.rows(&["dead-letters", "list"], "dead_letters").await;
        (rows.len() == count).then_some(rows)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_redriven_and_discarded_while_it_is_up_and_while_it_is_down() {
    let all_in_one = AllInOne::with(|sandbox| sandbox.echoes = false, "").await;
    let running = all_in_one.run().await;
    all_in_one.sandbox.fault(FaultRule::new(refusal()).on(Endpoint::PutOptOut));
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await);
    }
    eventually("all are dead letters", async || {
        (all_in_one.rows(&["dead-letters", "list"], "dead_letters").await.len() == 4).then_some(())
    })
    .await;
    all_in_one.sandbox.clear_faults();

    let redriven = all_in_one.json(&["dead-letters", "redrive", &ids[0]]).await;
    let discarded = all_in_one.json(&["dead-letters", "discard", &ids[1], "--reason", "mistyped"]).await;
    assert_eq!((redriven, discarded), (json!({ "redriven": 1 }), json!({ "discarded": 1 })));
    assert_eq!(running.stop().await.code, Some(0));
    let redriven = all_in_one.json(&["dead-letters", "redrive", &ids[2]]).await;
    let discarded = all_in_one.json(&["dead-letters", "discard", &ids[3], "--reason", "mistyped"]).await;
    assert_eq!((redriven, discarded), (json!({ "redriven": 1 }), json!({ "discarded": 1 })));
    let running = all_in_one.run().await;
    let accounts = all_in_one.settled().await;

    for (id, state) in ids.iter().zip(["done", "discarded", "done", "discarded"]) {
        assert!(accounts.of("record_opt_out", state).contains(id), "{id} {state}");
    }
    assert_eq!(all_in_one.sandbox.effects().len(), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_of_everything_that_is_killed_midway_does_each_of_them_once() {
    const COUNT: usize = 150;
    let all_in_one = AllInOne::with(|sandbox| sandbox.echoes = false, "").await;
    let running = all_in_one.run().await;
    all_in_one.sandbox.fault(FaultRule::new(refusal()).on(Endpoint::GetMessage));
    let bodies: Vec<Value> = (0..COUNT).map(|_| sample("message.received", &SampleFacts::random(ACCOUNT))).collect();
    for body in &bodies {
        all_in_one.sandbox.learn(body).unwrap();
    }
    futures::stream::iter(&bodies).map(|body| all_in_one.sender.send(body)).buffer_unordered(8).count().await;
    dead_letters(&all_in_one, COUNT).await;
    all_in_one.sandbox.clear_faults();
    all_in_one.sandbox.configure(|sandbox| sandbox.latency = Duration::from_millis(30));

    // Both die in the middle: whoever redrives, and whoever works off what was redriven.
    let redriving = hookline_e2e::Process::start(all_in_one.command(&["dead-letters", "redrive", "--all"]));
    eventually("some notes", async || {
        (all_in_one.rows(&["records", "notes"], "notes").await.len() >= 10).then_some(())
    })
    .await;
    redriving.kill().await;
    running.process.kill().await;
    let running = all_in_one.run().await;
    all_in_one.cli(&["dead-letters", "redrive", "--all"]).await;
    let accounts = all_in_one.settled().await;

    accounts.hold(&all_in_one.sender.accepted(), 0);
    assert_eq!(all_in_one.rows(&["records", "notes"], "notes").await.len(), COUNT);
    assert_eq!(all_in_one.rows(&["dead-letters", "list"], "dead_letters").await, Vec::<Value>::new());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_resolves_what_nobody_else_can_know() {
    for (answer, posts) in [("--done", 1), ("--write-again", 1)] {
        let all_in_one = AllInOne::with(|sandbox| sandbox.echoes = false, "").await;
        let running = all_in_one.run().await;
        // With --done the lost POST had its effect, with --write-again it had not.
        let lost = if answer == "--done" { Fault::EffectThenReset } else { Fault::Reset };
        all_in_one.sandbox.fault(FaultRule::new(lost).on(Endpoint::CreateContact).times(1));
        all_in_one.sandbox.fault(FaultRule::new(refusal()).on(Endpoint::FindConversation).skip(1));
        let person = SampleFacts::random(ACCOUNT);

        let id = all_in_one.sender.send(&sample("contact.created", &person)).await;
        let dead = dead_letters(&all_in_one, 1).await.remove(0);
        assert_eq!((dead["reason"].as_str(), dead["event_id"].as_str()), (Some("outcome_unknown"), Some(id.as_str())));
        let ran = all_in_one.cli(&["dead-letters", "resolve", dead["id"].as_str().expect("a text"), answer]).await;
        assert_eq!(ran.code, Some(0), "{answer}: {ran:?}");
        let accounts = eventually("it is done", async || {
            let accounts = all_in_one.settled().await;
            (accounts.ending(&id, "create_contact") == "done").then_some(accounts)
        })
        .await;

        accounts.hold(&all_in_one.sender.accepted(), 0);
        assert_eq!(
            all_in_one.sandbox.effect_count(EffectKind::ContactCreated, ACCOUNT, &person.phone),
            posts,
            "{answer}"
        );
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_and_changes_nothing() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    all_in_one.sandbox.fault(FaultRule::new(refusal()).on(Endpoint::PutOptOut).times(3));
    for _ in 0..3 {
        all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;
    }
    let before = dead_letters(&all_in_one, 3).await;

    let told = all_in_one.json(&["dead-letters", "redrive", "--all", "--dry-run"]).await;

    assert_eq!(told["would_redrive"], 3);
    assert_eq!(told["api_calls"].as_u64().map(|calls| calls >= 3), Some(true), "{told}");
    assert_eq!(dead_letters(&all_in_one, 3).await, before);
    assert_eq!(all_in_one.sandbox.effects(), []);
    running.stop().await;
}

/// Whatever keeps the PUT from being claimed: that the person opted out is recorded, and somebody hears of the rest.
#[tokio::test(flavor = "multi_thread")]
async fn an_opt_out_whose_put_cannot_be_claimed_is_recorded_and_a_dead_letter() {
    let mut all_in_one = AllInOne::start().await;
    all_in_one.set("HOOKLINE__HANDLERS__RECORD_OPT_OUT__RETRY__MAX_AGE", "2s");
    let person = SampleFacts::random(ACCOUNT);
    let running = all_in_one.run().await;
    assert_eq!(running.stop().await.code, Some(0));
    let no_claim = "CREATE TRIGGER no_claim BEFORE INSERT ON effects BEGIN SELECT RAISE(ABORT, 'no claim'); END";
    write_to_store(&all_in_one, &[no_claim]).await;

    let running = all_in_one.run().await;
    all_in_one.sender.send(&sample("contact.opted_out", &person)).await;

    let dead = dead_letters(&all_in_one, 1).await;
    assert_eq!(dead[0]["handler"], "record_opt_out");
    let proof = all_in_one.json(&["opt-outs", "prove", &person.phone]).await;
    let kinds: Vec<&Value> = proof["entries"].as_array().expect("a list").iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, [&json!("received")], "{proof}");
    assert_eq!(all_in_one.sandbox.effects().len(), 0);
    assert_eq!(running.stop().await.code, Some(0));
}
