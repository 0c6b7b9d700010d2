//! Whatever is lost, a repeat has the same id and the same body.

use std::collections::BTreeSet;

use hookline_common::testing::events::an_event;
use hookline_sandbox::{DocumentType, Fault, FaultRule};
use hookline_worker::destinations::error::DestinationError;

use crate::helpers::{CONTACT, TestRecords, phone};

#[tokio::test]
async fn a_lost_answer_is_repeated_with_the_same_id_and_body() {
    for lost in [Fault::EffectThenReset, Fault::EffectThenStatus(500), Fault::Reset, Fault::status(502)] {
        let shown = format!("{lost:?}");
        let records = TestRecords::start().await;
        for kind in [DocumentType::ThreadWritten, DocumentType::PersonUpserted, DocumentType::OptOutChanged] {
            records.receiver.fault(FaultRule::new(lost.clone()).on(kind).times(2));
        }
        let send = async || {
            let connector = &records.connector;
            let note = connector.note().await.map(drop);
            let upsert = connector.upsert().await.map(drop);
            let opt_out = connector.opt_out().await.map(drop);
            [note, upsert, opt_out]
        };

        for _ in 0..2 {
            for lost in send().await {
                assert!(lost.unwrap_err().may_have_taken_effect(), "{shown}");
            }
        }
        for sent in send().await {
            sent.unwrap();
        }

        // The receiver records a violation where one id comes with two bodies, and counts the documents by id.
        records.assert_proper();
        let documents = records.receiver.documents();
        assert_eq!(documents.len(), 3, "{shown}");
        assert_eq!(records.asked(), 9, "{shown}");
        assert_eq!(records.receiver.threads()[0].writes, 1, "{shown}");
    }
}

#[tokio::test]
async fn another_process_repeats_the_same_document() {
    let records = TestRecords::start().await;
    records.connector.note().await.unwrap();
    let settings = crate::helpers::http_settings(&records.receiver.url());
    let another = crate::helpers::Connector::start(&settings, &records.store_dir).await;

    another.note().await.unwrap();

    let documents = records.receiver.documents();
    assert_eq!((documents.len(), documents[0].times), (1, 2));
}

#[tokio::test]
async fn a_receiver_that_says_409_to_repeats_is_content() {
    let records = TestRecords::with(|receiver| receiver.conflict_on_repeat = true, |_| {}).await;
    records.receiver.fault(FaultRule::new(Fault::EffectThenReset).times(3));
    records.connector.note().await.unwrap_err();
    records.connector.upsert().await.unwrap_err();
    records.connector.opt_out().await.unwrap_err();

    assert_eq!(records.connector.note().await.unwrap(), "thread_0011");
    assert!(!records.connector.opt_out().await.unwrap());
    // The answer with the id was lost, so the person is asked for.
    let (id, changed) = records.connector.upsert().await.unwrap();

    assert_eq!((id.as_str(), changed), (records.receiver.people()[0].id.as_str(), false));
    assert_eq!(records.requests_to(DocumentType::PeopleFind), 1);
    records.assert_proper();
}

#[tokio::test]
async fn a_person_told_by_another_event_is_another_document() {
    let mut records = TestRecords::start().await;
    records.connector.upsert().await.unwrap();
    let mut event = an_event("contact.created");
    event.received_at = event.received_at.plus(std::time::Duration::from_secs(60));
    records.connector.with_event(event);

    records.connector.upsert().await.unwrap();

    assert_eq!(records.receiver.documents().len(), 2);
    assert_eq!(records.receiver.people().len(), 1);
}

/// A receiver that recognises documents by their id must answer each question.
#[tokio::test]
async fn no_two_questions_have_the_same_id() {
    let records = TestRecords::with(|receiver| receiver.conflict_on_repeat = true, |_| {}).await;

    let asked = (0..20).map(|_| records.connector.find(Some(CONTACT), None));
    for people in futures::future::join_all(asked).await {
        people.unwrap_or_else(|error| panic!("{error}"));
    }

    let ids: BTreeSet<String> = records.receiver.documents().into_iter().map(|document| document.id).collect();
    assert_eq!(ids.len(), 20);
    records.assert_proper();
}

#[tokio::test]
async fn a_question_that_is_done_already_goes_to_a_person() {
    let records = TestRecords::start().await;
    records.answer_once(409, &[], "");

    let Err(error) = records.connector.find(None, Some(&phone())).await else { panic!("it is no answer") };

    assert!(matches!(error, DestinationError::Rejected { status: 409, .. }), "{error:?}");
    assert!(error.to_string().contains("a question is not done already"), "{error}");
}
