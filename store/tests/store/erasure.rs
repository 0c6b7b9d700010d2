use std::time::Duration;

use hookline_broker::Again;
use hookline_common::event::{Event, EventType};
use hookline_common::names::{DeadReason, DeliveryState, Destination, HandlerName, Verdict};
use hookline_common::phone::Phone;
use hookline_store::model::{
    AttemptRecord, Begin, Claim, ClaimRequest, ContactLink, DeadLetterFilter, DeliveryRow, Ending, Erased, NewNote,
    OptEvent, OptMethod, Overdue, Parked, Payload, PersonFacts,
};

use crate::helpers::{TestStore, add_note, at, attempt, dead, event_at, id_of, phone};

/// Payloads that are about the person, and the field that says so.
const NAMES_THEM: &[(&str, &str)] = &[
    ("a conversation", r#"{"conversation":{"phoneNumber":"+12025550147","accountPhoneNumber":"+18005550100"}}"#),
    ("an opt-out", r#"{"optOut":{"phoneNumber":"2025550147"}}"#),
    ("an opt-out's id", r#"{"optOut":{"id":"/acme/opt_outs/2025550147"}}"#),
    ("a contact's phones", r#"{"contact":{"id":"/contacts/Zz","phones":[{"number":"1-202-555-0147 x3"}]}}"#),
    ("a linked contact", r#"{"contact":"/contacts/Vx9kQ2"}"#),
    ("a linked contact, escaped", r#"{"contact":"\/contacts\/Vx9kQ2"}"#),
    ("an assigned contact", r#"{"conversation":{"assignedContact":{"id":"/contacts/Vx9kQ2"}}}"#),
    ("another of their numbers", r#"{"conversation":{"phoneNumber":"+442079460958"}}"#),
    ("what is no object", "2025550147"),
    ("what is no JSON", "STOP, says Ada Secretperson of (202) 555-0147"),
    ("cut off", r#"{"message":{"body":"my code is hunter2"},"conversation":{"phoneNumber":"+12025550147"#),
    ("cut off behind their contact", r#"{"message":{"body":"hunter2"},"contact":"\/contacts\/Vx9kQ2"#),
    ("cut within an emoji", r#"{"message":{"body":"\ud83d"},"conversation":{"phoneNumber":"+12025550147"}}"#),
];
/// Payloads that mention the person's number in a text, and the text after masking.
const MENTIONS_THEM: &[(&str, &str, &str)] = &[
    ("E.164", r#"{"body":"call +12025550147"}"#, r#"{"body":"call +***********"}"#),
    ("brackets", r#"{"body":"call (202) 555-0147"}"#, r#"{"body":"call (***) ***-****"}"#),
    ("dashes", r#"{"body":"1-202-555-0147!"}"#, r#"{"body":"*-***-***-****!"}"#),
    ("dots", r#"{"body":"202.555.0147"}"#, r#"{"body":"***.***.****"}"#),
    ("a number", r#"{"data":{"n":2025550147}}"#, r#"{"data":{"n":1000000000}}"#),
    (
        "another's conversation",
        r#"{"conversation":{"phoneNumber":"+12025550199"},"message":{"body":"ask +442079460958"}}"#,
        r#"{"conversation":{"phoneNumber":"+12025550199"},"message":{"body":"ask +************"}}"#,
    ),
];
const NAMES_NOBODY: &[(&str, &str)] = &[
    ("another number", r#"{"conversation":{"phoneNumber":"+12025550148"}}"#),
    ("digits that go on", r#"{"id":20255501471}"#),
    ("digits that begin before", r#"{"id":992025550147}"#),
    ("another contact", r#"{"contact":"/contacts/Vx9kQ2Y"}"#),
    ("another number, cut off", r#"{"conversation":{"phoneNumber":"+12025550148"#),
    ("another contact, cut off", r#"{"contact":"/contacts/Vx9kQ2Y""#),
    ("a text about the contact", r#"{"message":{"body":"see /contacts/Vx9kQ2"}}"#),
    ("several who share a number", r#"{"conversation":{"associatedContacts":["/contacts/Vx9kQ2","/contacts/B"]}}"#),
];

pub(crate) async fn with_records(test: &TestStore) {
    let facts = PersonFacts {
        contact_id: Some("/contacts/Vx9kQ2".to_owned()),
        phones: vec![phone(), Phone::parse("+442079460958").expect("a number")],
        name: Some("Ada Secretperson".to_owned()),
    };
    let (person, ..) = test.store.upsert_person(&facts).await.expect("the store answers");
    let note = NewNote { contact_id: facts.contact_id.clone(), ..note_of("/messages/1") };
    add_note(&test.store, &person.record_id, &note).await;
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

fn note_of(message_id: &str) -> NewNote {
    NewNote {
        message_id: message_id.to_owned(),
        event_id: id_of("note"),
        contact_id: None,
        phone: None,
        direction: "in".to_owned(),
        body: "my code is hunter2".to_owned(),
        occurred_at: at(0),
        business_number: None,
        user: None,
        thread_id: None,
    }
}

/// Claims the effect of creating the person's contact.
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
        .map(|(why, body)| (*why, *body))
        .chain(MENTIONS_THEM.iter().map(|(why, body, _)| (*why, *body)))
        .map(|(why, body)| (event_at(why, at(0), body.as_bytes()), Vec::new()))
        .collect();
    test.store.record_events(&all).await.unwrap();
    let event = event_at("a conversation", at(0), NAMES_THEM[0].1.as_bytes());
    test.store.insert_dead_letter(&event, HandlerName::LogNote, &dead(DeadReason::Rejected, at(1)), &[]).await.unwrap();

    let foretold = test.store.would_erase(&phone()).await.unwrap();
    let erased = test.store.erase(&phone()).await.unwrap();

    assert_eq!(foretold, Erased { log_kept: false, ..erased.clone() });
    for (why, _) in NAMES_THEM {
        assert_eq!(test.store.event_payload(&id_of(why)).await.unwrap(), Payload::Gone, "{why}");
        assert!(erased.event_ids.contains(&id_of(why)), "{why}");
    }
    let untouched = NAMES_NOBODY.iter().map(|(why, body)| (why, body));
    for (why, left) in untouched.chain(MENTIONS_THEM.iter().map(|(why, _, left)| (why, left))) {
        let Payload::Here(event) = test.store.event_payload(&id_of(why)).await.unwrap() else { panic!("{why}") };
        assert_eq!(std::str::from_utf8(&event.body).unwrap(), *left, "{why}");
    }
    assert_eq!((erased.masked, erased.numbers), (MENTIONS_THEM.len() as u64, 2));
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
async fn erasing_looks_through_a_table_of_many_windows() {
    let test = TestStore::new().await;
    with_records(&test).await;
    let body = |n: usize| match n % 450 {
        0 => NAMES_THEM[0].1,
        1 => MENTIONS_THEM[0].1,
        _ => NAMES_NOBODY[0].1,
    };
    let events: Vec<_> = (0..4_500)
        .map(|n| (event_at(&format!("many {n}"), at(0), body(n).as_bytes()), vec![HandlerName::LogNote]))
        .collect();
    for events in events.chunks(500) {
        test.store.record_events(events).await.unwrap();
    }
    let noted: Vec<String> = events.iter().skip(2).step_by(900).map(|(event, _)| format!("'{}'", event.id)).collect();
    let note = format!("UPDATE deliveries SET reason = 'call 2025550147' WHERE event_id IN ({})", noted.join(", "));
    sqlx::query(sqlx::AssertSqlSafe(note)).execute(&mut test.sql().await).await.unwrap();

    let erased = test.store.erase(&phone()).await.unwrap();

    assert_eq!(erased.payloads, 10);
    assert_eq!(erased.masked, 10 + 5, "payloads of others, and reasons");
    let left = "SELECT COUNT(*) FROM deliveries WHERE reason LIKE '%2025550147%'";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&mut test.sql().await).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn erasing_a_stranger_removes_nothing() {
    let test = TestStore::new().await;
    with_records(&test).await;

    let erased = test.store.erase(&Phone::parse("+442079460959").unwrap()).await.unwrap();

    assert_eq!((erased.payloads, erased.notes, erased.persons, erased.contact_links), (0, 0, 0, 0));
    assert_eq!(test.store.notes(10, None).await.unwrap().rows.len(), 1);
}

const NAMED: &[u8] = br#"{"conversation":{"phoneNumber":"+12025550147"}}"#;

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

#[tokio::test]
async fn an_opt_out_that_was_given_up_can_still_be_redriven() {
    let test = TestStore::new().await;
    let (name, body) = NAMES_THEM[1];
    for handler in [HandlerName::RecordOptOut, HandlerName::LogNote] {
        let event = event_at(&format!("{name} of {handler}"), at(0), body.as_bytes());
        let given_up = dead(DeadReason::Rejected, at(1));
        test.store.insert_dead_letter(&event, handler, &given_up, &[]).await.unwrap();
    }

    test.store.erase(&phone()).await.unwrap();

    for row in test.store.dead_letters(&DeadLetterFilter::default(), 9, None).await.unwrap().rows {
        let redriven = test.store.mark_redriving(&row.id).await.unwrap();
        assert_eq!(redriven.is_some(), row.handler == HandlerName::RecordOptOut, "{}", row.handler);
        if let Some((event, handler)) = redriven {
            test.store.redriven(&row.id).await.unwrap();
            assert_eq!(test.store.begin(&event, handler, 1, Some(Again::Redrive)).await.unwrap(), Begin::Go);
        }
    }
}

const OPT_OUT: &[u8] = br#"{"optOut":{"phoneNumber":"2025550147"}}"#;

async fn payload(test: &TestStore, event: &Event) -> Payload {
    test.store.event_payload(&event.id).await.expect("the store answers")
}

#[tokio::test]
async fn an_opt_out_that_a_pause_holds_keeps_its_payload_until_it_is_sent() {
    let test = TestStore::new().await;
    let event = event_at("held", at(0), OPT_OUT);
    let handlers = [HandlerName::RecordOptOut, HandlerName::FlagOptOut];
    test.store.record_events(&[(event.clone(), handlers.to_vec())]).await.unwrap();
    let parked = Parked {
        event_id: event.id.clone(),
        handler: HandlerName::RecordOptOut,
        attempt: 1,
        first_attempt_at: None,
        until: at(9_000),
        held_by: Some(Destination::TextUs),
    };
    test.store.park(&parked, None, &[]).await.unwrap();

    let foretold = test.store.would_erase(&phone()).await.unwrap();
    for run in ["once", "again"] {
        let erased = test.store.erase(&phone()).await.unwrap();
        assert_eq!((erased.payloads, erased.payloads_kept), (0, 1), "{run}");
        assert_eq!(foretold, Erased { log_kept: false, ..erased }, "{run}");
    }

    assert_eq!(test.store.erased_copies().await.unwrap(), 0, "no copy of them is to be dropped");
    assert!(!test.store.has_erased_copies(HandlerName::RecordOptOut).await.unwrap());
    assert_eq!(test.store.erased_copies_of(HandlerName::RecordOptOut, 9).await.unwrap(), []);
    let held = test.store.take_held(Destination::TextUs, 9).await.unwrap();
    assert_eq!(held.iter().map(|one| &one.event_id).collect::<Vec<_>>(), [&event.id], "it goes on at once");
    for handler in handlers {
        assert_eq!(test.store.empty_ended().await.unwrap(), 0, "before {handler}");
        assert!(matches!(payload(&test, &event).await, Payload::Here(_)), "before {handler}");
        assert_eq!(test.store.begin(&event, handler, 1, None).await.unwrap(), Begin::Go);
        test.store.finish(&attempt(&event, handler, 1, Verdict::Done), Ending::Done, &[]).await.unwrap();
    }
    assert_eq!(test.store.empty_ended().await.unwrap(), 1);
    assert_eq!(payload(&test, &event).await, Payload::Gone);
    assert_eq!(test.store.empty_ended().await.unwrap(), 0);
}

#[tokio::test]
async fn an_opt_out_that_nobody_began_is_published_anew_though_the_person_is_erased() {
    let test = TestStore::new().await;
    let event = event_at("lost", at(0), OPT_OUT);
    test.store.record_events(&[(event.clone(), vec![HandlerName::RecordOptOut])]).await.unwrap();
    test.store.erase(&phone()).await.unwrap();

    let at_once = Overdue { not_begun: Duration::ZERO, due: Duration::ZERO, again: Duration::from_secs(60) };
    let eventually = async || loop {
        let lost = test.store.take_undelivered(HandlerName::RecordOptOut, at_once, 9).await.unwrap();
        if !lost.is_empty() {
            return lost;
        }
    };
    let lost = tokio::time::timeout(Duration::from_secs(30), eventually()).await.expect("it is given");
    assert_eq!(lost[0].event_id, event.id);
}

#[tokio::test]
async fn an_opt_out_that_was_given_up_keeps_its_payload_until_a_person_has_decided() {
    let test = TestStore::new().await;
    let handler = HandlerName::RecordOptOut;
    let events = ["discarded", "redriven"].map(|name| event_at(name, at(0), OPT_OUT));
    for event in &events {
        test.store.record_events(&[(event.clone(), vec![handler])]).await.unwrap();
        test.store.insert_dead_letter(event, handler, &dead(DeadReason::Rejected, at(1)), &[]).await.unwrap();
    }
    let [discarded, redriven] = &events;
    let id = async |event: &Event| test.store.dead_letter(event.id.as_str()).await.unwrap().remove(0).id;

    let erased = test.store.erase(&phone()).await.unwrap();
    assert_eq!((erased.payloads, erased.payloads_kept), (0, 2));
    assert_eq!(test.store.empty_ended().await.unwrap(), 0);

    test.store.discard(&id(discarded).await, "asked by mail").await.unwrap();
    assert_eq!(test.store.empty_ended().await.unwrap(), 1);
    assert_eq!(payload(&test, discarded).await, Payload::Gone);

    let redrive = id(redriven).await;
    test.store.mark_redriving(&redrive).await.unwrap();
    test.store.redriven(&redrive).await.unwrap();
    assert_eq!(test.store.begin(redriven, handler, 1, Some(Again::Redrive)).await.unwrap(), Begin::Go);
    assert_eq!(test.store.empty_ended().await.unwrap(), 0, "a pause may hold it now");
    test.store.finish(&attempt(redriven, handler, 1, Verdict::Done), Ending::Done, &[]).await.unwrap();
    assert_eq!(test.store.empty_ended().await.unwrap(), 1);
    assert_eq!(payload(&test, redriven).await, Payload::Gone);
}

#[tokio::test]
async fn a_business_number_is_refused_and_never_taken_for_a_number_of_a_person_s() {
    let business = Phone::parse("+18005550100").unwrap();
    let by_event = TestStore::new().await;
    let body = br#"{"conversation":{"phoneNumber":"+12025550199","accountPhoneNumber":"+1 (800) 555-0100"}}"#;
    by_event.store.record_events(&[(event_at("others", at(0), body), vec![HandlerName::LogNote])]).await.unwrap();
    let by_note = TestStore::new().await;
    with_records(&by_note).await;
    by_note.execute("UPDATE records_notes SET business_number = '+18005550100'").await;

    for test in [&by_event, &by_note] {
        for asked in [test.store.erase(&business).await, test.store.would_erase(&business).await] {
            let refused = asked.unwrap_err().to_string();
            assert!(refused.contains("business number") && !refused.contains("8005550100"), "{refused}");
        }
    }
    assert!(matches!(by_event.store.event_payload(&id_of("others")).await.unwrap(), Payload::Here(_)));

    // Somebody wrote the business number into the person's contact.
    let facts = PersonFacts { contact_id: None, phones: vec![phone(), business], name: None };
    by_event.store.upsert_person(&facts).await.unwrap();
    let erased = by_event.store.erase(&phone()).await.unwrap();
    assert_eq!((erased.persons, erased.numbers, erased.payloads, erased.masked), (1, 1, 0, 0));
}

#[tokio::test]
async fn a_business_number_in_a_body_that_cannot_be_read_makes_it_nobody_s() {
    let business = Phone::parse("+18005550100").unwrap();
    let test = TestStore::new().await;
    let facts = PersonFacts { contact_id: None, phones: vec![phone(), business], name: None };
    test.store.upsert_person(&facts).await.unwrap();
    let readable = br#"{"conversation":{"phoneNumber":"+12025550199","accountPhoneNumber":"+1 (800) 555-0100"}}"#;
    let cut = br#"{"conversation":{"phoneNumber":"+12025550199","accountPhoneNumber":"+1 (800) 555-0100""#;
    let events = [("readable", &readable[..]), ("cut", &cut[..])];
    let events = events.map(|(name, body)| (event_at(name, at(0), body), vec![HandlerName::RecordHistory]));
    test.store.record_events(&events).await.unwrap();

    let erased = test.store.erase(&phone()).await.unwrap();

    assert_eq!((erased.payloads, erased.masked), (0, 0));
    let Payload::Here(kept) = test.store.event_payload(&id_of("cut")).await.unwrap() else { panic!("it is another's") };
    assert_eq!(&kept.body[..], cut);
}

#[tokio::test]
async fn an_unparsed_event_loses_its_body_and_its_dead_letter_s() {
    let test = TestStore::new().await;
    with_records(&test).await;
    let event =
        Event { event_type: EventType::unparsed(), ..event_at("cut", at(0), NAMED.strip_suffix(b"}}").unwrap()) };
    test.store.record_events(&[(event.clone(), vec![HandlerName::RecordHistory])]).await.unwrap();

    let erased = test.store.erase(&phone()).await.unwrap();

    assert_eq!((erased.payloads, erased.dead_letters, erased.masked), (1, 1, 0));
    assert_eq!(test.store.event_payload(&event.id).await.unwrap(), Payload::Gone);
    let dead_letter = test.store.dead_letter(event.id.as_str()).await.unwrap().remove(0);
    assert_eq!(dead_letter.info.reason, DeadReason::Unreadable, "that it happened stays");
    assert!(test.store.mark_redriving(&dead_letter.id).await.unwrap().is_none(), "but it cannot be redriven");
    assert_eq!(test.store.prove(&phone()).await.unwrap().len(), 1);
    assert_eq!(test.store.verify(None).await.unwrap().broken, None);
}

#[tokio::test]
async fn a_number_that_somebody_else_has_too_is_not_taken_for_the_person_s() {
    let test = TestStore::new().await;
    let (own, shared) = (phone(), Phone::parse("+12025550199").unwrap());
    for (id, phones) in [("/contacts/1", vec![own.clone(), shared.clone()]), ("/contacts/2", vec![shared.clone()])] {
        let facts = PersonFacts { contact_id: Some(id.to_owned()), phones, name: None };
        test.store.upsert_person(&facts).await.unwrap();
    }
    let theirs = br#"{"conversation":{"phoneNumber":"+12025550199","assignedContact":"/contacts/1"}}"#;
    let others = br#"{"conversation":{"phoneNumber":"+12025550199","assignedContact":"/contacts/2"}}"#;
    let events = [("theirs", &theirs[..]), ("others", &others[..])];
    let events = events.map(|(name, body)| (event_at(name, at(0), body), vec![HandlerName::LogNote]));
    test.store.record_events(&events).await.unwrap();

    let erased = test.store.erase(&own).await.unwrap();

    assert_eq!((erased.persons, erased.numbers), (1, 1));
    assert_eq!(erased.discarded, [(id_of("theirs"), HandlerName::LogNote)]);
    let people = test.store.find_person(None, Some(&shared)).await.unwrap();
    assert_eq!(people.iter().map(|person| person.contact_id.as_deref()).collect::<Vec<_>>(), [Some("/contacts/2")]);
    assert!(matches!(test.store.event_payload(&id_of("others")).await.unwrap(), Payload::Here(_)));

    let erased = test.store.erase(&shared).await.unwrap();
    assert_eq!((erased.persons, erased.discarded.len()), (1, 1), "asked for, it is theirs who have it");
}

#[tokio::test]
async fn what_waits_for_a_text_that_mentions_the_person_goes_on_with_the_masked_text() {
    let test = TestStore::new().await;
    let body = br#"{"message":{"body":"ask +12025550147"},"conversation":{"phoneNumber":"+12025550199"}}"#;
    let event = event_at("others", at(0), body);
    let routed = vec![HandlerName::LogNote, HandlerName::RecordHistory];
    test.store.record_events(&[(event.clone(), routed)]).await.unwrap();
    let (person, ..) =
        test.store.upsert_person(&PersonFacts { contact_id: None, phones: vec![], name: None }).await.unwrap();
    let note = NewNote { body: "ask 202-555-0147".to_owned(), ..note_of("/messages/other") };
    add_note(&test.store, &person.record_id, &note).await;
    let failed = AttemptRecord {
        detail: Some("no such person: (202) 555-0147".to_owned()),
        ..attempt(&event, HandlerName::LogNote, 1, Verdict::Parked)
    };
    test.store.log_attempt(&failed, &[]).await.unwrap();

    let erased = test.store.erase(&phone()).await.unwrap();

    assert_eq!((erased.masked, erased.discarded.len(), erased.payloads), (3, 0, 0));
    assert_eq!(test.store.notes(10, None).await.unwrap().rows[0].note.body, "ask ***-***-****");
    let attempts = test.store.event(&event.id).await.unwrap().unwrap().1;
    assert_eq!(attempts[0].detail.as_deref(), Some("no such person: (***) ***-****"));
    assert_eq!(test.store.begin(&event, HandlerName::LogNote, 1, None).await.unwrap(), Begin::GoMasked);
    // The broker's copy arrives as a dead letter.
    test.store.insert_dead_letter(&event, HandlerName::LogNote, &dead(DeadReason::Rejected, at(9)), &[]).await.unwrap();
    let id = test.store.dead_letter(event.id.as_str()).await.unwrap().remove(0).id;
    let (redriven, _) = test.store.mark_redriving(&id).await.unwrap().unwrap();
    assert!(std::str::from_utf8(&redriven.body).unwrap().contains("ask +***********"));
}

#[tokio::test]
async fn a_number_is_masked_in_every_text_beside_the_payloads() {
    const TEXTS: [(&str, &str, &str); 9] = [
        ("records_notes", "body", "ask +12025550147"),
        ("records_people", "name", "Ada (+12025550147)"),
        ("thread_messages", "body", "ask +12025550147"),
        ("thread_writes", "text", "ask +12025550147"),
        ("dead_letters", "detail", "no such person: +12025550147"),
        ("attempts", "detail", "no such person: +12025550147"),
        ("attempts", "requests", r#"[{"detail":"no +12025550147"}]"#),
        ("audit", "reason", "+12025550147 asked for it"),
        ("deliveries", "reason", "discarded for +12025550147"),
    ];
    let test = TestStore::new().await;
    let others = PersonFacts { contact_id: Some("/contacts/Other".to_owned()), phones: vec![], name: None };
    let (person, ..) = test.store.upsert_person(&others).await.unwrap();
    add_note(&test.store, &person.record_id, &note_of("/messages/other")).await;
    with_thread_of_another(&test).await;
    let event = event_at("others", at(0), b"{}");
    test.store.record_events(&[(event.clone(), vec![HandlerName::LogNote])]).await.unwrap();
    test.store.log_attempt(&attempt(&event, HandlerName::LogNote, 1, Verdict::Parked), &[]).await.unwrap();
    test.store.insert_dead_letter(&event, HandlerName::LogNote, &dead(DeadReason::Rejected, at(9)), &[]).await.unwrap();
    let mut sql = test.sql().await;
    sqlx::query("INSERT INTO audit (at_ms, action, subject) VALUES (0, 'discard', 'a')")
        .execute(&mut sql)
        .await
        .unwrap();
    for (table, column, words) in TEXTS {
        let statement = format!("UPDATE {table} SET {column} = '{words}'");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut sql).await.unwrap();
    }

    let foretold = test.store.would_erase(&phone()).await.unwrap().masked;
    let erased = test.store.erase(&phone()).await.unwrap();

    assert_eq!((foretold, erased.masked), (9, 9));
    for (table, column, words) in TEXTS {
        // An erasure adds a row of its own to the audit.
        let select = format!("SELECT {column} FROM {table} WHERE {column} IS NOT NULL");
        let left: String = sqlx::query_scalar(sqlx::AssertSqlSafe(select)).fetch_one(&mut sql).await.unwrap();
        assert_eq!(left, words.replace("12025550147", "***********"), "{table}.{column}");
    }
}

/// One message in a thread of somebody else's.
async fn with_thread_of_another(test: &TestStore) {
    test.execute(
        "INSERT INTO threads (thread_id, thread_key, number, account, phone, day, version, created_ms)
         VALUES ('t', 'k', 0, 'acme', '+12025550199', '2026-11-02', 1, 0)",
    )
    .await;
    test.execute(
        "INSERT INTO thread_messages (message_id, thread_id, version, event_id, event_ms, inbound, outcome, body, media,
             is_stop, occurred_ms, created_ms)
         VALUES ('/messages/t', 't', 1, 'evt_1', 0, 1, 'received', '', '[]', 0, 0, 0)",
    )
    .await;
    test.execute(
        "INSERT INTO thread_writes (write_id, thread_id, system, version, parts) VALUES ('t x', 't', 'x', 1, '[]')",
    )
    .await;
}

#[tokio::test]
async fn copies_that_the_broker_holds_are_counted_until_they_come() {
    let test = TestStore::new().await;
    let events = ["a", "b", "c"].map(|name| (event_at(name, at(0), NAMED), vec![HandlerName::LogNote]));
    test.store.record_events(&events).await.unwrap();
    test.store.erase(&phone()).await.unwrap();
    let ids: Vec<_> = events.iter().map(|(event, _)| event.id.clone()).collect();

    assert_eq!(test.store.erased_copies().await.unwrap(), 3);
    assert!(test.store.has_erased_copies(HandlerName::LogNote).await.unwrap());
    assert!(!test.store.has_erased_copies(HandlerName::SyncContact).await.unwrap());
    let among = test.store.erased_among(HandlerName::LogNote, &[ids[0].clone(), id_of("another")]).await.unwrap();
    assert_eq!(among.into_iter().collect::<Vec<_>>(), [ids[0].clone()]);

    test.store.begin(&events[0].0, HandlerName::LogNote, 1, None).await.unwrap();
    let info = dead(DeadReason::Rejected, at(9));
    test.store.insert_dead_letter(&events[1].0, HandlerName::LogNote, &info, &[]).await.unwrap();
    assert_eq!(test.store.erased_copies().await.unwrap(), 1);
    test.store.copies_gone(&[(ids[2].clone(), HandlerName::LogNote)]).await.unwrap();
    assert_eq!(test.store.erased_copies().await.unwrap(), 0);
}
