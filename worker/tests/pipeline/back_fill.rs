//! Back-fills: what the history knows comes into another system of record once, beside live texts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::names::DeadReason;
use hookline_common::secret::Secret;
use hookline_common::settings::{MessageLookup, OnUnknownContact, Settings, SystemOfRecordKind};
use hookline_common::time::Timestamp;
use hookline_sandbox::hubspot::{HubSpotEndpoint as E, HubSpotObject as Object, HubSpotRecord, throttled};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{Fault, FaultRule, HubSpot, HubSpotOptions};
use hookline_worker::back_fill::Progress;
use hookline_worker::back_fill::notes::{NotesSync, NotesWritten};
use hookline_worker::back_fill::opt_outs::OptOutsSync;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::helpers::{TestPipeline, now, someone};

const NOTES: Object = Object::Communication;
const SINCE: &str = "2026-11-01";

/// Starts a stand-in with every property of contacts.
pub(crate) async fn hubspot(options: HubSpotOptions) -> HubSpot {
    let crm = HubSpot::start(options).await.expect("the stand-in starts");
    crm.add_hookline_properties("textus_contact_id", "sms_opted_out");
    crm
}

pub(crate) fn to_hubspot(crm: &HubSpot, settings: &mut Settings) {
    let system = &mut settings.system_of_record;
    system.kind = SystemOfRecordKind::HubSpot;
    system.hubspot.base_url = crm.base_url().parse().expect("a URL");
    system.hubspot.token = Some(Secret::new(HubSpotOptions::default().token));
    system.update_every = Duration::from_millis(200);
    settings.handlers.log_note.message_lookup = MessageLookup::None;
    settings.handlers.log_note.on_unknown_contact = Some(OnUnknownContact::Create);
}

/// Starts a pipeline with the built-in system of record, and returns its settings too.
async fn builtin() -> (TestPipeline, Settings) {
    let mut settings = None;
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.handlers.log_note.message_lookup = MessageLookup::None;
        settings = Some(setup.settings.clone());
    })
    .await;
    let mut settings = settings.expect("set");
    settings.textus.base_url = pipeline.sandbox.base_url().parse().expect("a URL");
    (pipeline, settings)
}

fn for_hubspot(settings: &Settings, crm: &HubSpot) -> Settings {
    let mut settings = settings.clone();
    to_hubspot(crm, &mut settings);
    settings
}

/// The texts of some people on two days.
fn texts(people: usize, texts: usize) -> Vec<Value> {
    let mut bodies = Vec::new();
    for n in 0..people {
        let person = SampleFacts {
            phone: format!("+1415555{:04}", 100 + n),
            contact_id: format!("person{n}"),
            embed_contact: n % 2 == 0,
            ..someone()
        };
        for text in 0..texts {
            let seconds = i64::try_from(text * 100_000 / texts).expect("small");
            let at = "2026-11-02T10:00:00Z".parse::<jiff::Timestamp>().expect("a time");
            let timestamp = at + jiff::SignedDuration::from_secs(seconds);
            let facts = SampleFacts { timestamp, body: format!("text {text} <of> {n}"), ..person.clone() };
            let event_type = if text % 3 == 2 { "message.delivered" } else { "message.received" };
            let mut body = sample(event_type, &facts);
            body["message"]["id"] = json!(format!("/messages/m{n}x{text}"));
            bodies.push(body);
        }
    }
    bodies
}

async fn run(settings: &Settings, pipeline: &TestPipeline) -> NotesWritten {
    let sync = NotesSync::new(settings, pipeline.store.clone(), SINCE).await.expect("a back-fill");
    sync.begin().await.expect("calls can be made");
    let plan = sync.plan(false).await.expect("a plan");
    sync.run(plan, &CancellationToken::new(), |_| {}).await
}

/// Returns the bodies of all notes by the key that is their last line.
fn by_key(crm: &HubSpot) -> BTreeMap<String, HubSpotRecord> {
    let notes = crm.communications();
    let key = |note: &HubSpotRecord| note.get("hs_communication_body").rsplit("ref ").next().expect("a key").to_owned();
    let by_key: BTreeMap<_, _> = notes.iter().map(|note| (key(note), note.clone())).collect();
    assert_eq!(by_key.len(), notes.len(), "one note a thread");
    assert!((crm.violations(), crm.orphans()) == (vec![], vec![]), "{:?}", crm.violations());
    by_key
}

fn writes(crm: &HubSpot) -> usize {
    crm.requests_to(E::Create(NOTES)) + crm.requests_to(E::Update(NOTES)) + crm.requests_to(E::BatchUpsert(NOTES))
}

