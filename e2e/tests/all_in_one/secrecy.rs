//! Canaries: what is personal or secret is planted everywhere, and found nowhere that an operator did not ask for it.

use std::time::Duration;

use hookline_e2e::{ACCOUNT, AllInOne, SECOND_ACCOUNT, SECRET, TOKEN, eventually};
use hookline_sandbox::samples::{SampleFacts, sample, sign};
use hookline_sandbox::{Endpoint, Fault, FaultRule};
use serde_json::{Value, json};

const PHONE: &str = "+15550001234";
const NAME: &str = "Canarina Secretbird";
const EMAIL: &str = "secret-canary@example.com";
const TEXT: &str = "canary-text-of-the-body";

/// Every form in which a planted thing could come out.
const CANARIES: [&str; 15] = [
    "5550001234",
    "555-000-1234",
    "555.000.1234",
    "555 000 1234",
    "(555) 000-1234",
    "0001234",
    "000-1234",
    "Canarina",
    "Secretbird",
    "secret-canary",
    "canary-text",
    "canary-data",
    "canary-junk",
    SECRET,
    TOKEN,
];

#[track_caller]
fn holds_no_canary(place: &str, text: &str) {
    for canary in CANARIES {
        if let Some(at) = text.to_lowercase().find(&canary.to_lowercase()) {
            let from = text[..at].char_indices().rev().nth(200).map_or(0, |(index, _)| index);
            let end = text[at..].char_indices().nth(100).map_or(text.len(), |(index, _)| at + index);
            panic!("{place} holds {canary}: …{}…", &text[from..end]);
        }
    }
}

fn person() -> SampleFacts {
    SampleFacts {
        phone: PHONE.to_owned(),
        contact_name: format!("{NAME} {EMAIL}"),
        body: format!("{TEXT} {EMAIL} call {PHONE} or (555) 000-1234"),
        embed_contact: true,
        ..SampleFacts::random(ACCOUNT)
    }
}

/// What a destination says that repeats what it was told.
fn gossip(status: u16, known: &str) -> Fault {
    let words = json!({ "error": format!(
        "{known} <{EMAIL}> at {PHONE}, 5550001234, 1-555-000-1234, (555) 000-1234 with {TOKEN}: refused"
    )});
    Fault::Status { status, headers: Vec::new(), body: Some(words.to_string()) }
}

/// Makes every kind of event end in every kind of way.
async fn live_through_it_all(all_in_one: &AllInOne) -> Vec<String> {
    let mut ids = Vec::new();
    all_in_one.sandbox.fault(FaultRule::new(Fault::status(503)).on(Endpoint::PutOptOut).times(1));
    all_in_one.sandbox.fault(FaultRule::new(Fault::Reset).on(Endpoint::GetMessage).times(1));
    all_in_one.sandbox.fault(FaultRule::new(Fault::GarbageBody).on(Endpoint::FindConversation).times(1));
    all_in_one
        .sandbox
        .fault(FaultRule::new(Fault::Hang(Duration::from_secs(3))).on(Endpoint::FindContactPhones).times(1));
    all_in_one.sandbox.fault(
        FaultRule::new(Fault::Throttle { retry_after: "1".to_owned() }).on(Endpoint::GetMessage).skip(2).times(1),
    );
    for event_type in hookline_sandbox::samples::EVENT_TYPES {
        let mut body = sample(event_type, &person());
        if event_type == "contact.created" {
            body["contact"]["data"] = json!({ "note": "canary-data", "email": EMAIL });
        } else {
            all_in_one.sandbox.learn(&body).expect("a sample's shape");
        }
        ids.push(all_in_one.sender.send(&body).await);
    }
    ids
}

