//! A whole worker writes to HubSpot.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hookline_common::names::HandlerName::{LogNote, SyncContact};
use hookline_common::phone::Phone;
use hookline_common::secret::Secret;
use hookline_common::settings::{OnUnknownContact, SystemOfRecordKind};
use hookline_sandbox::FaultRule;
use hookline_sandbox::hubspot::{
    HubSpot, HubSpotEndpoint as E, HubSpotObject as Object, HubSpotOptions, status, throttled,
};
use hookline_sandbox::samples::{SampleFacts, sample};

use crate::helpers::{TestPipeline, ending, eventually, someone};

const RECEIVED: &str = "message.received";
const NOTES: Object = Object::Communication;
const UPDATE_EVERY: Duration = Duration::from_secs(1);

/// An account with every property of contacts, and a pipeline that writes to it.
async fn with_hubspot(options: HubSpotOptions) -> (HubSpot, TestPipeline) {
    let token = options.token.clone();
    let crm = HubSpot::start(options).await.expect("the stand-in starts");
    crm.add_hookline_properties("textus_contact_id", "sms_opted_out");
    let base_url = crm.base_url().parse().expect("a URL");
    let pipeline = TestPipeline::with(|setup| {
        let system = &mut setup.settings.system_of_record;
        system.kind = SystemOfRecordKind::HubSpot;
        system.update_every = UPDATE_EVERY;
        system.hubspot.base_url = base_url;
        system.hubspot.token = Some(Secret::new(token));
        setup.settings.handlers.log_note.on_unknown_contact = Some(OnUnknownContact::Create);
    })
    .await;
    (crm, pipeline)
}

fn text_of(person: &SampleFacts, number: usize) -> SampleFacts {
    let timestamp = "2026-11-02T15:00:00Z".parse::<jiff::Timestamp>().expect("a time")
        + jiff::SignedDuration::from_secs(i64::try_from(number).expect("a small number"));
    SampleFacts { timestamp, body: format!("Text {number}."), ..person.clone() }
}

fn writes(crm: &HubSpot) -> usize {
    crm.requests_to(E::Create(NOTES)) + crm.requests_to(E::Update(NOTES)) + crm.requests_to(E::BatchUpsert(NOTES))
}

#[tokio::test]
async fn a_busy_thread_is_one_note_written_rarely_and_without_a_search() {
    let (crm, pipeline) = with_hubspot(HubSpotOptions::default()).await;
    let person = SampleFacts { embed_contact: true, ..someone() };
    let sam = crm.add_contact(&[("lastname", "Doe"), ("textus_contact_id", &person.contact_id)]);
    let began = Instant::now();

    for number in 0..20 {
        pipeline.send_known(RECEIVED, &text_of(&person, number)).await;
    }
    pipeline.quiet().await;

    let rounds = usize::try_from(began.elapsed().as_secs() / UPDATE_EVERY.as_secs()).expect("a small number");
    assert!(writes(&crm) <= 2 + rounds, "{} writes in {:?}", writes(&crm), began.elapsed());
    assert_eq!(crm.requests_to(E::Search(Object::Contact)), 0);
    let notes = crm.communications();
    assert_eq!((notes.len(), &notes[0].contacts), (1, &vec![sam]));
    let body = notes[0].get("hs_communication_body");
    let places: Vec<Option<usize>> = (0..20).map(|number| body.find(&format!("Text {number}."))).collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{body}");
    assert!((crm.violations(), crm.orphans()) == (vec![], vec![]));
}

#[tokio::test]
async fn each_thread_is_one_note_on_the_right_person_whatever_repeats_or_is_refused() {
    for with_key in [false, true] {
        let options = HubSpotOptions { index_lag: Duration::from_secs(3600), ..HubSpotOptions::default() };
        let (crm, pipeline) = with_hubspot(options).await;
        if with_key {
            crm.add_property(NOTES, "textus_thread_key", true);
        }
        let mut people = BTreeMap::new();
        for number in 0..6 {
            let person = SampleFacts { embed_contact: number % 2 == 0, ..someone() };
            // Two are known by number, two by contact, and two are new.
            let known = match number / 2 {
                0 => Some(crm.add_contact(&[("lastname", "By number"), ("mobilephone", &person.phone)])),
                1 => Some(crm.add_contact(&[
                    ("lastname", "By contact"),
                    ("textus_contact_id", &person.contact_id),
                    ("phone", &person.phone),
                ])),
                _ => None,
            };
            people.insert(person.phone.clone(), (person, known));
        }
        crm.fault(FaultRule::new(status(423)).on(E::Create(NOTES)).times(2));
        crm.fault(FaultRule::new(status(423)).on(E::BatchUpsert(NOTES)).times(2));
        crm.fault(FaultRule::new(throttled("SECONDLY")).on(E::Search(Object::Contact)).times(2));

        for number in (0..4).rev() {
            for (person, _) in people.values() {
                let text = text_of(person, number);
                let body = sample(RECEIVED, &text);
                pipeline.sandbox.learn(&body).expect("a sample's shape");
                for _ in 0..if number == 2 { 2 } else { 1 } {
                    pipeline.send(&body).await;
                }
            }
        }
        pipeline.quiet().await;

        assert_eq!(pipeline.dead_letters().await.len(), 0);
        assert_eq!((crm.contacts().len(), crm.communications().len()), (6, 6), "{with_key}");
        for note in crm.communications() {
            let body = note.get("hs_communication_body");
            assert!((0..4).all(|number| body.matches(&format!("Text {number}.")).count() == 1), "{body}");
            let owner = crm.contacts().into_iter().find(|contact| note.contacts == [contact.id.clone()]).expect("one");
            let number = if owner.get("phone").is_empty() { owner.get("mobilephone") } else { owner.get("phone") };
            let (person, known) = &people[number];
            assert!(body.contains(&person.phone), "{body}");
            assert!(known.as_ref().is_none_or(|known| *known == owner.id));
        }
        assert!((crm.violations(), crm.orphans()) == (vec![], vec![]));
    }
}

