use std::time::Duration;

use hookline_common::broker::Again;
use hookline_common::names::{DeadReason, DeliveryState, HandlerName, Verdict};
use hookline_common::phone::Phone;
use hookline_store::model::{
    Begin, Claim, ClaimRequest, ContactLink, DeliveryRow, Ending, NewNote, OptEvent, OptMethod, Payload, PersonFacts,
};

use crate::helpers::{TestStore, at, attempt, dead, event_at, id_of, phone};

/// A payload that names the person, and why it does or does not.
const NAMES_THEM: &[(&str, &str)] = &[
    ("E.164", r#"{"from":"+12025550147"}"#),
    ("ten digits", r#"{"from":"2025550147"}"#),
    ("eleven digits", r#"{"from":"12025550147"}"#),
    ("dashes", r#"{"from":"1-202-555-0147"}"#),
    ("brackets", r#"{"from":"(202) 555-0147"}"#),
    ("dots, in a text", r#"{"body":"call 202.555.0147 please"}"#),
    ("a linked contact", r#"{"contact":"/contacts/Vx9kQ2"}"#),
    ("a linked contact, escaped", r#"{"contact":"\/contacts\/Vx9kQ2"}"#),
    ("a linked contact in an address", r#"{"url":"https://api.example.com/contacts/Vx9kQ2/notes"}"#),
];
const NAMES_NOBODY: &[(&str, &str)] = &[
    ("another number", r#"{"from":"+12025550148"}"#),
    ("digits that go on", r#"{"id":20255501471}"#),
    ("digits that begin before", r#"{"id":992025550147}"#),
    ("another contact", r#"{"contact":"/contacts/Vx9kQ2Y"}"#),
    ("another contact with a dash", r#"{"contact":"/contacts/Vx9kQ2-1"}"#),
    ("what is no contact", r#"{"message":"/messages/Vx9kQ2"}"#),
];

pub(crate) async fn with_records(test: &TestStore) {
    let facts = PersonFacts {
        contact_id: Some("/contacts/Vx9kQ2".to_owned()),
        phones: vec![phone()],
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
        method: OptMethod::Webhook,
        targets: &[],
    };
    test.store.record_opt_event(&opt_out).await.expect("the store answers");
    let Claim::Fresh(token) = claim(test).await else { panic!("claimed twice") };
    test.store.effect_done(&token, Some("/contacts/Vx9kQ2")).await.expect("the store answers");
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
async fn erasing_a_stranger_removes_nothing() {
    let test = TestStore::new().await;
    with_records(&test).await;

    let erased = test.store.erase(&Phone::parse("+442079460958").unwrap()).await.unwrap();

    assert_eq!((erased.payloads, erased.notes, erased.persons, erased.contact_links), (0, 0, 0, 0));
    assert_eq!(test.store.notes(10, None).await.unwrap().rows.len(), 1);
}

const NAMED: &[u8] = br#"{"from":"+12025550147"}"#;

async fn deliveries(test: &TestStore, name: &str) -> Vec<DeliveryRow> {
    test.store.event(&id_of(name)).await.expect("the store answers").expect("it is known").0.deliveries
}

#[tokio::test]
async fn what_waits_and_would_make_the_person_anew_is_given_up_and_told() {
    let test = TestStore::new().await;
    let all = HandlerName::ALL.to_vec();
    let theirs = event_at("theirs", at(0), NAMED);
    let done = event_at("done", at(0), NAMED);
    let others = event_at("another's", at(0), b"{}");
    let events = [(theirs.clone(), all.clone()), (done.clone(), vec![HandlerName::LogNote]), (others, all)];
    test.store.record_events(&events).await.unwrap();
    let record = attempt(&done, HandlerName::LogNote, 1, Verdict::Done);
    test.store.finish(&record, Ending::Done, &[]).await.unwrap();

    let erased = test.store.erase(&phone()).await.unwrap();

    let of_theirs = |handlers: &[HandlerName]| handlers.iter().map(|&handler| (theirs.id.clone(), handler)).collect();
    let gone: Vec<_> = of_theirs(&[HandlerName::LogNote, HandlerName::CreateContact, HandlerName::SyncContact]);
    let kept: Vec<_> = of_theirs(&[HandlerName::RecordOptOut, HandlerName::FlagOptOut]);
    assert_eq!((&erased.discarded, &erased.still_waiting), (&gone, &kept));
    for delivery in deliveries(&test, "theirs").await {
        let expected = match delivery.handler {
            HandlerName::RecordHistory => (DeliveryState::Done, None),
            HandlerName::RecordOptOut | HandlerName::FlagOptOut => (DeliveryState::Waiting, None),
            HandlerName::LogNote | HandlerName::CreateContact | HandlerName::SyncContact => {
                (DeliveryState::Discarded, Some("erased".to_owned()))
            }
        };
        assert_eq!((delivery.state, delivery.reason), expected, "{}", delivery.handler);
    }
    assert_eq!(deliveries(&test, "done").await[0].state, DeliveryState::Done);
    let waiting = deliveries(&test, "another's").await;
    assert_eq!(waiting.iter().filter(|delivery| delivery.state == DeliveryState::Waiting).count(), 5);
}

#[tokio::test]
async fn an_event_that_is_not_recorded_yet_is_found_by_the_next_run() {
    let test = TestStore::new().await;
    let event = event_at("a", at(0), NAMED);
    let routed = [HandlerName::LogNote, HandlerName::SyncContact, HandlerName::RecordHistory];
    let info = dead(DeadReason::Rejected, at(1));
    test.store.insert_dead_letter(&event, HandlerName::LogNote, &info, &routed).await.unwrap();

    let first = test.store.erase(&phone()).await.unwrap();
    test.store.record_events(&[(event.clone(), routed.to_vec())]).await.unwrap();
    let second = test.store.erase(&phone()).await.unwrap();

    assert_eq!(first.discarded, [(event.id.clone(), HandlerName::SyncContact)]);
    assert_eq!(first.still_waiting, [(event.id.clone(), HandlerName::RecordHistory)]);
    assert_eq!((second.payloads, second.still_waiting.len()), (1, 0));
    assert_eq!(test.store.event_payload(&event.id).await.unwrap(), Payload::Gone);
}

#[tokio::test]
async fn no_copy_of_an_erased_delivery_begins_and_none_becomes_a_dead_letter() {
    let test = TestStore::new().await;
    let event = event_at("a", at(0), NAMED);
    let handler = HandlerName::LogNote;
    test.store.record_events(&[(event.clone(), vec![handler])]).await.unwrap();
    assert_eq!(test.store.begin(&event, handler, 1, None).await.unwrap(), Begin::Go);

    test.store.erase(&phone()).await.unwrap();

    let info = dead(DeadReason::Rejected, at(9));
    test.store.insert_dead_letter(&event, handler, &info, &[]).await.unwrap();
    assert!(test.store.dead_letter(event.id.as_str()).await.unwrap().is_empty(), "it would hold the payload");
    for again in [None, Some(Again::Redrive), Some(Again::Replay)] {
        let begun = test.store.begin(&event, handler, 1, again).await.unwrap();
        assert_eq!(begun, Begin::AlreadySettled(DeliveryState::Discarded), "{again:?}");
    }
    let record = attempt(&event, handler, 1, Verdict::Done);
    test.store.finish(&record, Ending::Done, &[]).await.unwrap();
    assert_eq!(deliveries(&test, "a").await[0].state, DeliveryState::Done, "what was in flight is told as it was");
}

#[tokio::test]
async fn what_is_being_redriven_keeps_its_bytes_until_it_is_and_then_does_not_begin() {
    let test = TestStore::new().await;
    let event = event_at("a", at(0), NAMED);
    let handler = HandlerName::CreateContact;
    test.store.insert_dead_letter(&event, handler, &dead(DeadReason::Rejected, at(1)), &[]).await.unwrap();
    let id = test.store.dead_letter(event.id.as_str()).await.unwrap().remove(0).id;
    test.store.mark_redriving(&id).await.unwrap();

    let erased = test.store.erase(&phone()).await.unwrap();

    assert_eq!((erased.dead_letters, erased.discarded), (0, vec![(event.id.clone(), handler)]));
    assert!(test.store.mark_redriving(&id).await.unwrap().is_some(), "what crashed between can be finished");
    test.store.redriven(&id).await.unwrap();
    assert!(test.store.dead_letter(&id).await.unwrap().is_empty());
    let begun = test.store.begin(&event, handler, 1, Some(Again::Redrive)).await.unwrap();
    assert_eq!(begun, Begin::AlreadySettled(DeliveryState::Discarded));
}