/// Dead letters of every kind that a destination's words or a payload could get into.
async fn be_refused(all_in_one: &AllInOne) -> Vec<String> {
    let mut ids = Vec::new();
    all_in_one.sandbox.fault(FaultRule::new(gossip(400, &format!("{NAME} said {TEXT}"))).on(Endpoint::GetMessage));
    all_in_one
        .sandbox
        .fault(FaultRule::new(gossip(422, &format!("{NAME} of canary-data"))).on(Endpoint::CreateContact));
    // The payload of an opt-out names nobody.
    all_in_one.sandbox.fault(FaultRule::new(gossip(400, "the number")).on(Endpoint::PutOptOut));
    let mut contact = sample("contact.created", &SampleFacts { phone: "+15550001235".to_owned(), ..person() });
    contact["contact"]["data"] = json!({ "note": "canary-data" });
    ids.push(all_in_one.sender.send(&contact).await);
    ids.push(all_in_one.sender.send(&sample("message.received", &person())).await);
    ids.push(all_in_one.sender.send(&sample("contact.opted_in", &person())).await);
    ids.push(
        all_in_one
            .sender
            .send(&sample("contact.opted_out", &SampleFacts { timestamp: jiff::Timestamp::now(), ..person() }))
            .await,
    );
    let mut sly = sample("message.received", &person());
    sly["message"]["id"] = json!(format!("/messages/{EMAIL}/../{TEXT}"));
    ids.push(all_in_one.sender.send(&sly).await);
    let mut no_phone = sample("contact.opted_out", &person());
    no_phone["optOut"]["phoneNumber"] = json!(format!("{NAME} {PHONE}"));
    ids.push(all_in_one.sender.send(&no_phone).await);
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_and_no_secret_comes_out_at_any_log_level() {
    let more = format!("[handlers.create_contact]\naccounts = [\"{ACCOUNT}\", \"{SECOND_ACCOUNT}\"]\n");
    let mut all_in_one = AllInOne::with(|_options| {}, &more).await;
    all_in_one.set("RUST_LOG", "trace");
    let running = all_in_one.run().await;

    let mut ids = live_through_it_all(&all_in_one).await;
    all_in_one.settled().await;
    ids.extend(be_refused(&all_in_one).await);
    ids.push(post_junk(&all_in_one).await);
    eventually("several dead letters", async || {
        (all_in_one.rows(&["dead-letters", "list"], "dead_letters").await.len() >= 3).then_some(())
    })
    .await;
    refusals_hold_nothing(&all_in_one, &running.webhooks).await;
    all_in_one.settled().await;

    let (_, metrics) = running.admin("/metrics").await;
    holds_no_canary("/metrics", &metrics);
    let (_, ready) = running.admin("/readyz").await;
    holds_no_canary("/readyz", &ready);
    for id in &ids {
        for form in [&["--json"][..], &[]] {
            let shown = all_in_one.cli(&[&["events", "show", id], form].concat()).await;
            holds_no_canary("events show", &(shown.stdout + &shown.stderr));
        }
    }
    for list in [&["events", "list"][..], &["dead-letters", "list"], &["status"]] {
        for form in [&["--json"][..], &[]] {
            let ran = all_in_one.cli(&[list, form].concat()).await;
            assert_eq!(ran.code, Some(0), "{list:?}");
            holds_no_canary(&format!("{list:?}"), &(ran.stdout + &ran.stderr));
        }
    }
    for dead in all_in_one.rows(&["dead-letters", "list"], "dead_letters").await {
        let shown = all_in_one.cli(&["dead-letters", "show", dead["id"].as_str().expect("a text")]).await;
        holds_no_canary("dead-letters show", &(shown.stdout + &shown.stderr));
    }
    let erased = all_in_one.cli(&["erase", PHONE, "--yes"]).await;
    holds_no_canary("erase", &(erased.stdout + &erased.stderr));
    let ended = running.stop().await;
    assert!(ended.stderr.lines().count() > 100, "the log is at trace: {} lines", ended.stderr.lines().count());
    for line in ended.stderr.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("one JSON object a line: {error}: {line}"));
    }
    holds_no_canary("stderr", &ended.stderr);
    holds_no_canary("stdout", &ended.stdout);
}

/// Signed, and no JSON.
async fn post_junk(all_in_one: &AllInOne) -> String {
    let junk = format!("canary-junk {NAME} {PHONE} {{");
    all_in_one.sender.post(junk.as_bytes()).await.expect("an answer").event_id()
}

/// Error bodies say what is wrong and repeat nothing.
async fn refusals_hold_nothing(all_in_one: &AllInOne, webhooks: &str) {
    let body = sample("contact.opted_out", &person()).to_string();
    let wrong = all_in_one
        .sender
        .post_signed(body.as_bytes(), &sign("another secret", body.as_bytes()))
        .await
        .expect("an answer");
    assert_eq!((wrong.status, wrong.body["error"]["code"].as_str()), (401, Some("signature_mismatch")));
    holds_no_canary("the answer to a wrong signature", &wrong.body.to_string());
    let too_large = format!("\"{}{PHONE}\"", "x".repeat(2 << 20));
    // A server that refuses by its length may close before all of it is sent.
    if let Ok(answer) = all_in_one.sender.post(too_large.as_bytes()).await {
        assert_eq!(answer.status, 413);
        holds_no_canary("the answer to a long body", &answer.body.to_string());
    }
    let client = hookline_sandbox::samples::client().expect("an answer");
    let missing = client.post(webhooks).body(body.clone()).send().await.expect("an answer");
    assert_eq!(missing.status().as_u16(), 401);
    holds_no_canary("the answer without a signature", &missing.text().await.expect("an answer"));
    let elsewhere = client.post(format!("{webhooks}_other")).body(body).send().await.expect("an answer");
    assert_eq!(elsewhere.status().as_u16(), 404);
    holds_no_canary("the answer of an unknown source", &elsewhere.text().await.expect("an answer"));
}
