//! `notes sync` after a change from the built-in system of record to HubSpot: killed, refused, without answers, and once.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use hookline_e2e::{ACCOUNT, AllInOne, Process, eventually};
use hookline_sandbox::hubspot::{HubSpotEndpoint as E, HubSpotObject as Object, throttled};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{Fault, FaultRule, HubSpot, HubSpotOptions};
use serde_json::{Value, json};

const NOTES: Object = Object::Communication;
const PEOPLE: usize = 50;
const TEXTS: usize = 6;

fn bodies(people: usize, texts: usize) -> Vec<Value> {
    let mut bodies = Vec::new();
    for n in 0..people {
        let person = SampleFacts {
            phone: format!("+1415555{:04}", 100 + n),
            contact_id: format!("person{n}"),
            embed_contact: true,
            ..SampleFacts::random(ACCOUNT)
        };
        for text in 0..texts {
            let seconds = i64::try_from(text * 100_000 / texts).expect("small");
            let at = "2026-11-02T10:00:00Z".parse::<jiff::Timestamp>().expect("a time");
            let timestamp = at + jiff::SignedDuration::from_secs(seconds);
            let mut body = sample(
                if text % 3 == 2 { "message.delivered" } else { "message.received" },
                &SampleFacts { timestamp, body: format!("text {text} of {n}."), ..person.clone() },
            );
            body["message"]["id"] = json!(format!("/messages/m{n}x{text}"));
            bodies.push(body);
        }
    }
    bodies
}

async fn hubspot(people: usize, rate_limit: (u32, Duration)) -> HubSpot {
    let options = HubSpotOptions { rate_limit, ..HubSpotOptions::default() };
    let crm = HubSpot::start(options).await.expect("the stand-in starts");
    crm.add_property(Object::Contact, "textus_contact_id", true);
    crm.add_typed_property(Object::Contact, "sms_opted_out", "bool");
    for date in ["sms_opted_out_at", "sms_opted_in_at"] {
        crm.add_typed_property(Object::Contact, date, "datetime");
    }
    crm.add_property(Object::Contact, "sms_opt_out_source", false);
    for n in 0..people {
        let (phone, contact) = (format!("+1415555{:04}", 100 + n), format!("person{n}"));
        crm.add_contact(&[("lastname", "Doe"), ("phone", &phone), ("textus_contact_id", &contact)]);
    }
    crm
}

