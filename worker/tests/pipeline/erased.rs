//! Erased deliveries don't wait for a gate to open, and deliveries that mention the person go on without their number.

use std::time::Duration;

use futures::future::join_all;
use hookline_common::event::EventId;
use hookline_common::names::{Destination, HandlerName};
use hookline_common::phone::Phone;
use hookline_common::secret::Secret;
use hookline_common::testing::nodes::RabbitNode;
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EffectKind, Endpoint};
use hookline_store::model::Payload;

use crate::helpers::{ACCOUNT, TestPipeline, ending, eventually, now, someone};
use crate::pauses::pause;

const RECEIVED: &str = "message.received";

async fn texts(pipeline: &TestPipeline, facts: impl IntoIterator<Item = SampleFacts>) -> Vec<EventId> {
    join_all(facts.into_iter().map(async |facts| {
        let body = sample(RECEIVED, &facts);
        pipeline.sandbox.learn(&body).expect("a sample's shape");
        pipeline.send(&body).await
    }))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_erased_deliveries_leave_the_queue_while_the_destination_is_paused() {
    let rabbit = RabbitNode::shared().await.vhost().await;
    for url in [Some(rabbit), None] {
        let is_rabbit = url.is_some();
        let pipeline = TestPipeline::with(|setup| {
            setup.settings.broker.url = url.map(Secret::new).into_iter().collect();
        })
        .await;
        let person = someone();
        pause(&pipeline).await;
        // More than a consumer prefetches at once.
        let others = texts(&pipeline, (0..150).map(|_| someone())).await;
        let theirs = texts(&pipeline, (0..5).map(|_| now(&person))).await;
        let mention = SampleFacts { body: format!("ask {}", person.phone), ..someone() };
        let mention = texts(&pipeline, [mention]).await;
        for id in others.iter().chain(&theirs).chain(&mention) {
            let is_kept = async || matches!(pipeline.store.event_payload(id).await, Ok(Payload::Here(_)));
            eventually("it is in the history", is_kept).await;
        }

        let erased = pipeline.store.erase(&Phone::parse(&person.phone).unwrap()).await.unwrap();

        assert_eq!((erased.discarded.len(), erased.masked), (theirs.len(), 1), "RabbitMQ: {is_rabbit}");
        eventually("no copy is left", async || pipeline.store.erased_copies().await.is_ok_and(|left| left == 0)).await;
        assert_eq!(pipeline.asked(Endpoint::GetMessage), [], "it is paused still");
        pipeline.store.resume_gate(Destination::TextUs).await.unwrap();
        for id in others.iter().chain(&mention) {
            assert_eq!(ending(&pipeline.settled(id).await, HandlerName::LogNote), "done");
        }
        for id in &theirs {
            assert_eq!(ending(&pipeline.settled(id).await, HandlerName::LogNote), "discarded: erased");
        }
        pipeline.quiet().await;
        assert_eq!(pipeline.notes().await.len(), others.len() + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opt_out_of_an_erased_person_goes_on_when_a_pause_ends_and_its_payload_goes_then() {
    let pipeline = TestPipeline::start().await;
    let person = someone();
    pause(&pipeline).await;
    // Its parked copy looks again in minutes.
    let id = pipeline.send_late(&sample("contact.opted_out", &person), Duration::from_secs(3600)).await;
    eventually("it is held", async || pipeline.store.held(Destination::TextUs).await.is_ok_and(|held| held == 1)).await;

    let erased = pipeline.store.erase(&Phone::parse(&person.phone).unwrap()).await.unwrap();
    assert_eq!((erased.payloads, erased.payloads_kept), (0, 1));
    pipeline.store.resume_gate(Destination::TextUs).await.unwrap();

    assert_eq!(ending(&pipeline.settled(&id).await, HandlerName::RecordOptOut), "done");
    assert_eq!(pipeline.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone), 1);
    let is_gone = async || matches!(pipeline.store.event_payload(&id).await, Ok(Payload::Gone));
    eventually("its payload is gone", is_gone).await;
}

#[tokio::test]
async fn a_note_that_waited_while_the_number_in_its_text_was_erased_is_written_without_it() {
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.handlers.log_note.message_lookup = hookline_common::settings::MessageLookup::None;
    })
    .await;
    // A claim in the store holds the note until the erasure is done.
    let mention = SampleFacts { body: "ask (202) 555-0147, please".to_owned(), ..someone() };
    let body = sample(RECEIVED, &mention);
    let message_id = body["message"]["id"].as_str().expect("an id").to_owned();
    let holder = EventId::parse("evt_00000000000000000000000000000001").expect("an id");
    let held = hookline_store::model::ClaimRequest {
        handler: HandlerName::LogNote,
        target: Destination::SystemOfRecord.as_str(),
        effect_key: &message_id,
        event_id: &holder,
        owner: "another",
        lease: Duration::from_secs(60),
        settle_after: Duration::ZERO,
    };
    let hookline_store::model::Claim::Fresh(token) = pipeline.store.claim(&held).await.unwrap() else {
        panic!("nobody else is at it")
    };
    let id = pipeline.send(&body).await;
    eventually("it waits", async || {
        pipeline.event(&id).await.is_some_and(|row| row.deliveries.iter().any(|one| one.attempts > 0))
    })
    .await;

    let erased = pipeline.store.erase(&Phone::parse("+12025550147").unwrap()).await.unwrap();
    pipeline.store.release(&token).await.unwrap();

    assert_eq!(erased.masked, 1);
    assert_eq!(ending(&pipeline.settled(&id).await, HandlerName::LogNote), "done");
    assert_eq!(pipeline.notes().await[0].note.body, "ask (***) ***-****, please");
}
