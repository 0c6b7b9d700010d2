//! Calls to HubSpot without an answer, while the note or its person goes elsewhere.

use std::time::Duration;

use hookline_sandbox::hubspot::{
    HubSpot, HubSpotEndpoint as E, HubSpotObject as Object, HubSpotOptions, status, throttled,
};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{Fault, FaultRule};
use hookline_store::model::{JoinThread, ThreadLease, ThreadTurn};

use crate::crm::{all_written, hubspot, to_hubspot};
use crate::helpers::{TestPipeline, eventually, someone};

const RECEIVED: &str = "message.received";
const NOTES: Object = Object::Communication;
const KEY: &str = "textus_thread_key";

/// HubSpot with somebody, and a pipeline that has their number.
async fn with_sam(timeout: Duration) -> (HubSpot, TestPipeline, SampleFacts, String) {
    let crm = hubspot(HubSpotOptions::default()).await;
    let pipeline = TestPipeline::with(|setup| {
        to_hubspot(&crm, setup);
        setup.settings.system_of_record.hubspot.timeout = timeout;
    })
    .await;
    let person = someone();
    let sam = crm.add_contact(&[("lastname", "Doe"), ("phone", &person.phone)]);
    (crm, pipeline, person, sam)
}

fn once(crm: &HubSpot, endpoint: E, fault: Fault) {
    crm.fault(FaultRule::new(fault).on(endpoint).times(1));
}

async fn one_note_on(crm: &HubSpot, person: &str, text: &str) {
    let notes = crm.communications();
    let contacts: Vec<_> = notes.iter().map(|note| note.contacts.clone()).collect();
    assert_eq!(contacts, [[person.to_owned()]]);
    assert!(notes[0].get("hs_communication_body").contains(text), "{}", notes[0].get("hs_communication_body"));
    assert_eq!((crm.violations(), crm.orphans()), (vec![], vec![]));
}

#[tokio::test]
async fn a_note_of_unknown_outcome_is_found_on_the_person_whom_its_person_was_merged_into() {
    let (crm, pipeline, person, sam) = with_sam(Duration::from_secs(2)).await;
    once(&crm, E::Create(NOTES), Fault::EffectThenReset);
    once(&crm, E::Create(NOTES), throttled("SECONDLY"));
    pipeline.send(&sample(RECEIVED, &SampleFacts { body: "Hello.".to_owned(), ..person.clone() })).await;
    eventually("the note is there", async || crm.communications().len() == 1).await;
    let primary = crm.add_contact(&[("lastname", "Doe")]);
    crm.merge(&primary, &sam);

    all_written(&pipeline).await;

    one_note_on(&crm, &primary, "Hello.").await;
}

#[tokio::test]
async fn a_deleted_note_that_was_created_anew_without_an_answer_is_not_created_again() {
    let (crm, pipeline, person, sam) = with_sam(Duration::from_secs(2)).await;
    let text = |body: &str| sample(RECEIVED, &SampleFacts { body: body.to_owned(), ..person.clone() });
    pipeline.send(&text("Hello.")).await;
    all_written(&pipeline).await;
    crm.delete_note(&crm.communications()[0].id);
    once(&crm, E::Create(NOTES), Fault::EffectThenReset);

    pipeline.send(&text("Again.")).await;
    all_written(&pipeline).await;

    one_note_on(&crm, &sam, "Again.").await;
}

#[tokio::test]
async fn a_call_that_hung_is_in_doubt_from_its_end_on() {
    let (crm, pipeline, person, sam) = with_sam(Duration::from_secs(6)).await;
    once(&crm, E::Create(NOTES), Fault::LateEffect(Duration::from_secs(33)));

    pipeline.send(&sample(RECEIVED, &SampleFacts { body: "Hello.".to_owned(), ..person.clone() })).await;
    all_written(&pipeline).await;
    // Whoever counts from the beginning of the call is done before it takes effect.
    tokio::time::sleep(Duration::from_secs(5)).await;

    one_note_on(&crm, &sam, "Hello.").await;
}

#[tokio::test]
async fn a_write_by_key_that_lands_late_does_not_overwrite_a_newer_text() {
    let (crm, pipeline, person, sam) = with_sam(Duration::from_secs(2)).await;
    crm.add_property(NOTES, KEY, true);
    once(&crm, E::BatchUpsert(NOTES), Fault::LateEffect(Duration::from_secs(10)));
    let text = |body: &str| sample(RECEIVED, &SampleFacts { body: body.to_owned(), ..person.clone() });

    pipeline.send(&text("Hello.")).await;
    eventually("the first write is made", async || crm.requests_to(E::BatchUpsert(NOTES)) == 1).await;
    pipeline.send(&text("Again.")).await;
    all_written(&pipeline).await;
    tokio::time::sleep(Duration::from_secs(10)).await;

    one_note_on(&crm, &sam, "Again.").await;
}

/// Another process has found out that HubSpot does not write by key any more.
#[tokio::test]
async fn a_process_that_still_writes_by_key_leaves_the_doubt_of_another_one() {
    let (crm, pipeline, person, sam) = with_sam(Duration::from_secs(2)).await;
    crm.add_property(NOTES, KEY, true);
    pipeline.send(&sample(RECEIVED, &someone())).await;
    all_written(&pipeline).await;
    crm.delete_note(&crm.communications()[0].id);
    // The text gets into its thread, and no note is written.
    let refused = crm.fault(FaultRule::new(status(423)).on(E::BatchUpsert(NOTES)));
    let mut body = sample(RECEIVED, &SampleFacts { body: "Hello.".to_owned(), ..person.clone() });
    body["message"]["id"] = "/messages/m1".into();
    pipeline.send(&body).await;
    let joined = async || pipeline.store.thread_message("/messages/m1").await.expect("the store answers");
    eventually("the text is in its thread", async || joined().await.is_some()).await;
    let (facts, message) = joined().await.expect("it is there");
    let system = format!("hubspot {}", crm.addr());
    let other = || JoinThread {
        facts: facts.clone(),
        message: message.clone(),
        system: system.clone(),
        owner: "other".to_owned(),
        lease: Duration::from_secs(60),
        update_every: Duration::ZERO,
    };
    let thread_id = loop {
        if let ThreadTurn::Write(write) = pipeline.store.join_thread(other()).await.expect("the store answers") {
            break write.thread.thread_id;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let lease = ThreadLease { thread_id: thread_id.clone(), system, owner: "other".to_owned() };
    let is_ours = pipeline.store.thread_note_sent(&lease, 0, &sam, Duration::from_secs(60)).await;
    assert!(is_ours.expect("the store answers"));
    let old = format!("Old.<br><br>ref {thread_id}");
    let properties = [
        ("hs_communication_body", old.as_str()),
        ("hs_communication_channel_type", "SMS"),
        ("hs_communication_logged_from", "CRM"),
    ];
    crm.add_communication(&properties, &[&sam]);
    crm.remove_property(NOTES, KEY);
    crm.remove_fault(refused);
    pipeline.store.release_thread(&lease, false).await.expect("the store answers");

    all_written(&pipeline).await;

    one_note_on(&crm, &sam, "Hello.").await;
}
