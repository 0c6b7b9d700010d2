use std::time::Duration;

use hookline_common::names::{DeadReason, HandlerName};
use hookline_common::phone::Phone;
use hookline_store::model::{Claim, ClaimRequest, ContactLink, NewNote, OptEvent, Payload, PersonFacts};

use crate::helpers::{TestStore, at, dead, event_at, id_of, phone};

/// A payload that names the person, and why it does or does not.
const NAMES_THEM: &[(&str, &str)] = &[
    ("E.164", r#"{"from":"+12025550147"}"#),
    ("ten digits", r#"{"from":"2025550147"}"#),
    ("eleven digits", r#"{"from":"12025550147"}"#),
    ("dashes", r#"{"from":"1-202-555-0147"}"#),
    ("brackets", r#"{"from":"(202) 555-0147"}"#),
    ("dots, in a text", r#"{"body":"call 202.555.0147 please"}"#),
    ("a linked contact", r#"{"contact":"\/contacts\/01JN0ADAXXXXXXXX"}"#),
];
const NAMES_NOBODY: &[(&str, &str)] = &[
    ("another number", r#"{"from":"+12025550148"}"#),
    ("digits that go on", r#"{"id":20255501471}"#),
    ("digits that begin before", r#"{"id":992025550147}"#),
    ("another contact", r#"{"contact":"/contacts/01JN0ADAXXXXXXXXY"}"#),
];

async fn with_records(test: &TestStore) {
    let facts = PersonFacts {
        contact_id: Some("/contacts/01JN0ADAXXXXXXXX".to_owned()),
        phone: Some(phone()),
        name: Some("Ada Secretperson".to_owned()),
    };
    let (person, ..) = test.store.upsert_person(&facts).await.expect("the store answers");
    let note = NewNote {
        message_id: "/messages/1".to_owned(),
        event_id: id_of("note"),
        contact_id: facts.contact_id.clone(),
        phone: None,
        direction: "in".to_owned(),
        body: "my code is hunter2".to_owned(),
        occurred_at: at(0),
        business_number: None,
        user: None,
    };
    test.store.add_note(&person.record_id, &note).await.expect("the store answers");
    let link = ContactLink {
        account: "acme".to_owned(),
        phone: phone(),
        contact_id: facts.contact_id,
        person_id: Some(person.record_id),
        created_by_us: false,
    };
    test.store.save_link(&link).await.expect("the store answers");
    test.store.set_opt_flag(&phone(), true, at(0)).await.expect("the store answers");
    let (event_id, phone) = (id_of("opt"), phone());
    let opt_out = OptEvent {
        event_id: &event_id,
        source_event_id: None,
        account: "acme",
        phone: &phone,
        opted_out: true,
        event_time: Some(at(0)),
        received_at: at(1),
    };
    test.store.record_opt_event(&opt_out).await.expect("the store answers");
    let Claim::Fresh(token) = claim(test).await else { panic!("claimed twice") };
    test.store.effect_done(&token, Some("/contacts/01JN0ADAXXXXXXXX")).await.expect("the store answers");
}

/// The effect of creating the person's contact.
async fn claim(test: &TestStore) -> Claim {
    let (event_id, phone) = (id_of("created"), phone());
    let request = ClaimRequest {
        handler: HandlerName::CreateContact,
        target: "acme",
        effect_key: phone.as_e164(),
        event_id: &event_id,
        owner: "a",
        lease: Duration::from_secs(60),
        settle_after: Duration::from_secs(60),
    };
    test.store.claim(&request).await.expect("the store answers")
}

#[tokio::test]
async fn erasing_takes_the_person_out_of_everything_but_the_evidence() {
    let test = TestStore::new().await;
    with_records(&test).await;
    let all: Vec<_> = NAMES_THEM
        .iter()
        .chain(NAMES_NOBODY)
        .map(|(why, body)| (event_at(why, at(0), body.as_bytes()), Vec::new()))
        .collect();
    test.store.record_events(&all).await.unwrap();
    let event = event_at("E.164", at(0), NAMES_THEM[0].1.as_bytes());
    test.store.insert_dead_letter(&event, HandlerName::LogNote, &dead(DeadReason::Rejected, at(1)), &[]).await.unwrap();

    let erased = test.store.erase(&phone()).await.unwrap();

    for (why, _) in NAMES_THEM {
        assert_eq!(test.store.event_payload(&id_of(why)).await.unwrap(), Payload::Gone, "{why}");
        assert!(erased.event_ids.contains(&id_of(why)), "{why}");
    }
    for (why, _) in NAMES_NOBODY {
        assert!(matches!(test.store.event_payload(&id_of(why)).await.unwrap(), Payload::Here(_)), "{why}");
    }
    assert_eq!(
        (erased.payloads, erased.dead_letters, erased.notes, erased.persons, erased.contact_links),
        (NAMES_THEM.len() as u64, 1, 1, 1, 1)
    );
    let dead_letter = test.store.dead_letter(event.id.as_str()).await.unwrap().remove(0);
    assert_eq!(dead_letter.info.reason, DeadReason::Rejected, "that it happened stays");
    assert!(test.store.mark_redriving(&dead_letter.id).await.unwrap().is_none(), "but it cannot be redriven");
    assert!(matches!(claim(&test).await, Claim::Fresh(_)), "the number is no key any more");
    assert_eq!(test.store.prove(&phone()).await.unwrap().len(), 1);
    assert_eq!(test.store.verify(None).await.unwrap().broken, None);
    assert_eq!(test.store.newest_state(&phone()).await.unwrap(), Some((true, at(0))));
    assert_eq!(test.store.opt_flags(10, None).await.unwrap().rows.len(), 1);
    let subject: String = sqlx::query_scalar("SELECT subject FROM audit WHERE action = 'erase'")
        .fetch_one(&mut test.sql().await)
        .await
        .unwrap();
    assert_eq!(subject, phone().masked());
}

#[tokio::test]
async fn what_was_erased_is_in_no_file_any_more() {
    let test = TestStore::new().await;
    with_records(&test).await;
    let body =
        format!("{{\"from\":\"+12025550147\",\"body\":\"my code is hunter2\",\"pad\":\"{}\"}}", "x".repeat(9000));
    test.store.record_events(&[(event_at("a", at(0), body.as_bytes()), Vec::new())]).await.unwrap();

    test.store.erase(&phone()).await.unwrap();

    for file in std::fs::read_dir(test.dir.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for secret in ["hunter2", "Secretperson"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} in {path:?}");
        }
    }
}

#[tokio::test]
async fn erasing_a_stranger_removes_nothing() {
    let test = TestStore::new().await;
    with_records(&test).await;

    let erased = test.store.erase(&Phone::parse("+442079460958").unwrap()).await.unwrap();

    assert_eq!((erased.payloads, erased.notes, erased.persons, erased.contact_links), (0, 0, 0, 0));
    assert_eq!(test.store.notes(10, None).await.unwrap().rows.len(), 1);
}
