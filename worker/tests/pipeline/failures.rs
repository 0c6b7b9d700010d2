//! Failures that pass, failures that don't, and what a person can do about the latter.

use std::time::Duration;

use futures::future::join_all;
use hookline_common::event::EventId;
use hookline_common::names::HandlerName::{CreateContact, LogNote, RecordOptOut};
use hookline_sandbox::{EffectKind, Endpoint, Fault, FaultRule};
use hookline_store::model::DeadLetterRow;

use crate::helpers::{ACCOUNT, TestPipeline, attempts, ending, eventually, someone};

const OUT: &str = "contact.opted_out";
const RECEIVED: &str = "message.received";
const CREATED: &str = "contact.created";

fn refusal(status: u16, body: &str) -> Fault {
    Fault::Status { status, headers: Vec::new(), body: Some(body.to_owned()) }
}

#[tokio::test]
async fn bursts_of_server_errors_are_ridden_out_and_every_attempt_is_shown() {
    let pipeline = TestPipeline::start().await;
    for (status, times) in [(500, 2), (502, 1), (503, 1), (504, 1), (408, 1), (425, 1)] {
        pipeline.sandbox.fault(FaultRule::new(Fault::status(status)).on(Endpoint::PutOptOut).times(times));
    }
    let person = someone();

    let id = pipeline.send_sample(OUT, &person).await;
    pipeline.quiet().await;

    let (row, log) = pipeline.store.event(&id).await.unwrap().expect("in the history");
    assert_eq!((ending(&row, RecordOptOut).as_str(), attempts(&row, RecordOptOut)), ("done", 6));
    let shown: Vec<(u32, &str, Option<u16>)> = log
        .iter()
        .filter(|attempt| attempt.handler == RecordOptOut)
        .map(|attempt| (attempt.attempt, attempt.verdict.as_str(), attempt.requests[0].status))
        .collect();
    assert_eq!(
        shown,
        [
            (1, "parked", Some(500)),
            (2, "parked", Some(500)),
            (3, "parked", Some(502)),
            (4, "parked", Some(503)),
            (5, "parked", Some(504)),
            (6, "parked", Some(408)),
            // Five failures in a row opened the breaker; its probes don't count as attempts.
            (6, "parked", Some(425)),
            (6, "done", Some(201)),
        ]
    );
    assert!(log.iter().flat_map(|attempt| &attempt.requests).all(|request| !request.path.contains(&person.phone[2..])));
}

#[tokio::test]
async fn retries_end_after_the_configured_attempts_and_a_redrive_starts_anew() {
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.handlers.log_note.basics.retry.max_attempts = 3;
    })
    .await;
    pipeline.sandbox.fault(FaultRule::new(Fault::status(503)).on(Endpoint::GetMessage).times(3));

    let id = pipeline.send_known(RECEIVED, &someone()).await;
    let dead = pipeline.dead_letter().await;
    assert_eq!((dead.info.reason.as_str(), dead.info.attempts, dead.info.status), ("attempts_exhausted", 3, Some(503)));
    pipeline.redrive(&dead.id).await;
    eventually("the note", async || pipeline.notes().await.len() == 1).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, LogNote), "done");
    assert_eq!(pipeline.dead_letters().await, []);
}

#[tokio::test]
async fn retries_end_when_the_delivery_is_too_old() {
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.handlers.record_opt_out.basics.retry.max_age = Duration::from_millis(300);
    })
    .await;
    // Only this event fails, not the destination: behind an open breaker nothing ages.
    pipeline.sandbox.fault(FaultRule::new(Fault::status(425)).on(Endpoint::PutOptOut));

    let id = pipeline.send_sample(OUT, &someone()).await;
    let dead = pipeline.dead_letter().await;
    pipeline.quiet().await;

    assert_eq!(dead.info.reason.as_str(), "too_old");
    assert!(dead.info.attempts >= 2, "{dead:?}");
    assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "dead_lettered: too_old");
}

#[tokio::test]
async fn a_refusal_is_a_dead_letter_with_its_words_and_nothing_personal_and_goes_through_when_redriven() {
    let pipeline = TestPipeline::start().await;
    let person = someone();
    let words = format!(
        r#"{{"error":"Number {} of {} <secret-canary@example.com> is blocked by the carrier"}}"#,
        person.phone, person.contact_name
    );
    pipeline.sandbox.fault(FaultRule::new(refusal(400, &words)).on(Endpoint::PutOptOut).times(1));

    let id = pipeline.send_sample(OUT, &person).await;
    let dead = pipeline.dead_letter().await;

    assert_eq!((dead.info.reason.as_str(), dead.info.status, dead.info.attempts), ("rejected", Some(400), 1));
    assert_eq!(dead.info.destination.map(|destination| destination.as_str()), Some("textus"));
    assert!(dead.info.detail.contains("is blocked by the carrier"), "{}", dead.info.detail);
    assert!(!dead.info.detail.contains("canary"), "{}", dead.info.detail);
    assert!(!dead.info.detail.contains(&person.phone[2..]), "{}", dead.info.detail);

    pipeline.redrive(&dead.id).await;
    eventually("the PUT", async || pipeline.effects(EffectKind::OptOutPut).len() == 1).await;
    eventually("no dead letter", async || pipeline.dead_letters().await.is_empty()).await;
    pipeline.quiet().await;
    assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "done");
}

