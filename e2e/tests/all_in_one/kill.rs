//! `kill -9` under load: nothing is lost, nothing is made twice.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use hookline_e2e::{ACCOUNT, AllInOne, Running, SECOND_ACCOUNT, eventually};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EffectKind, Endpoint, Fault, FaultRule};
use serde_json::Value;

const AT_ONCE: usize = 8;

/// Posts all bodies while the process is killed `kills` times, spread over the load; returns the last process.
async fn send_under_fire(all_in_one: &AllInOne, bodies: &[Value], kills: usize) -> Running {
    let sending = async {
        futures::stream::iter(bodies)
            .map(|body| all_in_one.sender.send(body))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await
    };
    let killing = async {
        let mut running = all_in_one.run().await;
        for kill in 1..=kills {
            let enough = bodies.len() * kill / (kills + 1);
            eventually("more is accepted", async || (all_in_one.sender.accepted().len() >= enough).then_some(())).await;
            running.process.kill().await;
            running = all_in_one.run().await;
        }
        running
    };
    let (ids, running) = futures::future::join(sending, killing).await;
    assert_eq!(ids.len(), bodies.len());
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_notes_survive_ten_kills_and_none_is_written_twice() {
    let all_in_one = AllInOne::with(|sandbox| sandbox.latency = Duration::from_millis(15), "").await;
    let bodies: Vec<Value> = (0..500).map(|_| sample("message.received", &SampleFacts::random(ACCOUNT))).collect();
    for body in &bodies {
        all_in_one.sandbox.learn(body).unwrap();
    }

    let running = send_under_fire(&all_in_one, &bodies, 10).await;
    let accounts = all_in_one.settled().await;

    assert_eq!(all_in_one.sender.accepted().len(), 500, "each body has an id of its own");
    accounts.hold(&all_in_one.sender.accepted(), 0);
    assert_eq!(accounts.of("log_note", "done").len(), 500);
    let notes = all_in_one.rows(&["records", "notes"], "notes").await;
    let noted: Vec<&str> = notes.iter().map(|note| note["message_id"].as_str().expect("a text")).collect();
    let distinct: BTreeSet<&str> = noted.iter().copied().collect();
    let sent: BTreeSet<&str> = bodies.iter().map(|body| body["message"]["id"].as_str().expect("a text")).collect();
    assert_eq!(noted.len(), 500, "none twice");
    assert_eq!(distinct, sent);
    let events: BTreeSet<&str> = notes.iter().map(|note| note["event_id"].as_str().expect("a text")).collect();
    assert_eq!(events.len(), 500, "each note is of an event of its own");
    assert_eq!(all_in_one.sandbox.violations(), []);
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_posted_once_and_opt_outs_are_put_though_the_process_is_killed_between_call_and_record() {
    let all_in_one = AllInOne::with(
        // Long enough that a kill meets calls whose effect is made and whose answer is on its way.
        |sandbox| sandbox.latency = Duration::from_millis(40),
        &format!("[handlers.create_contact]\naccounts = [\"{SECOND_ACCOUNT}\"]\n"),
    )
    .await;
    let people: Vec<SampleFacts> = (0..40).map(|_| SampleFacts::random(ACCOUNT)).collect();
    let bodies: Vec<Value> = people
        .iter()
        .flat_map(|person| [sample("contact.created", person), sample("contact.opted_out", person)])
        .collect();

    let running = send_under_fire(&all_in_one, &bodies, 5).await;
    let accounts = all_in_one.settled().await;

    accounts.hold(&all_in_one.sender.accepted(), all_in_one.sandbox.echoes_sent());
    assert_eq!(all_in_one.sandbox.echo_counts().given_up, 0);
    for person in &people {
        let posts = all_in_one.sandbox.effect_count(EffectKind::ContactCreated, SECOND_ACCOUNT, &person.phone);
        assert_eq!(posts, 1, "one contact");
        let puts = all_in_one.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone);
        // A kill between the call and its record repeats a PUT, which changes nothing there.
        assert!((1..=6).contains(&puts), "{puts} PUTs");
    }
    assert_eq!(all_in_one.cli(&["opt-outs", "verify"]).await.code, Some(0));
    assert_eq!(all_in_one.sandbox.violations(), []);
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_before_a_kill_and_not_yet_processed_is_done_after_the_restart() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    all_in_one.sandbox.fault(FaultRule::new(Fault::Hang(Duration::from_secs(120))));
    let person = SampleFacts::random(ACCOUNT);
    let note = sample("message.received", &person);
    all_in_one.sandbox.learn(&note).unwrap();

    let opt_out = all_in_one.sender.send(&sample("contact.opted_out", &person)).await;
    let note = all_in_one.sender.send(&note).await;
    eventually("both are being processed", async || (all_in_one.sandbox.requests().len() >= 2).then_some(())).await;
    running.process.kill().await;
    all_in_one.sandbox.clear_faults();
    let running = all_in_one.run().await;
    let accounts = all_in_one.settled().await;

    accounts.hold(&all_in_one.sender.accepted(), all_in_one.sandbox.echoes_sent());
    assert_eq!(accounts.ending(&opt_out, "record_opt_out"), "done");
    assert_eq!(accounts.ending(&note, "log_note"), "done");
    assert_eq!(all_in_one.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone), 1);
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_copies_of_one_webhook_at_once_are_one_event_and_one_effect() {
    for event_type in ["message.received", "contact.opted_out", "contact.created"] {
        let all_in_one = AllInOne::with(|sandbox| sandbox.latency = Duration::from_millis(20), "").await;
        let running = all_in_one.run().await;
        let person = SampleFacts::random(ACCOUNT);
        let body = sample(event_type, &person);
        if event_type == "message.received" {
            all_in_one.sandbox.learn(&body).unwrap();
        }

        let ids = join_all((0..20).map(|_| all_in_one.sender.send(&body))).await;
        let accounts = all_in_one.settled().await;

        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1, "{event_type}: one event_id");
        accounts.hold(&all_in_one.sender.accepted(), all_in_one.sandbox.echoes_sent());
        let made = match event_type {
            "message.received" => all_in_one.rows(&["records", "notes"], "notes").await.len(),
            "contact.opted_out" => all_in_one.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone),
            _ => all_in_one.sandbox.effect_count(EffectKind::ContactCreated, ACCOUNT, &person.phone),
        };
        assert_eq!(made, 1, "{event_type}: one effect");
        let gets =
            all_in_one.sandbox.requests().iter().filter(|get| get.endpoint == Some(Endpoint::GetMessage)).count();
        assert!(gets <= 1, "{event_type}: {gets} GETs");
        let (_, metrics) = running.admin("/metrics").await;
        let seen = metrics.lines().find(|line| line.contains("duplicate_seen") && line.contains("textus")).unwrap();
        assert!(seen.ends_with(" 19"), "{seen}");
        running.stop().await;
    }
}
