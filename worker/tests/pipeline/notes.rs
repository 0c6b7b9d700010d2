//! A text becomes one note, fetched with a GET in whichever form the account answers.

use std::time::{Duration, Instant};

use futures::future::join_all;
use hookline_common::names::HandlerName::LogNote;
use hookline_common::settings::{MessageLookup, OnUnknownContact};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{Endpoint, Fault, FaultRule, MessageForm, Related};
use serde_json::json;

use crate::helpers::{ACCOUNT, CALL_TIMEOUT, Setup, TestPipeline, attempts, ending, eventually, someone};

const RECEIVED: &str = "message.received";
const DELIVERED: &str = "message.delivered";

async fn with_forms(lookup: MessageLookup, form: MessageForm) -> TestPipeline {
    TestPipeline::with(|Setup { settings, sandbox }| {
        settings.handlers.log_note.message_lookup = lookup;
        settings.handlers.log_note.not_found_grace = Duration::from_millis(50);
        sandbox.message_form = form;
    })
    .await
}

#[tokio::test]
async fn each_way_of_looking_finds_the_message_where_the_account_answers_that_form() {
    use MessageForm::{Both, ByContactId, ByMessageId};
    use MessageLookup::{Auto, Contact, Message};
    for (lookup, form, found) in [
        (Auto, ByMessageId, true),
        (Auto, ByContactId, true),
        (Auto, Both, true),
        (Message, ByMessageId, true),
        (Message, Both, true),
        (Message, ByContactId, false),
        (Contact, ByContactId, true),
        (Contact, Both, true),
        (Contact, ByMessageId, false),
    ] {
        for embed_contact in [true, false] {
            let case = format!("{lookup:?} {form:?} embedded: {embed_contact}");
            let pipeline = with_forms(lookup, form).await;
            let mut person = SampleFacts { embed_contact, ..someone() };
            if !embed_contact {
                let id = pipeline.sandbox.add_contact(ACCOUNT, &person.contact_name, &person.phone);
                person.contact_id = id.trim_start_matches("/contacts/").to_owned();
            }

            let id = pipeline.send_known(RECEIVED, &person).await;
            pipeline.quiet().await;

            let end = ending(&pipeline.settled(&id).await, LogNote);
            assert_eq!(end, if found { "done" } else { "dead_lettered: not_found" }, "{case}");
            assert_eq!(pipeline.notes().await.len(), usize::from(found), "{case}");
            if found {
                let note = pipeline.notes().await.remove(0).note;
                assert_eq!((note.body.as_str(), note.direction.as_str()), (person.body.as_str(), "in"), "{case}");
                assert_eq!(note.phone.as_deref(), Some(person.phone.as_str()), "{case}");
                assert_eq!(note.business_number.as_deref(), Some(person.account_phone.as_str()), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn auto_remembers_the_form_that_works_and_asks_once_per_message_then() {
    for form in [MessageForm::ByMessageId, MessageForm::ByContactId] {
        let pipeline = with_forms(MessageLookup::Auto, form).await;
        let first = SampleFacts { embed_contact: true, ..someone() };
        pipeline.send_known(RECEIVED, &first).await;
        pipeline.quiet().await;
        pipeline.sandbox.clear_requests();

        for _ in 0..5 {
            let person = SampleFacts { embed_contact: true, ..someone() };
            pipeline.send_known(RECEIVED, &person).await;
        }
        pipeline.quiet().await;

        assert_eq!(pipeline.asked(Endpoint::GetMessage).len(), 5, "{form:?}");
        assert_eq!(pipeline.notes().await.len(), 6, "{form:?}");
    }
}

#[tokio::test]
async fn an_answer_about_another_message_is_not_taken_for_this_one() {
    let pipeline = with_forms(MessageLookup::Contact, MessageForm::ByContactId).await;
    let person = SampleFacts { embed_contact: true, ..someone() };
    let earlier = sample(RECEIVED, &person);
    pipeline.sandbox.learn(&earlier).unwrap();
    // A look-up by contact answers with a newer text of the same person.
    let later = SampleFacts { timestamp: person.timestamp + Duration::from_secs(5), ..person.clone() };
    pipeline.sandbox.learn(&sample(RECEIVED, &later)).unwrap();

    let id = pipeline.send(&earlier).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, LogNote), "dead_lettered: not_found");
    assert_eq!(pipeline.notes().await.len(), 0);
}

#[tokio::test]
async fn with_no_look_up_the_signed_payload_is_enough_and_no_call_is_made() {
    let pipeline = with_forms(MessageLookup::None, MessageForm::ByMessageId).await;
    let person = someone();

    let id = pipeline.send_sample(RECEIVED, &person).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, LogNote), "done");
    assert_eq!(pipeline.sandbox.requests(), []);
    assert_eq!(pipeline.notes().await[0].note.body, person.body);
}

#[tokio::test]
async fn a_message_that_is_younger_than_its_webhook_is_found_within_the_grace() {
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.handlers.log_note.not_found_grace = Duration::from_secs(30);
    })
    .await;
    let body = sample(RECEIVED, &someone());

    let id = pipeline.send(&body).await;
    eventually("asked in vain", async || {
        pipeline.asked(Endpoint::GetMessage).iter().any(|get| get.status == Some(404))
    })
    .await;
    pipeline.sandbox.learn(&body).unwrap();
    pipeline.quiet().await;

    let row = pipeline.settled(&id).await;
    assert_eq!(ending(&row, LogNote), "done");
    assert!(attempts(&row, LogNote) >= 2);
    assert_eq!(pipeline.notes().await.len(), 1);
}