#[tokio::test]
async fn a_dead_letter_that_fails_again_is_a_dead_letter_again_and_once() {
    let pipeline = TestPipeline::start().await;
    pipeline.sandbox.fault(FaultRule::new(refusal(400, r#"{"error":"no"}"#)).on(Endpoint::PutOptOut).times(2));

    let id = pipeline.send_sample(OUT, &someone()).await;
    let first = pipeline.dead_letter().await;
    pipeline.redrive(&first.id).await;
    eventually("the second PUT", async || pipeline.asked(Endpoint::PutOptOut).len() == 2).await;
    let second = pipeline.dead_letter().await;
    pipeline.quiet().await;

    assert_eq!(second.event_id, id);
    assert!(second.info.dead_lettered_at > first.info.dead_lettered_at);
    assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "dead_lettered: rejected");
}

#[tokio::test]
async fn a_discarded_dead_letter_is_gone_for_good_and_accounted_for() {
    let pipeline = TestPipeline::start().await;
    pipeline.sandbox.fault(FaultRule::new(refusal(400, r#"{"error":"no"}"#)).on(Endpoint::PutOptOut).times(1));

    let id = pipeline.send_sample(OUT, &someone()).await;
    let dead = pipeline.dead_letter().await;
    assert!(pipeline.store.discard(&dead.id, "the number was mistyped").await.unwrap());
    pipeline.quiet().await;

    let end = ending(&pipeline.settled(&id).await, RecordOptOut);
    assert!(end.starts_with("discarded"), "{end}");
    assert_eq!(pipeline.dead_letters().await, []);
    assert_eq!(pipeline.effects(EffectKind::OptOutPut), []);
}

/// Makes a POST without an answer, followed by look-ups that are refused, so that only a person can tell the outcome.
async fn outcome_unknown(pipeline: &TestPipeline, lost: Fault) -> (EventId, String, DeadLetterRow) {
    let person = someone();
    pipeline.sandbox.fault(FaultRule::new(lost).on(Endpoint::CreateContact).times(1));
    // The look-up before the POST is answered.
    let refused = refusal(400, r#"{"error":"search is switched off"}"#);
    pipeline.sandbox.fault(FaultRule::new(refused).on(Endpoint::FindConversation).skip(1));
    let id = pipeline.send_sample(CREATED, &person).await;
    let dead = pipeline.dead_letter().await;
    (id, person.phone, dead)
}

#[tokio::test]
async fn a_write_of_which_nobody_can_tell_whether_it_was_made_waits_for_a_person() {
    let pipeline = TestPipeline::with(|setup| setup.sandbox.echoes = false).await;

    let (id, phone, dead) = outcome_unknown(&pipeline, Fault::EffectThenReset).await;

    assert_eq!(dead.info.reason.as_str(), "outcome_unknown");
    assert_eq!(pipeline.asked(Endpoint::CreateContact).len(), 1, "no blind repeat");
    assert!(pipeline.store.resolve_done(&dead.id).await.unwrap());
    pipeline.quiet().await;
    assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "done");
    assert_eq!(pipeline.sandbox.effect_count(EffectKind::ContactCreated, ACCOUNT, &phone), 1);
}

#[tokio::test]
async fn a_person_may_have_the_write_made_again_although_it_still_cannot_be_looked_up() {
    let pipeline = TestPipeline::with(|setup| setup.sandbox.echoes = false).await;
    let (id, phone, dead) = outcome_unknown(&pipeline, Fault::Reset).await;
    assert_eq!(dead.info.reason.as_str(), "outcome_unknown");
    assert_eq!(pipeline.effects(EffectKind::ContactCreated), []);

    assert!(pipeline.store.resolve_write_again(&dead.id).await.unwrap());
    pipeline.redrive(&dead.id).await;
    eventually("the POST", async || pipeline.sandbox.effect_count(EffectKind::ContactCreated, ACCOUNT, &phone) == 1)
        .await;
    eventually("no dead letter", async || pipeline.dead_letters().await.is_empty()).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "done");
    assert_eq!(pipeline.asked(Endpoint::CreateContact).len(), 2);
}

#[tokio::test]
async fn a_person_may_have_the_write_made_again_once_it_can_be_looked_up() {
    let pipeline = TestPipeline::with(|setup| setup.sandbox.echoes = false).await;
    let (id, phone, dead) = outcome_unknown(&pipeline, Fault::Reset).await;
    pipeline.sandbox.clear_faults();

    assert!(pipeline.store.resolve_write_again(&dead.id).await.unwrap());
    pipeline.redrive(&dead.id).await;
    eventually("the POST", async || pipeline.sandbox.effect_count(EffectKind::ContactCreated, ACCOUNT, &phone) == 1)
        .await;
    eventually("no dead letter", async || pipeline.dead_letters().await.is_empty()).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "done");
}

#[tokio::test]
async fn one_handlers_backlog_does_not_hold_up_an_opt_out() {
    let pipeline = TestPipeline::with(|setup| setup.sandbox.echoes = false).await;
    pipeline.sandbox.fault(FaultRule::new(Fault::status(503)).on(Endpoint::GetMessage));
    let notes = join_all((0..40).map(|_| async { pipeline.send_known(RECEIVED, &someone()).await })).await;

    let opt_out = pipeline.send_sample(OUT, &someone()).await;

    assert_eq!(ending(&pipeline.settled(&opt_out).await, RecordOptOut), "done");
    assert_eq!(pipeline.notes().await.len(), 0, "while the notes still fail");
    pipeline.sandbox.clear_faults();
    pipeline.quiet().await;
    assert_eq!(pipeline.notes().await.len(), notes.len());
}
