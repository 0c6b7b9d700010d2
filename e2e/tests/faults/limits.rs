//! How far the limits of the destinations are used while work waits, and that none is overrun: TextUs with a CRM beside it,
//! HubSpot by its pace, Salesforce by its daily count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hookline_e2e::{ACCOUNT, Deployment, HANDLERS, People, Tally, send_all};
use hookline_sandbox::salesforce::{
    Salesforce, SalesforceEndpoint, SalesforceObject, SalesforceOptions, SalesforceRecord,
};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{
    AnyEndpoint, ApiRequest, EffectKind, HubSpot, HubSpotEndpoint, HubSpotObject, HubSpotOptions, Method,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::crm::{hubspot, use_crm};
use crate::{Fault, seed, shared_node};

/// TextUs's limit. The vendor's window is 5 minutes long, of which each has one call that finds it out.
const TEXTUS: (u32, Duration) = (160, Duration::from_secs(20));
const HUBSPOT: (u32, Duration) = (100, Duration::from_secs(10));
const SEARCHES: (u32, Duration) = (5, Duration::from_secs(1));
/// Salesforce's calls of a day, and those that are used at the start: fewer are left than the work needs.
const DAILY: u64 = 100_000;
const USED: u64 = 94_400;
/// Of so many calls, one is left to opt-outs and to the org's other apps.
const LEFT: u64 = 20;
/// Until a limit is known and its quiet time's calls are made, and before the work ends.
const EDGE_MS: i64 = 12_000;
const OPT_OUT_EVERY: Duration = Duration::from_secs(1);
const ALL_DONE_WITHIN: Duration = Duration::from_secs(900);

/// People with work of each kind.
struct Work {
    created: Vec<SampleFacts>,
    /// People whose texts come, and who are in the CRM already.
    known: Vec<SampleFacts>,
    /// People whose texts come, and of whom the CRM knows nothing.
    strangers: Vec<SampleFacts>,
    /// People who opt out and are in the CRM.
    opted_out: Vec<SampleFacts>,
}

impl Work {
    fn new() -> Self {
        let mut people = People::new(seed());
        let mut some = |count: usize| -> Vec<SampleFacts> {
            (0..count).map(|_| SampleFacts { embed_contact: true, ..people.next(ACCOUNT) }).collect()
        };
        Self { created: some(150), known: some(160), strangers: some(30), opted_out: some(60) }
    }

    /// Returns everything but the opt-outs, mixed.
    fn backlog(&self) -> Vec<Value> {
        let all = [
            ("contact.created", &self.created),
            ("message.received", &self.known),
            ("message.received", &self.strangers),
        ];
        let mut bodies: Vec<(usize, Value)> = Vec::new();
        for (event_type, people) in all {
            let places = (0..people.len()).map(|number| number * 10_000 / people.len());
            bodies.extend(places.zip(people.iter().map(|person| sample(event_type, person))));
        }
        bodies.sort_by_key(|(place, _)| *place);
        bodies.into_iter().map(|(_, body)| body).collect()
    }

    fn notes(&self) -> usize {
        self.known.len() + self.strangers.len()
    }

    fn people(&self) -> usize {
        self.notes() + self.created.len() + self.opted_out.len()
    }
}

/// A call to a destination: when it came, and whether it was refused for its limit.
#[derive(Clone, Copy)]
struct Call {
    at_ms: i64,
    is_refused: bool,
}

fn share(calls: &[Call], (limit, window): (u32, Duration), (from_ms, to_ms): (i64, i64)) -> f64 {
    let within = calls.iter().filter(|call| !call.is_refused && (from_ms..to_ms).contains(&call.at_ms)).count();
    within as f64 * window.as_millis() as f64 / (f64::from(limit) * (to_ms - from_ms).max(1) as f64)
}

/// Returns when the first and the last window that lies between these times begin. A window begins with its first call.
fn windows(calls: &[Call], window: Duration, (from_ms, to_ms): (i64, i64)) -> (i64, i64) {
    let length_ms = i64::try_from(window.as_millis()).expect("a short window");
    let mut times: Vec<i64> = calls.iter().map(|call| call.at_ms).collect();
    times.sort_unstable();
    let mut begin: Vec<i64> = Vec::new();
    for at_ms in times {
        if begin.last().is_none_or(|last| at_ms >= last + length_ms) {
            begin.push(at_ms);
        }
    }
    begin.retain(|at_ms| (from_ms..to_ms).contains(at_ms));
    (*begin.first().expect("a window"), *begin.last().expect("a window"))
}

/// Returns the most calls of any interval of this length.
fn most_within(calls: &[Call], window: Duration) -> usize {
    let mut times: Vec<i64> = calls.iter().filter(|call| !call.is_refused).map(|call| call.at_ms).collect();
    times.sort_unstable();
    let ends = times.iter().enumerate();
    let in_window = |(number, at): (usize, &i64)| {
        number + 1
            - times.partition_point(|before| at - before >= i64::try_from(window.as_millis()).unwrap_or(i64::MAX))
    };
    ends.map(in_window).max().unwrap_or_default()
}

/// Asserts that at most one call in a thousand was refused, and returns the words for that.
fn refused(whose: &str, calls: &[Call]) -> String {
    let refused = calls.iter().filter(|call| call.is_refused).count();
    let words = format!("{refused} of {} calls refused", calls.len());
    assert!(refused * 1_000 <= calls.len(), "{whose}: {words}");
    words
}

fn median(mut times: Vec<i64>) -> i64 {
    times.sort_unstable();
    *times.get(times.len() / 2).expect("some calls")
}

/// Asserts that opt-outs waited less than the rest, by the median, and prints both.
fn opt_outs_come_first(whose: &str, opt_outs: Vec<i64>, rest: Vec<i64>) {
    let (opt_outs, rest) = (median(opt_outs), median(rest));
    println!("{whose}: median wait of opt-outs {opt_outs} ms, of the rest {rest} ms");
    assert!(opt_outs < rest, "{whose}: opt-outs come first");
}

fn textus_calls(deployment: &Deployment<'_>) -> Vec<Call> {
    let requests = deployment.sandbox.requests();
    let call = |request: &hookline_sandbox::RecordedRequest| Call {
        at_ms: request.at.as_millisecond(),
        is_refused: request.status == Some(429),
    };
    requests.iter().map(call).collect()
}

fn crm_calls(requests: &[ApiRequest], is_meant: impl Fn(&ApiRequest) -> bool) -> Vec<Call> {
    let call = |request: &ApiRequest| Call {
        at_ms: request.at.as_millisecond(),
        is_refused: matches!(request.status, Some(429 | 403)),
    };
    requests.iter().filter(|request| is_meant(request)).map(call).collect()
}

/// Posts the backlog, and opt-outs one after the other while it is worked off. Returns when the backlog was there, and when
/// each opt-out was posted.
async fn post(deployment: &Deployment<'_>, work: &Work) -> (i64, BTreeMap<String, i64>) {
    send_all(&deployment.sender, &work.backlog()).await;
    let posted_ms = Timestamp::now().as_millisecond();
    let mut opted_out = BTreeMap::new();
    for person in &work.opted_out {
        opted_out.insert(person.phone.clone(), Timestamp::now().as_millisecond());
        deployment.sender.send(&sample("contact.opted_out", person)).await;
        tokio::time::sleep(OPT_OUT_EVERY).await;
    }
    (posted_ms, opted_out)
}

/// Waits until nothing waits at these handlers, and asserts that nothing failed for good.
async fn done(deployment: &Deployment<'_>, handlers: &[&str]) {
    let deadline = Instant::now() + ALL_DONE_WITHIN;
    loop {
        let status = deployment.json(&["status"]).await;
        let told = status["handlers"].as_array().expect("a list");
        assert!(told.iter().all(|handler| handler["dead_lettered"] == 0), "{status}");
        let is_done =
            |handler: &&Value| handlers.iter().all(|name| handler["handler"] != *name) || handler["waiting"] == 0;
        if status["unrecorded"] == 0 && told.iter().all(|handler| is_done(&handler)) {
            return;
        }
        assert!(Instant::now() < deadline, "{status}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Asserts what TextUs has to have, prints how its limit was used, and that opt-outs came first.
fn textus_holds(deployment: &Deployment<'_>, work: &Work, (posted_ms, opted_out): &(i64, BTreeMap<String, i64>)) {
    let effects = deployment.sandbox.effects();
    let mut once: BTreeMap<(bool, &str, &str), usize> = BTreeMap::new();
    let kinds = [EffectKind::OptOutPut, EffectKind::ContactCreated];
    let [puts, created] = kinds.map(|kind| effects.iter().filter(|effect| effect.kind == kind).collect::<Vec<_>>());
    for effect in puts.iter().chain(&created) {
        let is_opt_out = effect.kind == EffectKind::OptOutPut;
        *once.entry((is_opt_out, &effect.account, &effect.key)).or_default() += 1;
    }
    assert!(once.values().all(|times| *times == 1), "each effect is made once");
    for person in &work.opted_out {
        assert!(puts.iter().any(|effect| effect.key == person.phone), "{} is opted out", person.phone);
    }
    for person in &work.created {
        assert!(created.iter().any(|effect| effect.key == person.phone), "{} is created", person.phone);
    }

    let calls = textus_calls(deployment);
    let last = created.iter().map(|effect| effect.at.as_millisecond()).max().expect("some");
    let used = share(&calls, TEXTUS, windows(&calls, TEXTUS.1, (*posted_ms, last))) * 100.0;
    println!("TextUs: {used:.1} % of {TEXTUS:?} used, {}", refused("TextUs", &calls));
    let waits = puts.iter().map(|effect| effect.at.as_millisecond() - opted_out[&effect.key]).collect();
    opt_outs_come_first("TextUs", waits, created.iter().map(|effect| effect.at.as_millisecond() - posted_ms).collect());
}

/// Returns how long each opt-out waited for its flag; `records` are the ids by number.
fn flag_waits(
    requests: &[ApiRequest],
    records: &BTreeMap<String, String>,
    opted_out: &BTreeMap<String, i64>,
) -> Vec<i64> {
    let wait = |(phone, id): (&String, &String)| {
        let is_flag = |request: &&ApiRequest| {
            request.method == Method::PATCH
                && request.path.ends_with(id.as_str())
                && request.status.is_some_and(|s| s < 300)
        };
        let flags: Vec<&ApiRequest> = requests.iter().filter(is_flag).collect();
        let [flag] = flags.as_slice() else { panic!("{phone} is flagged once: {flags:?}") };
        flag.at.as_millisecond() - opted_out[phone]
    };
    records.iter().map(wait).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn limits_of_textus_and_hubspot_are_used_and_not_overrun() {
    let fault = Fault::new("LIM-1", "TextUs and HubSpot at their limits for a minute, opt-outs among it");
    let options = HubSpotOptions {
        rate_limit: HUBSPOT,
        search_limit: SEARCHES,
        unique_properties_on_engagements: true,
        ..HubSpotOptions::default()
    };
    let crm: HubSpot = hubspot(options).await;
    let work = Work::new();
    let add = |person: &SampleFacts| {
        crm.add_contact(&[("lastname", "Doe"), ("phone", &person.phone), ("textus_contact_id", &person.contact_id)])
    };
    work.known.iter().for_each(|person| drop(add(person)));
    let records: BTreeMap<String, String> =
        work.opted_out.iter().map(|person| (person.phone.clone(), add(person))).collect();
    let mut deployment = Deployment::with(shared_node().await, |sandbox| {
        (sandbox.rate_limit, sandbox.echoes) = (Some(TEXTUS), false);
    })
    .await;
    use_crm(&mut deployment, &crm);
    // As shipped: a shorter one lets calls wait less long for their turn.
    deployment.set("HOOKLINE__SYSTEM_OF_RECORD__HUBSPOT__TIMEOUT", "10s");
    deployment.start(1, 3, "").await;

    let posted = post(&deployment, &work).await;
    done(&deployment, &HANDLERS).await;

    textus_holds(&deployment, &work, &posted);
    assert_eq!((crm.communications().len(), crm.contacts().len()), (work.notes(), work.people()));
    assert_eq!((crm.violations(), crm.orphans()), (Vec::new(), Vec::new()));
    let requests = crm.requests();
    let calls = crm_calls(&requests, |_| true);
    let is = |wanted: HubSpotEndpoint| move |request: &ApiRequest| request.endpoint == Some(AnyEndpoint::from(wanted));
    let searches = crm_calls(&requests, is(HubSpotEndpoint::Search(HubSpotObject::Contact)));
    let notes = crm_calls(&requests, is(HubSpotEndpoint::BatchUpsert(HubSpotObject::Communication)));
    let last_ms = notes.iter().map(|call| call.at_ms).max().expect("some notes");
    let busy = (posted.0 + EDGE_MS, last_ms - EDGE_MS);
    println!(
        "HubSpot: {:.1} % of {HUBSPOT:?} used, at most {} in one window, {}",
        share(&calls, HUBSPOT, busy) * 100.0,
        most_within(&calls, HUBSPOT.1),
        refused("HubSpot", &calls)
    );
    println!("HubSpot: {:.1} % of {SEARCHES:?} used", share(&searches, SEARCHES, busy) * 100.0);
    let flags = flag_waits(&requests, &records, &posted.1);
    opt_outs_come_first("HubSpot", flags, notes.iter().map(|call| call.at_ms - posted.0).collect());
    let tally = crate::crm::all_is_written(&deployment).await;
    fault.survived(tally, None);
}

async fn salesforce() -> Salesforce {
    let options = SalesforceOptions { daily_limit: DAILY, ..SalesforceOptions::default() };
    let crm = Salesforce::start(options).await.expect("a loopback port");
    crm.add_hookline_fields("TextUs_Thread_Key__c", "TextUs_Contact_Id__c", "SMS_Opted_Out__c");
    crm
}

fn use_salesforce(deployment: &mut Deployment<'_>, crm: &Salesforce) {
    let options = SalesforceOptions::default();
    for (name, value) in [
        ("SYSTEM_OF_RECORD__KIND", "salesforce"),
        ("SYSTEM_OF_RECORD__UPDATE_EVERY", "1s"),
        ("SYSTEM_OF_RECORD__SALESFORCE__BASE_URL", &crm.base_url()),
        ("SYSTEM_OF_RECORD__SALESFORCE__CLIENT_ID", &options.client_id),
        ("SYSTEM_OF_RECORD__SALESFORCE__CLIENT_SECRET", &options.client_secret),
        ("HANDLERS__LOG_NOTE__ON_UNKNOWN_CONTACT", "create"),
        ("HANDLERS__LOG_NOTE__MESSAGE_LOOKUP", "none"),
    ] {
        deployment.set(&format!("HOOKLINE__{name}"), value);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn limits_of_textus_and_salesforce_are_used_and_not_overrun() {
    let fault = Fault::new("LIM-2", "TextUs at its limit, and Salesforce's day used up but for opt-outs");
    let crm = salesforce().await;
    crm.set_daily_usage(USED);
    let work = Work::new();
    let add = |person: &SampleFacts| {
        crm.add_contact(json!({
            "LastName": "Doe", "MobilePhone": person.phone, "TextUs_Contact_Id__c": person.contact_id,
        }))
    };
    work.known.iter().for_each(|person| drop(add(person)));
    let records: BTreeMap<String, String> =
        work.opted_out.iter().map(|person| (person.phone.clone(), add(person))).collect();
    let mut deployment = Deployment::with(shared_node().await, |sandbox| {
        (sandbox.rate_limit, sandbox.echoes) = (Some(TEXTUS), false);
    })
    .await;
    use_salesforce(&mut deployment, &crm);
    deployment.start(1, 3, "").await;

    let posted = post(&deployment, &work).await;
    done(&deployment, &["record_opt_out", "flag_opt_out", "create_contact"]).await;

    textus_holds(&deployment, &work, &posted);
    let requests = crm.requests();
    let used = crm.daily_usage();
    println!(
        "Salesforce: {used} of {DAILY} calls of the day used, {}",
        refused("Salesforce", &crm_calls(&requests, |_| true))
    );
    let is_note = |request: &ApiRequest| {
        request.endpoint == Some(AnyEndpoint::from(SalesforceEndpoint::Upsert(SalesforceObject::Task)))
    };
    let notes = crm_calls(&requests, is_note);
    // The day's last calls are left to opt-outs, although much else waits until the next day.
    assert!(used >= DAILY - DAILY / LEFT && crm.tasks().len() < work.notes(), "work waits: {used}");
    let last_note_ms = notes.iter().map(|call| call.at_ms).max().expect("some notes");
    let flags = flag_waits(&requests, &records, &posted.1);
    println!(
        "Salesforce: median wait of opt-outs {} ms, {} notes wait",
        median(flags),
        work.notes() - crm.tasks().len()
    );
    assert!(posted.1.values().max().is_some_and(|last_ms| *last_ms > last_note_ms), "opt-outs go on when notes wait");
    assert_eq!((crm.violations(), crm.orphans()), (Vec::new(), Vec::new()));
    let tasks = crm.tasks();
    let people: BTreeSet<&str> = tasks.iter().map(SalesforceRecord::who).collect();
    assert_eq!(people.len(), tasks.len(), "each person's note is there once");
    fault.survived(Tally { accepted: deployment.sender.accepted().len(), ..Tally::default() }, None);
}