#[tokio::test]
async fn a_message_that_does_not_come_within_the_grace_is_a_dead_letter_until_it_is_redriven() {
    let pipeline = with_forms(MessageLookup::Auto, MessageForm::ByMessageId).await;
    let body = sample(RECEIVED, &someone());

    let id = pipeline.send(&body).await;
    let dead = pipeline.dead_letter().await;
    assert_eq!(dead.info.reason.as_str(), "not_found");
    assert_eq!(dead.info.status, Some(404));
    pipeline.sandbox.learn(&body).unwrap();
    pipeline.redrive(&dead.id).await;
    eventually("the note", async || pipeline.notes().await.len() == 1).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, LogNote), "done");
}

#[tokio::test]
async fn a_message_that_comes_under_a_new_delivery_id_is_skipped_without_a_second_get() {
    let pipeline = TestPipeline::start().await;
    let body = sample(RECEIVED, &someone());
    pipeline.sandbox.learn(&body).unwrap();
    pipeline.send(&body).await;
    pipeline.quiet().await;
    let asked = pipeline.sandbox.requests().len();

    let mut again = body.clone();
    again["id"] = json!("/integrations/Lp4Xv9/deliveries/another");
    let id = pipeline.send(&again).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, LogNote), "skipped: duplicate");
    assert_eq!(pipeline.sandbox.requests().len(), asked);
    assert_eq!(pipeline.notes().await.len(), 1);
}

#[tokio::test]
async fn received_and_delivered_of_one_message_at_once_are_one_note() {
    let pipeline = TestPipeline::start().await;
    let person = someone();
    let received = sample(RECEIVED, &person);
    let mut delivered = sample(DELIVERED, &person);
    delivered["message"]["id"] = received["message"]["id"].clone();
    pipeline.sandbox.learn(&received).unwrap();

    let ids = join_all([pipeline.send(&received), pipeline.send(&delivered)]).await;
    pipeline.quiet().await;

    assert_eq!(pipeline.notes().await.len(), 1);
    let mut ends = Vec::new();
    for id in &ids {
        ends.push(ending(&pipeline.settled(id).await, LogNote));
    }
    ends.sort();
    assert_eq!(ends, ["done", "skipped: duplicate"]);
}

#[tokio::test]
async fn useless_answers_are_asked_for_again_and_the_note_is_written_once() {
    for fault in [
        Fault::GarbageBody,
        Fault::HugeBody(64 * 1024 * 1024),
        Fault::TruncatedBody,
        Fault::DripBody(Duration::from_millis(100)),
        Fault::Reset,
        Fault::Hang(Duration::from_secs(2)),
        Fault::Status { status: 204, headers: Vec::new(), body: None },
        Fault::Status { status: 200, headers: Vec::new(), body: Some("[]".to_owned()) },
    ] {
        let case = format!("{fault:?}");
        let pipeline = TestPipeline::start().await;
        pipeline.sandbox.fault(FaultRule::new(fault).on(Endpoint::GetMessage).times(2));

        let clock = Instant::now();
        let id = pipeline.send_known(RECEIVED, &someone()).await;
        pipeline.quiet().await;

        let row = pipeline.settled(&id).await;
        assert_eq!(ending(&row, LogNote), "done", "{case}");
        assert_eq!(attempts(&row, LogNote), 3, "{case}");
        assert_eq!(pipeline.notes().await.len(), 1, "{case}");
        assert!(clock.elapsed() < CALL_TIMEOUT * 2 + Duration::from_secs(8), "{case}: {:?}", clock.elapsed());
    }
}