#[tokio::test]
async fn another_system_gets_every_thread_once_and_a_trial_tells_how_many_before() {
    let (pipeline, settings) = builtin().await;
    for body in texts(12, 6) {
        pipeline.send(&body).await;
    }
    pipeline.quiet().await;
    let mut seen: Vec<BTreeMap<String, String>> = Vec::new();
    for with_key in [true, false] {
        let crm = hubspot(HubSpotOptions::default()).await;
        if with_key {
            crm.add_property(NOTES, "textus_thread_key", true);
        }
        let known =
            crm.add_contact(&[("lastname", "Doe"), ("phone", "+14155550100"), ("textus_contact_id", "person0")]);
        let settings = for_hubspot(&settings, &crm);
        let sync = NotesSync::new(&settings, pipeline.store.clone(), SINCE).await.expect("a back-fill");
        let trial = sync.plan(true).await.expect("a plan");
        drop(sync);
        assert!(crm.requests().is_empty(), "a trial makes no call");

        let written = run(&settings, &pipeline).await;

        assert_eq!((trial.new, trial.changed, trial.to_write()), (24, 0, 24));
        assert_eq!((written.notes, written.threads, written.left.len()), (24, 24, 0), "{:?}", written.stopped);
        assert!((trial.calls / 2..=trial.calls * 2).contains(&written.calls), "{} {}", trial.calls, written.calls);
        let notes = by_key(&crm);
        assert_eq!(notes.len(), 24);
        for note in notes.values() {
            let [contact] = note.contacts.as_slice() else { panic!("on one contact") };
            let contact = crm.contacts().into_iter().find(|record| record.id == *contact).expect("a contact");
            assert!(note.get("hs_communication_body").contains(contact.get("phone")));
        }
        assert_eq!(notes.values().filter(|note| note.contacts == [known.clone()]).count(), 2);
        seen.push(notes.into_iter().map(|(key, note)| (key, note.get("hs_communication_body").to_owned())).collect());

        let before = writes(&crm);
        let again = run(&settings, &pipeline).await;
        assert_eq!((again.notes, writes(&crm)), (0, before));
    }
    assert_eq!(seen[0], seen[1], "the same bytes in every system");
}

#[tokio::test]
async fn threads_whose_text_would_differ_are_written_anew() {
    let (pipeline, settings) = builtin().await;
    for body in texts(3, 4) {
        pipeline.send(&body).await;
    }
    pipeline.quiet().await;
    let crm = hubspot(HubSpotOptions::default()).await;
    let mut settings = for_hubspot(&settings, &crm);
    settings.system_of_record.update_every = Duration::ZERO;
    run(&settings, &pipeline).await;
    settings.system_of_record.templates.note =
        Some("SMS {{ day }}{% for m in messages %}<br>{{ m.text }}{% endfor %}".to_owned());
    let sync = NotesSync::new(&settings, pipeline.store.clone(), SINCE).await.expect("a back-fill");
    let trial = sync.plan(true).await.expect("a plan");
    drop(sync);

    let written = run(&settings, &pipeline).await;

    assert_eq!((trial.new, trial.changed, written.notes), (0, 6, 6));
    let notes = by_key(&crm);
    assert_eq!(notes.len(), 6);
    assert!(notes.values().all(|note| note.get("hs_communication_body").starts_with("SMS 2026-11-0")));
}