#[tokio::test]
async fn a_new_contact_becomes_a_person_in_four_calls() {
    let (crm, pipeline) = with_hubspot(HubSpotOptions::default()).await;
    let person = someone();

    let id = pipeline.send_known("contact.created", &person).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, SyncContact), "done");
    let contacts = crm.contacts();
    assert_eq!(contacts.len(), 1);
    assert_eq!(contacts[0].get("textus_contact_id"), person.contact_id);
    assert!(crm.requests().len() <= 4, "{:?}", crm.requests());
    assert!((crm.violations(), crm.orphans()) == (vec![], vec![]));
}

#[tokio::test]
async fn a_contact_with_more_numbers_than_searches_in_a_second_becomes_a_person() {
    let (crm, pipeline) = with_hubspot(HubSpotOptions::default()).await;
    let more_phones = (0..5).map(|_| someone().phone).collect();
    let person = SampleFacts { more_phones, ..someone() };

    let id = pipeline.send_known("contact.created", &person).await;

    assert_eq!(ending(&pipeline.settled(&id).await, SyncContact), "done");
    assert_eq!(crm.contacts().len(), 1);
    assert!((crm.violations(), crm.orphans()) == (vec![], vec![]));
}

#[tokio::test]
async fn an_opt_out_is_on_every_record_with_the_number() {
    let (crm, pipeline) = with_hubspot(HubSpotOptions::default()).await;
    let person = someone();
    let ids = [
        crm.add_contact(&[("lastname", "Doe"), ("phone", &person.phone)]),
        crm.add_contact(&[("lastname", "Roe"), ("mobilephone", &person.phone)]),
    ];
    crm.add_contact(&[("lastname", "Poe"), ("phone", "+14155550188")]);

    pipeline.send_known("contact.opted_out", &person).await;

    let flagged = || {
        let contacts = crm.contacts().into_iter().filter(|contact| contact.get("sms_opted_out") == "true");
        contacts.map(|contact| contact.id).collect::<Vec<_>>()
    };
    eventually("both are flagged", async || flagged() == ids).await;
    let number = Phone::parse(&person.phone).expect("a number");
    let confirmed = async || {
        let rows = pipeline.store.confirmed_flags(&number).await.expect("the store answers");
        let mut rows: Vec<_> = rows.into_iter().map(|row| (row.flag.record_id, row.flag.opted_out)).collect();
        rows.sort();
        rows
    };
    eventually("both are evidence", async || confirmed().await == ids.clone().map(|id| (id, true))).await;
    assert!((crm.violations(), crm.orphans()) == (vec![], vec![]));
}

#[tokio::test]
async fn a_merged_person_gets_the_next_days_note_under_the_other_id() {
    let (crm, pipeline) = with_hubspot(HubSpotOptions::default()).await;
    let person = SampleFacts { embed_contact: true, ..someone() };
    let sam = crm.add_contact(&[("lastname", "Doe"), ("phone", &person.phone)]);
    let first = pipeline.send_known(RECEIVED, &text_of(&person, 1)).await;
    pipeline.settled(&first).await;
    let primary = crm.add_contact(&[("lastname", "Doe")]);
    crm.merge(&primary, &sam);

    let second = pipeline.send_known(RECEIVED, &text_of(&person, 86_400)).await;

    assert_eq!(ending(&pipeline.settled(&second).await, LogNote), "done");
    let notes = crm.communications();
    assert_eq!(notes.len(), 2);
    assert!(notes.iter().all(|note| note.contacts == [primary.clone()]));
    assert!((crm.violations(), crm.orphans()) == (vec![], vec![]));
}
