//! Receivers with people of their own, and without.

use hookline_sandbox::receiver::Person as Known;
use hookline_sandbox::{DocumentType, Fault};
use hookline_worker::destinations::error::DestinationError;

use crate::helpers::{CONTACT, NAME, PHONE, TestRecords, phone};

fn known(id: &str, contact_id: Option<&str>, phones: &[&str]) -> Known {
    Known {
        id: id.to_owned(),
        contact_id: contact_id.map(str::to_owned),
        phones: phones.iter().map(|phone| (*phone).to_owned()).collect(),
        name: Some(NAME.to_owned()),
    }
}

async fn ids(records: &TestRecords, contact_id: Option<&str>) -> Vec<String> {
    let people = records.connector.find(contact_id, Some(&phone())).await.unwrap_or_else(|error| panic!("{error}"));
    people.into_iter().map(|person| person.id.0).collect()
}

#[tokio::test]
async fn a_receiver_that_knows_people_names_them() {
    let records = TestRecords::start().await;
    assert!(ids(&records, None).await.is_empty(), "nobody is an answer, too");
    records.receiver.add_person(known("p1", None, &["+12025550100", PHONE]));
    records.receiver.add_person(known("p2", Some(CONTACT), &["+12025550100"]));
    records.receiver.add_person(known("p3", None, &[PHONE]));

    assert_eq!(ids(&records, None).await, ["p1", "p3"]);
    assert_eq!(ids(&records, Some(CONTACT)).await, ["p2"]);
    let people = records.connector.find(Some(CONTACT), Some(&phone())).await.unwrap_or_default();
    // The handler adds the number to this person, for which it has to know that the contact is theirs.
    assert_eq!(people[0].contact_id.as_deref(), Some(CONTACT));
    assert_eq!(people[0].name.as_deref(), Some(NAME));
    records.assert_proper();
}

#[tokio::test]
async fn without_people_the_person_is_textus_own() {
    let records = TestRecords::with(|receiver| receiver.knows_people = false, |_| {}).await;

    let people = records.connector.find(Some(CONTACT), Some(&phone())).await.unwrap_or_default();

    let [person] = people.as_slice() else { panic!("{} people", people.len()) };
    assert_eq!((person.id.0.as_str(), person.contact_id.as_deref()), ("", Some(CONTACT)));
    assert_eq!(person.phones, [phone()]);
    records.assert_proper();
}

#[tokio::test]
async fn nobody_is_asked_for_without_a_contact_or_a_number() {
    let records = TestRecords::start().await;

    assert!(records.connector.find(None, None).await.unwrap_or_default().is_empty());

    assert_eq!(records.asked(), 0);
}

#[tokio::test]
async fn a_page_and_a_broken_answer_make_nobody_a_stranger() {
    for fault in [Fault::TruncatedBody, Fault::HugeBody(5_000_000), Fault::maintenance_page()] {
        let records = TestRecords::start().await;
        let shown = format!("{fault:?}");
        records.receiver.add_person(known("p1", None, &[PHONE]));
        records.fail_once(fault);

        let Err(error) = records.connector.find(None, Some(&phone())).await else { panic!("{shown}") };

        assert!(matches!(error, DestinationError::NoAnswer { .. }), "{shown}: {error:?}");
        assert_eq!(ids(&records, None).await, ["p1"], "{shown}");
    }
}

#[tokio::test]
async fn the_id_of_a_new_person_is_taken_over() {
    let records = TestRecords::start().await;

    let (id, changed) = records.connector.upsert().await.unwrap();

    assert_eq!((id.as_str(), changed), (records.receiver.people()[0].id.as_str(), true));
    assert!(!id.is_empty());
    assert_eq!(records.requests_to(DocumentType::PersonUpserted), 1);
}

#[tokio::test]
async fn a_receiver_may_keep_its_ids_to_itself() {
    let records = TestRecords::with(|receiver| receiver.tells_ids = false, |_| {}).await;

    assert_eq!(records.connector.upsert().await.unwrap(), (String::new(), true));
}