#[tokio::test]
async fn texts_that_no_thread_has_are_filed_beside_live_ones() {
    let crm = hubspot(HubSpotOptions { index_lag: Duration::from_secs(1), ..HubSpotOptions::default() }).await;
    crm.add_property(NOTES, "textus_thread_key", true);
    let mut settings = None;
    let pipeline = TestPipeline::with(|setup| {
        to_hubspot(&crm, &mut setup.settings);
        settings = Some(setup.settings.clone());
    })
    .await;
    let mut settings = settings.expect("set");
    settings.textus.base_url = pipeline.sandbox.base_url().parse().expect("a URL");
    let bodies = texts(8, 8);
    // Every other text came while `log_note` was off, and some of these twice.
    let (past, live): (Vec<_>, Vec<_>) = bodies.iter().enumerate().partition(|(number, _)| number % 2 == 0);
    for (number, body) in &past {
        record(&pipeline, body, "first").await;
        if number % 6 == 0 {
            record(&pipeline, body, "second").await;
        }
    }
    crm.fault(FaultRule::new(Fault::EffectThenReset).on(E::BatchUpsert(NOTES)).times(2));
    crm.fault(FaultRule::new(throttled("SECONDLY")).on(E::Search(Object::Contact)).times(2));
    let sync = NotesSync::new(&settings, pipeline.store.clone(), SINCE).await.expect("a back-fill");
    let trial = sync.plan(true).await.expect("a plan");
    drop(sync);
    assert_eq!((trial.filed, trial.new), (32, 16));

    let (written, other, ()) = tokio::join!(run(&settings, &pipeline), run(&settings, &pipeline), async {
        for (_, body) in &live {
            pipeline.send(body).await;
        }
    });
    pipeline.quiet().await;

    assert_eq!((written.left, other.left), (vec![], vec![]));
    let notes = by_key(&crm);
    assert_eq!((notes.len(), crm.contacts().len()), (16, 8));
    let all: String = notes.values().map(|note| note.get("hs_communication_body")).collect();
    for n in 0..8 {
        for text in 0..8 {
            assert_eq!(all.matches(&format!("text {text} &lt;of&gt; {n}<br>")).count(), 1, "{text} {n}");
        }
    }
    let before = writes(&crm);
    assert_eq!((run(&settings, &pipeline).await.notes, writes(&crm)), (0, before));
}

#[tokio::test]
async fn a_text_whose_person_nobody_knows_for_sure_is_told_and_keeps_nothing_else() {
    let (pipeline, settings) = builtin().await;
    for body in texts(4, 1) {
        pipeline.send(&body).await;
    }
    pipeline.quiet().await;
    let crm = hubspot(HubSpotOptions::default()).await;
    let twins: Vec<_> = (0..2).map(|_| crm.add_contact(&[("lastname", "Doe"), ("phone", "+14155550101")])).collect();
    let settings = for_hubspot(&settings, &crm);

    let written = run(&settings, &pipeline).await;

    assert_eq!(written.notes, 3);
    let [left] = written.left.as_slice() else { panic!("{:?}", written.left) };
    assert_eq!(left.reason, DeadReason::AmbiguousContact);
    assert!(twins.iter().all(|id| left.detail.contains(id)) && left.what.starts_with("thread_"), "{left:?}");
    assert_eq!(pipeline.dead_letters().await, []);
    crm.merge(&twins[0], &twins[1]);
    assert_eq!(run(&settings, &pipeline).await.notes, 1);
    assert_eq!(by_key(&crm).len(), 4);
}

#[tokio::test]
async fn a_paused_destination_and_refused_credentials_stop_a_back_fill_before_it_begins() {
    let (pipeline, settings) = builtin().await;
    let crm = hubspot(HubSpotOptions::default()).await;
    let good = for_hubspot(&settings, &crm);
    let mut wrong = good.clone();
    wrong.system_of_record.hubspot.token = Some(Secret::new("another"));
    let begin = async |settings: &Settings| {
        let sync = NotesSync::new(settings, pipeline.store.clone(), SINCE).await.expect("a back-fill");
        sync.begin().await.map_err(|error| error.to_string())
    };

    let refused = begin(&wrong).await.expect_err("refused");
    assert!(refused.contains("refuses the credentials with 401"), "{refused}");
    assert_eq!(begin(&good).await, Ok(()), "the workers' credentials are not in doubt");
    pipeline.store.pause_gate(hookline_common::names::Destination::SystemOfRecord, "lunch").await.expect("paused");
    let paused = begin(&good).await.expect_err("paused");
    assert!(paused.contains("lunch") && paused.contains("hookline resume system_of_record"), "{paused}");
}

