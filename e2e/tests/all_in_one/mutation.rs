//! Ten thousand damaged payloads, each signed, against the built binary: no crash, no 5xx, nothing unaccounted for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use hookline_e2e::{ACCOUNT, AllInOne, DEADLINE};
use hookline_sandbox::samples::{EVENT_TYPES, SampleFacts, sample};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

const PAYLOADS: usize = 10_000;
const AT_ONCE: usize = 32;
/// Fixed, so that a failure comes again.
const SEED: u64 = 0x7465_7874_7573;

/// Waits until everything is recorded and settled. A machine that is busy may take long, and each part of it has the whole
/// deadline.
async fn settled(all_in_one: &AllInOne) {
    let (mut least, mut deadline) = (u64::MAX, Instant::now() + DEADLINE);
    loop {
        let status = all_in_one.json(&["status"]).await;
        let handlers = status["handlers"].as_array().expect("a list");
        let waiting: u64 = handlers.iter().map(|handler| handler["waiting"].as_u64().expect("a number")).sum();
        let left = waiting + status["unrecorded"].as_u64().expect("a number");
        if left == 0 {
            return;
        }
        if left < least {
            (least, deadline) = (left, Instant::now() + DEADLINE);
        }
        assert!(Instant::now() < deadline, "in vain: {left} of {PAYLOADS} wait: {status}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_damaged_payloads_are_all_accounted_for() {
    let more = "[handlers.log_note]\nnot_found_grace = \"0s\"\n";
    let all_in_one = AllInOne::with(|sandbox| sandbox.echoes = false, more).await;
    let running = all_in_one.run().await;
    let mut random = StdRng::seed_from_u64(SEED);
    let bodies: Vec<Vec<u8>> = (0..PAYLOADS).map(|number| damaged(&mut random, number)).collect();

    let clock = Instant::now();
    let answers: Vec<(u16, Option<String>)> = futures::stream::iter(&bodies)
        .map(|body| async {
            let answer = all_in_one.sender.post(body).await.expect("an answer");
            (answer.status, answer.body["event_id"].as_str().map(str::to_owned))
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let posted = clock.elapsed();

    let refused: Vec<_> = answers.iter().filter(|(status, _)| *status != 200).collect();
    assert!(refused.is_empty(), "signed and refused: {refused:?}");
    let accepted: BTreeSet<String> = answers.into_iter().filter_map(|(_, id)| id).collect();
    settled(&all_in_one).await;
    let accounts = all_in_one.settled().await;
    assert_eq!(accounts.events.keys().cloned().collect::<BTreeSet<_>>(), accepted, "by ids");
    assert!(accepted.len() > PAYLOADS / 2, "most are events of their own: {}", accepted.len());
    let (_, metrics) = running.admin("/metrics").await;
    for line in metrics.lines().filter(|line| line.starts_with("hookline_panics_total")) {
        assert!(line.ends_with(" 0"), "{line}");
    }
    for request in all_in_one.sandbox.requests() {
        assert!(request.endpoint.is_some(), "a payload steered a call: {request:?}");
    }
    let ended = running.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"));
    // Far above what it takes; a payload that blocked the edge would show.
    assert!(posted < Duration::from_secs(80), "{posted:?}");
}

/// A sample of some type, damaged in one to three ways.
fn damaged(random: &mut StdRng, number: usize) -> Vec<u8> {
    let event_type = EVENT_TYPES.choose(random).copied().unwrap_or_default();
    let facts = SampleFacts { embed_contact: random.random_bool(0.3), ..SampleFacts::random(ACCOUNT) };
    let mut body = sample(event_type, &facts);
    body["id"] = json!(format!("/integrations/Lp4Xv9/deliveries/{number}"));
    for _ in 0..random.random_range(1..=2) {
        if random.random_bool(0.7) {
            change_a_value(random, &mut body);
        }
    }
    let mut bytes = body.to_string().into_bytes();
    if random.random_bool(0.45) {
        damage_bytes(random, &mut bytes);
    }
    bytes
}

/// Puts something of another kind, far too long, too deep or sly where one of its values is.
fn change_a_value(random: &mut StdRng, body: &mut Value) {
    let mut pointers = Vec::new();
    collect_pointers(body, String::new(), &mut pointers);
    // The action stays more often than not, so that handlers meet the damage.
    let Some(pointer) = pointers.choose(random).filter(|pointer| *pointer != "/action" || random.random_bool(0.2))
    else {
        return;
    };
    let replacement = match random.random_range(0..14_u32) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(1e308),
        4 => json!(u64::MAX),
        5 => json!(""),
        6 => json!("x".repeat(random.random_range(200..60_000))),
        7 => json!("../../../etc/passwd?x=1#y"),
        8 => json!("/messages/a/b"),
        9 => json!("\u{0}\u{1f}\u{202e}\u{fffd}💥"),
        10 => json!([]),
        11 => json!({}),
        12 => nested(random.random_range(10..120)),
        _ => json!([{ "id": { "id": [null, 1, "x"] } }]),
    };
    if let Some(value) = body.pointer_mut(pointer) {
        *value = replacement;
    }
}

fn collect_pointers(value: &Value, at: String, pointers: &mut Vec<String>) {
    if let Some(fields) = value.as_object() {
        for (key, value) in fields {
            let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
            pointers.push(at.clone());
            collect_pointers(value, at, pointers);
        }
    }
    if let Some(members) = value.as_array() {
        for (index, value) in members.iter().enumerate() {
            collect_pointers(value, format!("{at}/{index}"), pointers);
        }
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({ "a": inner }) })
}

fn damage_bytes(random: &mut StdRng, bytes: &mut Vec<u8>) {
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..8_u32) {
        0 => bytes[at] ^= 1 << random.random_range(0..8_u32),
        1 => bytes.truncate(at),
        2 => bytes.insert(at, random.random()),
        3 => drop(bytes.drain(at..(at + random.random_range(1..40_usize)).min(bytes.len()))),
        // A second value for a key that is there.
        4 => drop(bytes.splice(1..1, br#""action":"contact.opted_out","id":7,"#.iter().copied())),
        5 => drop(bytes.splice(1..1, br#""optOut":null,"message":[],"contact":"/contacts/","#.iter().copied())),
        6 => drop(bytes.splice(at..at, "[".repeat(5_000).into_bytes())),
        _ => {
            let all: Vec<u8> = bytes.iter().flat_map(|byte| [*byte, 0]).collect();
            *bytes = all;
        }
    }
}
