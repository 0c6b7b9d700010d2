//! Whole conversations into stand-ins for HubSpot and for an endpoint of the user's own, through repeats, lost answers,
//! rate limits and an index that lags.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hookline_common::names::DeliveryState;
use hookline_common::names::HandlerName::{FlagOptOut, LogNote};
use hookline_common::secret::Secret;
use hookline_common::settings::{MessageLookup, OnUnknownContact, SystemOfRecordKind};
use hookline_common::time::Timestamp;
use hookline_sandbox::hubspot::throttled;
use hookline_sandbox::receiver::SECRET;
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{
    DocumentType, Fault, FaultRule, HubSpot, HubSpotEndpoint, HubSpotObject, HubSpotOptions, Receiver, ReceiverOptions,
};
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};

use crate::helpers::{Setup, TestPipeline, ending, someone};

const RECEIVED: &str = "message.received";
const DELIVERED: &str = "message.delivered";

pub(crate) async fn hubspot(options: HubSpotOptions) -> HubSpot {
    let hubspot = HubSpot::start(options).await.expect("the stand-in starts");
    hubspot.add_hookline_properties("textus_contact_id", "sms_opted_out");
    hubspot
}

pub(crate) fn to_hubspot(hubspot: &HubSpot, setup: &mut Setup) {
    let system = &mut setup.settings.system_of_record;
    system.kind = SystemOfRecordKind::HubSpot;
    system.hubspot.base_url = hubspot.base_url().parse().expect("a URL");
    system.hubspot.token = Some(Secret::new("synthetic-token"));
    system.update_every = Duration::from_millis(500);
    setup.settings.handlers.log_note.message_lookup = MessageLookup::None;
    setup.settings.handlers.log_note.on_unknown_contact = Some(OnUnknownContact::Create);
}

fn to_receiver(receiver: &Receiver, setup: &mut Setup) {
    let system = &mut setup.settings.system_of_record;
    system.kind = SystemOfRecordKind::Http;
    system.http.url = Some(receiver.url().parse().expect("a URL"));
    system.http.secrets = vec![Secret::new(SECRET)];
    system.update_every = Duration::from_millis(500);
    setup.settings.handlers.log_note.message_lookup = MessageLookup::None;
    setup.settings.handlers.log_note.on_unknown_contact = Some(OnUnknownContact::Create);
}

/// The texts of some people over three days, one in ten of them twice, in random order; with what each thread has to
/// show, by the person's number and the day.
pub(crate) struct Conversations {
    pub(crate) bodies: Vec<Value>,
    pub(crate) threads: BTreeMap<(String, String), Vec<String>>,
}

pub(crate) fn conversations(people: usize, texts: usize) -> Conversations {
    let start = Timestamp::parse("2026-11-02T08:00:00Z").expect("a time");
    let (mut bodies, mut threads): (Vec<Value>, BTreeMap<_, Vec<String>>) = (Vec::new(), BTreeMap::new());
    for n in 0..people {
        let person = SampleFacts {
            phone: format!("+1415555{:04}", 100 + n),
            account_phone: "+14155550001".to_owned(),
            contact_id: format!("person{n}"),
            ..someone()
        };
        for text in 0..texts {
            let hours = Duration::from_secs(3600 * u64::try_from(text * 71 / texts).expect("a small number"));
            let at = start.plus(hours).plus(Duration::from_secs(u64::try_from(text).expect("a small number")));
            let (words, at_text) = (format!("text {text} <of> {n}"), at.to_string());
            let facts =
                SampleFacts { timestamp: at_text.parse().expect("a time"), body: words.clone(), ..person.clone() };
            let event_type = if text % 3 == 2 { DELIVERED } else { RECEIVED };
            let mut body = sample(event_type, &facts);
            body["message"]["id"] = json!(format!("/messages/m{n}x{text}"));
            threads.entry((person.phone.clone(), at_text[..10].to_owned())).or_default().push(words);
            if (n + text) % 10 == 0 {
                bodies.push(body.clone());
            }
            bodies.push(body);
        }
    }
    bodies.shuffle(&mut rand::rng());
    Conversations { bodies, threads }
}