fn to_hubspot(all_in_one: &mut AllInOne, crm: &HubSpot, token: &str) {
    all_in_one.set("HOOKLINE__SYSTEM_OF_RECORD__KIND", "hubspot");
    all_in_one.set("HOOKLINE__SYSTEM_OF_RECORD__HUBSPOT__BASE_URL", &crm.base_url());
    all_in_one.set("HOOKLINE__SYSTEM_OF_RECORD__HUBSPOT__TOKEN", token);
    all_in_one.set("HOOKLINE__SYSTEM_OF_RECORD__HUBSPOT__TIMEOUT", "2s");
    all_in_one.set("HOOKLINE__SYSTEM_OF_RECORD__UPDATE_EVERY", "1s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_fill_that_is_killed_twice_writes_each_thread_once() {
    let more = "[handlers.log_note]\nmessage_lookup = \"none\"\n";
    let mut all_in_one = AllInOne::with(|sandbox| sandbox.echoes = false, more).await;
    let running = all_in_one.run().await;
    futures::stream::iter(&bodies(PEOPLE, TEXTS))
        .map(|body| all_in_one.sender.send(body))
        .buffer_unordered(16)
        .count()
        .await;
    all_in_one.settled().await;
    assert_eq!(running.stop().await.code, Some(0));
    let crm = hubspot(PEOPLE, (40, Duration::from_secs(1))).await;
    to_hubspot(&mut all_in_one, &crm, &HubSpotOptions::default().token);
    let sync = ["notes", "sync", "--since", "2026-11-01"];

    let told = all_in_one.json(&["notes", "sync", "--since", "2026-11-01", "--dry-run"]).await;
    assert_eq!((&told["notes"], &told["dry_run"]), (&json!(PEOPLE * 2), &json!(true)), "{told}");
    assert!(crm.requests().is_empty());
    crm.fault(FaultRule::new(Fault::EffectThenReset).on(E::Create(NOTES)).skip(5).times(2));
    crm.fault(FaultRule::new(Fault::Reset).on(E::Create(NOTES)).skip(9).times(2));
    crm.fault(FaultRule::new(throttled("SECONDLY")).on(E::Create(NOTES)).skip(15).times(1));
    for written in [20, 45] {
        let process = Process::start(all_in_one.command(&sync));
        eventually("some notes", async || (crm.communications().len() >= written).then_some(())).await;
        assert_eq!(process.kill().await.code, None);
    }
    // Workers go on with new texts meanwhile, into the same threads.
    let running = all_in_one.run().await;
    let process = Process::start(all_in_one.command(&[&sync[..], &["--json"]].concat()));
    for n in 0..5 {
        let mut late = bodies(PEOPLE, TEXTS)[n * TEXTS].clone();
        late["id"] = json!(format!("/integrations/late/deliveries/{n}"));
        late["message"]["id"] = json!(format!("/messages/late{n}"));
        late["message"]["body"] = json!(format!("late {n}."));
        all_in_one.sender.send(&late).await;
    }
    let ended = process.ended(Duration::from_secs(150)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    all_in_one.settled().await;

    let mut seen = BTreeSet::new();
    for note in crm.communications() {
        let body = note.get("hs_communication_body").to_owned();
        let [contact] = note.contacts.as_slice() else { panic!("on one contact: {body}") };
        let contact = crm.contacts().into_iter().find(|record| record.id == *contact).expect("a contact");
        assert!(body.contains(contact.get("phone")), "{body}");
        let n: usize = contact.get("phone")[8..].parse::<usize>().expect("a number") - 100;
        for text in 0..TEXTS {
            let day = if text * 100_000 / TEXTS < 14 * 3600 { "2026-11-02" } else { "2026-11-03" };
            assert_eq!(body.contains(&format!("text {text} of {n}.")), body.contains(day), "{body}");
        }
        assert!(n >= 5 || body.contains("2026-11-03") || body.contains(&format!("late {n}.")), "{body}");
        assert!(seen.insert((n, body.contains("2026-11-03"))), "one note a thread: {body}");
    }
    assert_eq!(seen.len(), PEOPLE * 2);
    assert!((crm.violations(), crm.orphans()) == (vec![], vec![]), "{:?}", crm.violations());
    let before = crm.requests_to(E::Create(NOTES)) + crm.requests_to(E::Update(NOTES));
    let again = all_in_one.json(&["notes", "sync", "--since", "2026-11-01"]).await;
    assert_eq!((&again["notes"], &again["to_write"]), (&json!(0), &json!(0)), "{again}");
    assert_eq!(crm.requests_to(E::Create(NOTES)) + crm.requests_to(E::Update(NOTES)), before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_filled_is_said_with_what_to_do() {
    let mut all_in_one = AllInOne::with(|sandbox| sandbox.echoes = false, "").await;
    all_in_one.run().await.stop().await;
    let builtin = all_in_one.cli(&["notes", "sync", "--since", "2026-11-01"]).await;
    assert_eq!(builtin.code, Some(2));
    assert!(builtin.stderr.contains("kind is \"builtin\""), "{builtin:?}");
    let crm = hubspot(PEOPLE, (40, Duration::from_secs(1))).await;
    to_hubspot(&mut all_in_one, &crm, "another-token");
    for (date, code, words) in [
        ("yesterday", 2, "is not a date"),
        ("2026-02-30", 2, "is not a date"),
        ("2999-01-01", 2, "is in the future"),
        ("2026-11-01", 1, "refuses the credentials with 401"),
    ] {
        let ran = all_in_one.cli(&["notes", "sync", "--since", date]).await;
        assert_eq!(ran.code, Some(code), "{date} {ran:?}");
        assert!(ran.stderr.contains(words), "{date} {ran:?}");
    }
    let refused = all_in_one.cli(&["opt-outs", "sync"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    to_hubspot(&mut all_in_one, &crm, &HubSpotOptions::default().token);
    assert_eq!(all_in_one.cli(&["pause", "system_of_record", "--reason", "lunch"]).await.code, Some(0));
    for sync in [&["notes", "sync", "--since", "2026-11-01"][..], &["opt-outs", "sync"]] {
        let paused = all_in_one.cli(sync).await;
        assert_eq!(paused.code, Some(1), "{paused:?}");
        assert!(paused.stderr.contains("lunch"), "{paused:?}");
    }
    assert_eq!(all_in_one.cli(&["resume", "system_of_record"]).await.code, Some(0));
    let flagged = all_in_one.json(&["opt-outs", "sync"]).await;
    assert_eq!((&flagged["numbers"], &flagged["flagged"]), (&json!(0), &json!(0)), "{flagged}");
}

/// `cargo test --release -p hookline-e2e --all-features --test all_in_one -- --ignored --nocapture five_thousand`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: docs/measurements.md has its figures"]
async fn five_thousand_texts_come_into_hubspot_at_its_limit() {
    const PEOPLE: usize = 250;
    const TEXTS: usize = 20;
    let more = "[handlers.log_note]\nmessage_lookup = \"none\"\n";
    let mut all_in_one = AllInOne::with(|sandbox| sandbox.echoes = false, more).await;
    let running = all_in_one.run().await;
    let bodies = bodies(PEOPLE, TEXTS);
    futures::stream::iter(&bodies).map(|body| all_in_one.sender.send(body)).buffer_unordered(32).count().await;
    let deadline = std::time::Instant::now() + Duration::from_secs(900);
    loop {
        let status = all_in_one.json(&["status"]).await;
        let waits = status["handlers"].as_array().expect("a list").iter().any(|handler| handler["waiting"] != 0);
        if status["unrecorded"] == 0 && !waits {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{status}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(running.stop().await.code, Some(0));
    let crm = hubspot(PEOPLE, HubSpotOptions::default().rate_limit).await;
    to_hubspot(&mut all_in_one, &crm, &HubSpotOptions::default().token);
    let sync = ["notes", "sync", "--since", "2026-11-01", "--json"];
    let told = all_in_one.json(&["notes", "sync", "--since", "2026-11-01", "--dry-run"]).await;
    let began = std::time::Instant::now();
    let ended = Process::start(all_in_one.command(&sync)).ended(Duration::from_secs(1200)).await;
    let took = began.elapsed();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let refused = crm.requests().iter().filter(|request| request.status == Some(429)).count();
    println!(
        "told {told}\nwritten {}\nin {took:?}, {} requests, {refused} refused",
        ended.stdout,
        crm.requests().len()
    );
    assert_eq!(crm.communications().len(), PEOPLE * 2);
    assert!((crm.violations(), crm.orphans()) == (vec![], vec![]));
}
