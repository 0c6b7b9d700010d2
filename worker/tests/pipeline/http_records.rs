//! The worker with the http connector, and a receiver that takes nothing but the documented documents.

use std::time::Duration;

use hookline_common::names::HandlerName::{FlagOptOut, LogNote, SyncContact};
use hookline_common::secret::Secret;
use hookline_common::settings::SystemOfRecordKind;
use hookline_sandbox::receiver::{Person, SECRET};
use hookline_sandbox::samples::SampleFacts;
use hookline_sandbox::{DocumentType, Fault, FaultRule, Receiver, ReceiverOptions};

use crate::helpers::{CALL_TIMEOUT, Setup, TestPipeline, ending, someone};

const RECEIVED: &str = "message.received";

/// Starts a worker that writes to this receiver.
async fn with(receiver: &Receiver) -> TestPipeline {
    let url = receiver.url().parse().expect("a URL");
    TestPipeline::with(|Setup { settings, .. }| {
        let own = &mut settings.system_of_record;
        (own.kind, own.update_every) = (SystemOfRecordKind::Http, Duration::from_millis(300));
        (own.http.url, own.http.secrets) = (Some(url), vec![Secret::new(SECRET)]);
        own.http.timeout = CALL_TIMEOUT;
    })
    .await
}

fn assert_proper(receiver: &Receiver) {
    let violations: Vec<String> = receiver.violations().into_iter().map(|violation| violation.what).collect();
    assert_eq!(violations, Vec::<String>::new());
}

fn text(person: &SampleFacts, body: &str) -> SampleFacts {
    SampleFacts { body: body.to_owned(), ..person.clone() }
}

#[tokio::test]
async fn every_text_is_in_its_threads_note_once_though_answers_are_lost() {
    for knows_people in [false, true] {
        let options = ReceiverOptions { knows_people, ..ReceiverOptions::default() };
        let receiver = Receiver::start(options).await.expect("a loopback port");
        let pipeline = with(&receiver).await;
        let person = someone();
        receiver.add_person(Person { id: "p1".to_owned(), phones: vec![person.phone.clone()], ..Person::default() });
        receiver.fault(FaultRule::new(Fault::EffectThenReset).on(DocumentType::ThreadWritten).times(2));
        receiver.fault(FaultRule::new(Fault::status(503)).on(DocumentType::PeopleFind).times(1));

        let mut sent = Vec::new();
        for body in ["Lilac wallpaper", "Amber doorbell", "Teal umbrella"] {
            sent.push(pipeline.send_known(RECEIVED, &text(&person, body)).await);
        }
        pipeline.quiet().await;

        for id in &sent {
            assert_eq!(ending(&pipeline.settled(id).await, LogNote), "done");
        }
        let threads = receiver.threads();
        let [thread] = threads.as_slice() else { panic!("{} threads", threads.len()) };
        for body in ["Lilac wallpaper", "Amber doorbell", "Teal umbrella"] {
            assert_eq!(thread.text.matches(body).count(), 1, "{}", thread.text);
        }
        let expected = if knows_people { "\"p1\"" } else { "null" };
        assert_eq!(thread.data["person"]["id"].to_string(), expected);
        assert_eq!(thread.data["person"]["phones"][0], person.phone.as_str());
        assert_proper(&receiver);
    }
}

#[tokio::test]
async fn a_known_person_is_not_asked_for_again() {
    let receiver = Receiver::start(ReceiverOptions::default()).await.expect("a loopback port");
    let pipeline = with(&receiver).await;
    let person = someone();
    receiver.add_person(Person { id: "p1".to_owned(), phones: vec![person.phone.clone()], ..Person::default() });
    pipeline.send_known(RECEIVED, &text(&person, "one")).await;
    pipeline.quiet().await;
    let asked = receiver.requests_to(DocumentType::PeopleFind);

    pipeline.send_known(RECEIVED, &text(&person, "two")).await;
    pipeline.quiet().await;

    assert_eq!(receiver.requests_to(DocumentType::PeopleFind), asked);
    assert_eq!(receiver.threads()[0].writes, 2);
    assert_proper(&receiver);
}

#[tokio::test]
async fn an_opt_out_and_a_contact_are_told() {
    let receiver = Receiver::start(ReceiverOptions::default()).await.expect("a loopback port");
    let pipeline = with(&receiver).await;
    let person = someone();

    let created = pipeline.send_known("contact.created", &person).await;
    pipeline.quiet().await;
    let opted_out = pipeline.send_known("contact.opted_out", &person).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&created).await, SyncContact), "done");
    let people = receiver.people();
    assert!(people.iter().any(|known| known.phones.contains(&person.phone)), "{people:?}");
    assert_eq!(ending(&pipeline.settled(&opted_out).await, FlagOptOut), "done");
    let states = receiver.opt_outs();
    assert!(states.iter().any(|state| state.phone.as_ref() == Some(&person.phone) && state.opted_out), "{states:?}");
    assert_proper(&receiver);
}

/// Opt-outs go to TextUs whatever the receiver says, and what waits for it is written once it is resumed.
#[tokio::test]
async fn a_410_holds_what_is_for_the_receiver_and_loses_nothing() {
    let options = ReceiverOptions { status: Some(410), ..ReceiverOptions::default() };
    let receiver = Receiver::start(options).await.expect("a loopback port");
    let pipeline = with(&receiver).await;
    let person = someone();
    let id = pipeline.send_known(RECEIVED, &text(&person, "Lilac wallpaper")).await;
    let paused = async || {
        let gates = pipeline.store.gates().await.expect("the store answers");
        gates.iter().any(|gate| gate.paused && gate.destination.as_str() == "system_of_record")
    };
    crate::helpers::eventually("the destination is paused", paused).await;

    receiver.configure(|options| options.status = None);
    receiver.add_person(Person { id: "p1".to_owned(), phones: vec![person.phone.clone()], ..Person::default() });
    let destination = hookline_common::names::Destination::SystemOfRecord;
    pipeline.store.resume_gate(destination).await.expect("the store answers");
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, LogNote), "done");
    assert_eq!(receiver.threads().len(), 1);
    assert!(pipeline.dead_letters().await.is_empty());
    assert_proper(&receiver);
}