pub(crate) async fn send_all(pipeline: &TestPipeline, bodies: &[Value]) {
    for body in bodies {
        pipeline.send(body).await;
    }
    all_written(pipeline).await;
}

/// Waits until no text waits any more, and checks that no delivery failed for good.
pub(crate) async fn all_written(pipeline: &TestPipeline) {
    // A note whose creation was not answered is looked for after half a minute.
    let deadline = Instant::now() + Duration::from_secs(240);
    let waiting = || pipeline.store.delivery_ids(LogNote, Some(DeliveryState::Waiting));
    while !waiting().await.expect("an answer").is_empty() {
        assert!(Instant::now() < deadline, "texts wait");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pipeline.quiet().await;
    assert_eq!(pipeline.store.dead_letters(&Default::default(), 10, None).await.expect("an answer").rows.len(), 0);
}

#[tokio::test]
async fn each_thread_is_one_note_on_the_right_contact_in_hubspot() {
    for unique in [false, true] {
        let options = HubSpotOptions {
            index_lag: Duration::from_secs(2),
            unique_properties_on_engagements: unique,
            rate_limit: (100, Duration::from_secs(1)),
            ..HubSpotOptions::default()
        };
        let crm = hubspot(options).await;
        if unique {
            crm.add_property(HubSpotObject::Communication, "textus_thread_key", true);
        }
        let write = match unique {
            true => HubSpotEndpoint::BatchUpsert(HubSpotObject::Communication),
            false => HubSpotEndpoint::Create(HubSpotObject::Communication),
        };
        let update = HubSpotEndpoint::Update(HubSpotObject::Communication);
        for (endpoint, fault) in [
            (write, Fault::EffectThenReset),
            (write, Fault::Reset),
            (update, Fault::EffectThenReset),
            (HubSpotEndpoint::BatchUpsert(HubSpotObject::Contact), Fault::EffectThenReset),
        ] {
            crm.fault(FaultRule::new(fault).on(endpoint).times(2));
        }
        crm.fault(FaultRule::new(throttled("TEN_SECONDLY_ROLLING")).on(update).times(1));
        let Conversations { bodies, threads } = conversations(8, 12);
        let pipeline = TestPipeline::with(|setup| {
            to_hubspot(&crm, setup);
            setup.settings.system_of_record.hubspot.timeout = Duration::from_secs(2);
        })
        .await;

        send_all(&pipeline, &bodies).await;

        let contacts: BTreeMap<String, String> =
            crm.contacts().into_iter().map(|contact| (contact.id.clone(), contact.get("phone").to_owned())).collect();
        assert_eq!(contacts.len(), 8, "unique: {unique}");
        let notes = crm.communications();
        let mut seen = BTreeSet::new();
        for note in &notes {
            let text = note.get("hs_communication_body");
            let [contact] = note.contacts.as_slice() else { panic!("on one contact: {:?}", note.contacts) };
            let day = threads.keys().map(|(_, day)| day).find(|day| text.contains(*day)).expect("a day").clone();
            let key = (contacts[contact].clone(), day);
            let words = &threads[&key];
            let places: Vec<usize> = words
                .iter()
                .map(|words| {
                    text.find(&words.replace('<', "&lt;").replace('>', "&gt;")).expect("the text is in the note")
                })
                .collect();
            assert!(places.is_sorted(), "in the order of their times: {text}");
            assert!(seen.insert(key), "one note a thread: {text}");
        }
        assert_eq!(seen.len(), threads.len(), "unique: {unique}");
        assert_eq!((crm.orphans(), crm.violations().len()), (Vec::new(), 0), "{:?}", crm.violations());
    }
}

#[tokio::test]
async fn each_thread_is_one_document_at_an_endpoint_of_the_users_own() {
    for knows_people in [true, false] {
        let options = ReceiverOptions { knows_people, tells_ids: knows_people, ..ReceiverOptions::default() };
        let receiver = Receiver::start(options).await.expect("the receiver starts");
        for fault in [Fault::EffectThenReset, Fault::Reset] {
            receiver.fault(FaultRule::new(fault).on(DocumentType::ThreadWritten).times(5));
        }
        let Conversations { bodies, threads } = conversations(10, 12);
        let pipeline = TestPipeline::with(|setup| to_receiver(&receiver, setup)).await;

        send_all(&pipeline, &bodies).await;

        let written = receiver.threads();
        assert_eq!(written.len(), threads.len());
        for thread in &written {
            let phone = thread.data["person"]["phones"][0].as_str().expect("a number").to_owned();
            let words = &threads[&(phone, thread.data["day"].as_str().expect("a day").to_owned())];
            let said: Vec<&str> = thread.data["messages"]
                .as_array()
                .expect("messages")
                .iter()
                .map(|message| message["body"].as_str().expect("a body"))
                .collect();
            assert_eq!(&said, words);
            assert!(words.iter().all(|words| thread.text.contains(words)));
            assert_eq!(thread.data["person"]["id"].is_null(), !knows_people);
        }
        assert_eq!(receiver.violations(), []);
    }
}

#[tokio::test]
async fn a_crm_that_is_down_holds_up_no_opt_out_and_gets_every_note_once_it_is_back() {
    let crm = hubspot(HubSpotOptions::default()).await;
    let pipeline = TestPipeline::with(|setup| {
        to_hubspot(&crm, setup);
        setup.settings.system_of_record.hubspot.timeout = Duration::from_millis(500);
    })
    .await;
    let down = crm.fault(FaultRule::new(Fault::Reset));
    let people: Vec<SampleFacts> = (0..6).map(|_| someone()).collect();
    let mut texts = Vec::new();
    for person in &people {
        texts.push(pipeline.send(&sample(RECEIVED, person)).await);
    }
    let opted_out = pipeline.send_known("contact.opted_out", &someone()).await;

    crate::helpers::eventually("the opt-out is PUT", async || {
        let row = pipeline.event(&opted_out).await;
        row.is_some_and(|row| ending(&row, hookline_common::names::HandlerName::RecordOptOut) == "done")
    })
    .await;
    assert_eq!(crm.communications().len(), 0);
    crm.remove_fault(down);
    pipeline.store.resume_gate(hookline_common::names::Destination::SystemOfRecord).await.expect("an answer");
    pipeline.quiet().await;

    for id in &texts {
        assert_eq!(ending(&pipeline.settled(id).await, LogNote), "done");
    }
    assert_eq!((crm.contacts().len(), crm.communications().len()), (6, 6));
}

#[tokio::test]
async fn a_note_that_was_found_after_a_lost_answer_is_not_created_again_though_its_change_is_refused() {
    let crm = hubspot(HubSpotOptions::default()).await;
    crm.fault(
        FaultRule::new(Fault::EffectThenReset).on(HubSpotEndpoint::Create(HubSpotObject::Communication)).times(1),
    );
    let update = HubSpotEndpoint::Update(HubSpotObject::Communication);
    crm.fault(FaultRule::new(throttled("SECONDLY")).on(update).times(1));
    crm.fault(FaultRule::new(hookline_sandbox::hubspot::status(423)).on(update).times(1));
    let pipeline = TestPipeline::with(|setup| to_hubspot(&crm, setup)).await;

    send_all(&pipeline, &[sample(RECEIVED, &someone())]).await;

    assert_eq!((crm.communications().len(), crm.orphans().len()), (1, 0));
}

#[tokio::test]
async fn one_record_that_refuses_its_flag_keeps_nobody_else_from_theirs() {
    let crm = hubspot(HubSpotOptions::default()).await;
    let pipeline = TestPipeline::with(|setup| {
        to_hubspot(&crm, setup);
        // The echo of the PUT would flag everyone.
        setup.sandbox.echoes = false;
    })
    .await;
    let person = someone();
    for name in ["One", "Two", "Three"] {
        crm.add_contact(&[("phone", &person.phone), ("lastname", name)]);
    }
    let refusal = hookline_sandbox::hubspot::validation_rule("sms_opted_out", "not this one");
    crm.fault(FaultRule::new(refusal).on(HubSpotEndpoint::Update(HubSpotObject::Contact)).times(1));

    let id = pipeline.send_known("contact.opted_out", &person).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, FlagOptOut), "dead_lettered: rejected");
    let flagged = crm.contacts().iter().filter(|contact| contact.get("sms_opted_out") == "true").count();
    assert_eq!(flagged, 2);
}
