//! A CRM as the system of record, while workers are killed and the CRM itself fails: every conversation is one note on the
//! right person's record, and what goes to TextUs does not wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hookline_e2e::{ACCOUNT, Deployment, Half, People, Tally, send_all};
use hookline_sandbox::hubspot::{HubSpotRecord, throttled};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{
    Fault as ApiFault, FaultRule, HubSpot, HubSpotEndpoint as Call, HubSpotObject as Object, HubSpotOptions,
};
use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};

use crate::{Fault, accepted, full, seed, shared_node};

/// The token of the CRM.
const TOKEN: &str = "synthetic-token-of-the-crm";
const BUSINESS: &str = "+14155550001";
/// A CRM allows few searches a second, and a lost answer is settled half a minute later.
const ALL_WRITTEN_WITHIN: Duration = Duration::from_secs(900);

/// Texts of some people over three days.
struct Conversations {
    people: Vec<SampleFacts>,
    bodies: Vec<Value>,
    /// What each note says, by number and day.
    notes: BTreeMap<(String, String), String>,
}

impl Conversations {
    /// Draws the texts, one in ten of them twice, in random order.
    fn new(seed: u64, people: usize, texts: usize) -> Self {
        let (mut names, mut rng) = (People::new(seed), StdRng::seed_from_u64(seed));
        let people: Vec<SampleFacts> = (0..people)
            .map(|_| SampleFacts { account_phone: BUSINESS.to_owned(), embed_contact: true, ..names.next(ACCOUNT) })
            .collect();
        let start: Timestamp = "2026-11-02T00:00:00Z".parse().expect("a time");
        let (mut bodies, mut threads): (Vec<Value>, BTreeMap<_, BTreeSet<_>>) = (Vec::new(), BTreeMap::new());
        for number in 0..texts {
            let person = &people[number % people.len()];
            // A second of its own for each text, within three days.
            let second = i64::try_from(number * 3 * 86_399 / texts).expect("a small number");
            let at = start + SignedDuration::from_secs(second);
            let words = format!("text {number} <of> three & days");
            let facts = SampleFacts { timestamp: at, body: words.clone(), ..person.clone() };
            let mut body = sample("message.received", &facts);
            body["message"]["id"] = json!(format!("/messages/crm{seed}x{number}"));
            let (day, time) = (at.strftime("%Y-%m-%d").to_string(), at.strftime("%H:%M").to_string());
            let line = format!("{time} Received: text {number} &lt;of&gt; three &amp; days");
            threads.entry((person.phone.clone(), day)).or_default().insert((at, line));
            if number % 10 == 0 {
                bodies.push(body.clone());
            }
            bodies.push(body);
        }
        bodies.shuffle(&mut rng);
        let note = |((phone, day), lines): ((String, String), BTreeSet<(Timestamp, String)>)| {
            let lines: Vec<String> = lines.into_iter().map(|(_, line)| format!("<br>{line}")).collect();
            let head = format!("<strong>Texts with {phone} through {BUSINESS}, {day}</strong>");
            ((phone, day), format!("{head}{}", lines.concat()))
        };
        Self { people, bodies, notes: threads.into_iter().map(note).collect() }
    }
}

pub(crate) async fn hubspot(options: HubSpotOptions) -> HubSpot {
    let by_key = options.unique_properties_on_engagements;
    let options = HubSpotOptions { token: TOKEN.to_owned(), ..options };
    let crm = HubSpot::start(options).await.expect("a loopback port");
    crm.add_hookline_properties("textus_contact_id", "sms_opted_out");
    if by_key {
        crm.add_property(Object::Communication, "textus_thread_key", true);
    }
    crm
}

pub(crate) fn use_crm(deployment: &mut Deployment<'_>, crm: &HubSpot) {
    for (name, value) in [
        ("SYSTEM_OF_RECORD__KIND", "hubspot"),
        ("SYSTEM_OF_RECORD__UPDATE_EVERY", "1s"),
        ("SYSTEM_OF_RECORD__HUBSPOT__BASE_URL", &crm.base_url()),
        ("SYSTEM_OF_RECORD__HUBSPOT__TOKEN", TOKEN),
        ("SYSTEM_OF_RECORD__HUBSPOT__TIMEOUT", "2s"),
        ("HANDLERS__LOG_NOTE__ON_UNKNOWN_CONTACT", "create"),
        ("HANDLERS__LOG_NOTE__MESSAGE_LOOKUP", "none"),
    ] {
        deployment.set(&format!("HOOKLINE__{name}"), value);
    }
}