#[tokio::test]
async fn every_known_opt_out_comes_onto_every_record_and_a_second_run_writes_nothing() {
    let (pipeline, settings) = builtin().await;
    let people: Vec<SampleFacts> = (0..5).map(|_| someone()).collect();
    for person in &people {
        pipeline.send_known("contact.opted_out", person).await;
        pipeline.quiet().await;
    }
    let back = now(&people[4]);
    pipeline.send_known("contact.opted_in", &back).await;
    pipeline.quiet().await;
    let crm = hubspot(HubSpotOptions::default()).await;
    let add = |person: &SampleFacts| crm.add_contact(&[("lastname", "Doe"), ("phone", &person.phone)]);
    let mut flagged = vec![add(&people[0]), add(&people[0]), add(&people[1]), add(&people[2])];
    let opted_in = add(&people[4]);
    flagged.sort();
    let settings = for_hubspot(&settings, &crm);
    let sync = async || {
        let sync = OptOutsSync::new(&settings, pipeline.store.clone()).await.expect("a back-fill");
        sync.begin().await.expect("calls can be made");
        let plan = sync.plan().await.expect("a plan");
        assert_eq!((plan.numbers, plan.done_before), (5, 0));
        sync.run(plan, &CancellationToken::new(), |_| {}).await
    };

    let written = sync().await;

    assert_eq!((written.flagged, written.unknown, written.left.len()), (5, 1, 0));
    let is = |record: &&HubSpotRecord| record.get("sms_opted_out") == "true";
    let mut found: Vec<String> = crm.contacts().iter().filter(is).map(|record| record.id.clone()).collect();
    found.sort();
    assert_eq!(found, flagged);
    let contacts = crm.contacts();
    let back = contacts.iter().find(|record| record.id == opted_in).expect("a contact");
    assert!(!back.get("sms_opted_in_at").is_empty() && back.get("sms_opted_out") == "false");
    let before = crm.requests_to(E::Update(Object::Contact));
    let again = sync().await;
    // The look at the token before is such a call too, about nobody.
    assert_eq!((again.flagged, again.unchanged, crm.requests_to(E::Update(Object::Contact))), (0, 4, before + 1));
    assert_eq!(crm.violations(), []);
}

#[tokio::test]
async fn an_interrupted_back_fill_of_opt_outs_tries_again_what_it_could_not_do() {
    let (pipeline, settings) = builtin().await;
    let crm = hubspot(HubSpotOptions::default()).await;
    for n in 0..12 {
        let person = SampleFacts { phone: format!("+1415555{:04}", 100 + n), ..someone() };
        crm.add_contact(&[("lastname", "Doe"), ("phone", &person.phone)]);
        pipeline.send_known("contact.opted_out", &person).await;
    }
    pipeline.quiet().await;
    let settings = for_hubspot(&settings, &crm);
    let sync = async |stop_after: usize, refuses: usize| {
        let sync = OptOutsSync::new(&settings, pipeline.store.clone()).await.expect("a back-fill");
        sync.begin().await.expect("calls can be made");
        if refuses > 0 {
            let refusal = hookline_sandbox::hubspot::validation_rule("sms_opted_out", "not this one");
            crm.fault(FaultRule::new(refusal).on(E::Update(Object::Contact)).times(refuses));
        }
        let plan = sync.plan().await.expect("a plan");
        let before = (plan.numbers, plan.done_before);
        let (stop, done) = (CancellationToken::new(), AtomicUsize::new(0));
        let written = sync
            .run(plan, &stop, |step| {
                if step == Progress::Done && done.fetch_add(1, Ordering::Relaxed) + 1 == stop_after {
                    stop.cancel();
                }
            })
            .await;
        (before, written)
    };
    let flagged = || crm.contacts().iter().filter(|contact| contact.get("sms_opted_out") == "true").count();

    let (_, written) = sync(10, 1).await;
    let [left] = written.left.as_slice() else { panic!("{:?}", written.left) };
    assert_eq!(left.reason, DeadReason::Rejected);
    assert!(flagged() < 12);
    // It comes before all others, so that their positions are other ones.
    let person = SampleFacts { phone: "+12025550100".to_owned(), ..someone() };
    crm.add_contact(&[("lastname", "Doe"), ("phone", &person.phone)]);
    pipeline.send_known("contact.opted_out", &person).await;
    pipeline.quiet().await;

    let ((numbers, _), written) = sync(usize::MAX, 0).await;
    assert_eq!((numbers, written.left.len()), (13, 0));
    assert!(flagged() >= 12, "{} are flagged", flagged());
    let (before, written) = sync(usize::MAX, 0).await;
    assert_eq!((before, written.left.len(), flagged()), ((13, 0), 0, 13), "run to its end, it begins anew");
}

/// Puts an event into the history that `log_note` never had.
async fn record(pipeline: &TestPipeline, body: &Value, delivery: &str) {
    let mut body = body.clone();
    body["id"] = json!(format!("{}-{delivery}", body["id"].as_str().expect("an id")));
    let bytes = Bytes::from(body.to_string());
    let source = SourceName::new("textus").expect("a name");
    let event = Event {
        id: EventId::derive(&source, body["id"].as_str(), &bytes),
        source,
        source_event_id: body["id"].as_str().map(str::to_owned),
        event_type: EventType::new(body["action"].as_str().expect("an action")),
        received_at: Timestamp::now(),
        content_type: None,
        request_id: None,
        traceparent: None,
        body: bytes,
    };
    pipeline.store.record_events(&[(event, Vec::new())]).await.expect("the store answers");
}