#[tokio::test]
async fn a_stranger_is_created_skipped_or_left_to_a_person_as_configured() {
    for (choice, end) in [
        (OnUnknownContact::Create, "done"),
        (OnUnknownContact::Skip, "skipped: unknown_contact"),
        (OnUnknownContact::DeadLetter, "dead_lettered: unknown_contact"),
    ] {
        let pipeline =
            TestPipeline::with(|setup| setup.settings.handlers.log_note.on_unknown_contact = Some(choice)).await;

        let id = pipeline.send_known(RECEIVED, &someone()).await;
        pipeline.quiet().await;

        assert_eq!(ending(&pipeline.settled(&id).await, LogNote), end);
        let made = usize::from(choice == OnUnknownContact::Create);
        assert_eq!((pipeline.notes().await.len(), pipeline.people().await.len()), (made, made), "{choice:?}");
    }
}

#[tokio::test]
async fn a_text_of_a_short_code_or_a_name_is_nobodys_and_never_unreadable() {
    for (choice, code, nobody) in [
        (OnUnknownContact::Create, "skipped: unknown_contact", "dead_lettered: unknown_contact"),
        (OnUnknownContact::Skip, "skipped: unknown_contact", "skipped: unknown_contact"),
        (OnUnknownContact::DeadLetter, "dead_lettered: unknown_contact", "dead_lettered: unknown_contact"),
    ] {
        let pipeline = TestPipeline::with(|setup| {
            setup.settings.handlers.log_note.on_unknown_contact = Some(choice);
            setup.settings.handlers.log_note.message_lookup = MessageLookup::None;
        })
        .await;
        let mut sent = Vec::new();
        for (sender, end) in [
            (json!("72975"), code),
            (json!(72975), code),
            (json!("MYBANK"), code),
            (json!(""), nobody),
            (json!(null), nobody),
        ] {
            let mut body = sample(RECEIVED, &someone());
            body["conversation"]["phoneNumber"] = sender.clone();
            sent.push((pipeline.send(&body).await, sender, end));
        }
        // A contact assigned to the conversation is a person.
        let mut known = sample(RECEIVED, &SampleFacts { embed_contact: true, ..someone() });
        known["conversation"]["phoneNumber"] = json!("72975");
        let known = pipeline.send(&known).await;
        pipeline.quiet().await;

        for (id, sender, end) in sent {
            assert_eq!(ending(&pipeline.settled(&id).await, LogNote), end, "{choice:?} {sender}");
        }
        if choice == OnUnknownContact::Create {
            assert_eq!(ending(&pipeline.settled(&known).await, LogNote), "done");
            assert_eq!(pipeline.notes().await.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_text_that_was_cut_within_an_emoji_is_a_note() {
    for lookup in [MessageLookup::None, MessageLookup::Auto] {
        let pipeline = TestPipeline::with(|setup| setup.settings.handlers.log_note.message_lookup = lookup).await;
        let person = SampleFacts { body: "See you CUT \u{0} tomorrow".to_owned(), ..someone() };
        let body = sample(RECEIVED, &person);
        pipeline.sandbox.learn(&body).expect("a sample's shape");
        let bytes = body.to_string().replace("CUT", "\\ud83d");

        let id = pipeline.send_bytes(&bytes).await;
        pipeline.quiet().await;

        assert_eq!(ending(&pipeline.settled(&id).await, LogNote), "done");
        let note = pipeline.notes().await.remove(0).note;
        let sent = if lookup == MessageLookup::None {
            "See you \u{fffd} \u{fffd} tomorrow"
        } else {
            "See you CUT \u{fffd} tomorrow"
        };
        assert_eq!(note.body, sent);
    }
}

#[tokio::test]
async fn many_texts_of_one_new_person_at_once_make_one_person() {
    for related in [Related::Embedded, Related::Links] {
        let pipeline = TestPipeline::with(|setup| setup.sandbox.related = related).await;
        let person = someone();
        pipeline.sandbox.add_contact(ACCOUNT, &person.contact_name, &person.phone);

        let bodies: Vec<_> = (0..16).map(|_| sample(RECEIVED, &person)).collect();
        for body in &bodies {
            pipeline.sandbox.learn(body).unwrap();
        }
        join_all(bodies.iter().map(|body| pipeline.send(body))).await;
        pipeline.quiet().await;

        assert_eq!(pipeline.notes().await.len(), 16, "{related:?}");
        assert_eq!(pipeline.people().await.len(), 1, "{related:?}");
    }
}