/// Returns the waiting deliveries of a handler, as `status` tells them.
async fn waiting(deployment: &Deployment<'_>, handler: &str) -> u64 {
    let status = deployment.json(&["status"]).await;
    let told = status["handlers"].as_array().into_iter().flatten().find(|told| told["handler"] == handler);
    told.and_then(|told| told["waiting"].as_u64()).expect("a count")
}

/// Waits until every note is written and nothing waits any more.
pub(crate) async fn all_is_written(deployment: &Deployment<'_>) -> Tally {
    let deadline = Instant::now() + ALL_WRITTEN_WITHIN;
    while waiting(deployment, "log_note").await + waiting(deployment, "flag_opt_out").await > 0 {
        assert!(Instant::now() < deadline, "notes are not written");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let accounts = deployment.settled().await;
    let ended =
        |state| ["log_note", "flag_opt_out", "record_opt_out"].map(|name| accounts.of(name, state).len()).iter().sum();
    Tally {
        events: accounts.events.len(),
        accepted: deployment.sender.accepted().len(),
        done: ended("done"),
        skipped: ended("skipped"),
        dead_lettered: ended("dead_lettered"),
        repeats_suppressed: 0,
    }
}

/// Asserts that the CRM has each note once, with its text, on the record that `right` names for its number.
fn notes_hold(crm: &HubSpot, expected: &BTreeMap<(String, String), String>, right: impl Fn(&str) -> String) {
    let notes = crm.communications();
    for ((phone, day), text) in expected {
        let head = format!("{text}<br><br>ref thread_");
        let found: Vec<&HubSpotRecord> =
            notes.iter().filter(|note| note.get("hs_communication_body").starts_with(&head)).collect();
        assert_eq!(found.len(), 1, "notes of {phone} on {day} that are as they have to be");
        assert_eq!(found[0].contacts, [right(phone)], "whose the note of {phone} on {day} is");
    }
    let is_expected = |note: &&HubSpotRecord| {
        let body = note.get("hs_communication_body");
        expected.values().any(|text| body.starts_with(&format!("{text}<br><br>ref thread_")))
    };
    let others: Vec<&HubSpotRecord> = notes.iter().filter(|note| !is_expected(note)).collect();
    assert!(others.is_empty(), "and no other note: {others:?}");
    assert_eq!(notes.len(), expected.len());
    assert_eq!((crm.violations(), crm.orphans()), (Vec::new(), Vec::new()));
}

/// A number as a person types it into a CRM.
fn typed(phone: &str) -> String {
    format!("({}) {}-{}", &phone[2..5], &phone[5..8], &phone[8..])
}

async fn conversations_reach_hubspot_once(number: &'static str, what: &'static str, by_key: bool) {
    let fault = Fault::new(number, what);
    let crm = hubspot(HubSpotOptions {
        index_lag: Duration::from_secs(3),
        unique_properties_on_engagements: by_key,
        ..HubSpotOptions::default()
    })
    .await;
    let mut deployment = Deployment::on(shared_node().await).await;
    use_crm(&mut deployment, &crm);
    deployment.start(1, 2, "").await;
    let texts = Conversations::new(seed(), full(12, 120), full(100, 1_000));
    // Every third person is there already, and some of these are merged into another record meanwhile.
    let known: BTreeMap<String, String> = texts
        .people
        .iter()
        .step_by(3)
        .map(|person| {
            (person.phone.clone(), crm.add_contact(&[("lastname", "Known"), ("phone", &typed(&person.phone))]))
        })
        .collect();
    let write = if by_key { Call::BatchUpsert(Object::Communication) } else { Call::Create(Object::Communication) };
    // Some calls fail here and there, so that none of the breakers holds everything up: that is the next test's matter. A
    // 429 of the ten seconds holds every call for as long.
    for (number, (api_fault, call, share)) in [
        (ApiFault::EffectThenReset, write, 0.1),
        (ApiFault::EffectThenReset, Call::Update(Object::Communication), 0.1),
        (ApiFault::EffectThenReset, Call::BatchUpsert(Object::Contact), 0.1),
        (throttled("TEN_SECONDLY_ROLLING"), write, 0.02),
        (throttled("SECONDLY"), Call::Search(Object::Contact), 0.1),
        (ApiFault::status(502), Call::BatchRead(Object::Contact), 0.1),
    ]
    .into_iter()
    .enumerate()
    {
        crm.fault(FaultRule::new(api_fault).on(call).share(share, seed() + number as u64));
    }
    let kills = full(3, 8);
    let mut merged: BTreeMap<String, String> = BTreeMap::new();
    for (kill, part) in texts.bodies.chunks(texts.bodies.len().div_ceil(kills)).enumerate() {
        let sender = deployment.sender.clone();
        let enough = sender.accepted().len() + part.len() / 3;
        let killed = async {
            accepted(&deployment, enough).await;
            deployment.kill(Half::Worker, kill % 2).await;
            deployment.put(Half::Worker, kill % 2, &[]).await;
        };
        tokio::join!(send_all(&sender, part), killed);
        if let Some((phone, id)) = known.iter().nth(kill).filter(|_| kill % 2 == 1) {
            let primary = crm.add_contact(&[("lastname", "Primary")]);
            crm.merge(&primary, id);
            merged.insert(phone.clone(), primary);
        }
    }
    let tally = all_is_written(&deployment).await;

    let contacts = crm.contacts();
    notes_hold(&crm, &texts.notes, |phone| {
        if let Some(id) = merged.get(phone).or_else(|| known.get(phone)) {
            return id.clone();
        }
        let theirs: Vec<&HubSpotRecord> = contacts.iter().filter(|contact| contact.get("phone") == phone).collect();
        assert_eq!(theirs.len(), 1, "{phone} is one person");
        theirs[0].id.clone()
    });
    assert_eq!(contacts.len(), texts.people.len());
    assert_eq!(tally.dead_lettered, 0);
    deployment.nothing_personal_is_written().await;
    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn crm_conversations_reach_hubspot_once_by_key_while_workers_are_killed() {
    let what = "notes by key in HubSpot: workers killed -9, answers lost, 429s, an index 3 s late, people merged";
    conversations_reach_hubspot_once("CRM-1", what, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn crm_conversations_reach_hubspot_once_without_a_key_while_workers_are_killed() {
    let what =
        "notes without a key in HubSpot: workers killed -9, answers lost, 429s, an index 3 s late, people merged";
    conversations_reach_hubspot_once("CRM-2", what, false).await;
}

/// Sends opt-outs and contacts one after the other, and returns the median time until each call was made, in milliseconds.
async fn median_latency(deployment: &Deployment<'_>, people: &mut People, count: usize) -> (i64, i64) {
    let mut took: [Vec<i64>; 2] = [Vec::new(), Vec::new()];
    for number in 0..count * 2 {
        let (person, kind) = (people.next(ACCOUNT), number % 2);
        let event_type = ["contact.opted_out", "contact.created"][kind];
        let sent = Timestamp::now();
        deployment.sender.send(&sample(event_type, &person)).await;
        let effect = hookline_e2e::eventually("the call is made", async || {
            deployment.sandbox.effects().into_iter().find(|effect| effect.key == person.phone)
        })
        .await;
        took[kind].push(effect.at.as_millisecond() - sent.as_millisecond());
    }
    let median = |times: &mut Vec<i64>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let [mut opt_outs, mut contacts] = took;
    (median(&mut opt_outs), median(&mut contacts))
}

#[tokio::test(flavor = "multi_thread")]
async fn crm_that_is_down_holds_up_no_opt_out_and_no_contact_and_gets_every_note_once() {
    let fault =
        Fault::new("CRM-3", "HubSpot answers nothing (quick 15 s, full 10 min): opt-outs and contacts keep their pace");
    let crm = hubspot(HubSpotOptions { unique_properties_on_engagements: true, ..HubSpotOptions::default() }).await;
    let mut deployment = Deployment::on(shared_node().await).await;
    use_crm(&mut deployment, &crm);
    deployment.start(1, 2, "").await;
    let texts = Conversations::new(seed(), full(10, 60), full(40, 400));
    let mut people = People::new(seed() + 1);
    let before = median_latency(&deployment, &mut people, full(5, 30)).await;

    let down = crm.fault(FaultRule::new(ApiFault::Reset));
    let until = Instant::now() + Duration::from_secs(full(15, 600) as u64);
    send_all(&deployment.sender, &texts.bodies).await;
    let during = median_latency(&deployment, &mut people, full(5, 30)).await;
    tokio::time::sleep_until(until.into()).await;
    assert!(crm.communications().is_empty());
    crm.remove_fault(down);
    let up = Instant::now();
    let tally = all_is_written(&deployment).await;

    println!("CRM-3: median ms of opt-outs and contacts before {before:?}, while the CRM is down {during:?}");
    let contacts = crm.contacts();
    notes_hold(&crm, &texts.notes, |phone| {
        contacts.iter().find(|contact| contact.get("phone") == phone).expect("a person").id.clone()
    });
    assert_eq!(tally.dead_lettered, 0);
    // No test depends on the machine's speed: a call that waited for the CRM would take as long as its pauses, seconds.
    assert!(during.0 < 5_000 && during.1 < 5_000, "{during:?}");
    fault.survived(tally, Some(up.elapsed()));
}
