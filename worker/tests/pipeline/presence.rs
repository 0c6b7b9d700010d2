//! Questions that commands ask a running worker.

use hookline_common::names::Destination;
use hookline_common::names::HandlerName::RecordHistory;
use hookline_store::model::Question;

use crate::helpers::{TestPipeline, ending, eventually, someone};

async fn everybody_answered(pipeline: &TestPipeline, question: Question) -> bool {
    let answers = pipeline.store.answers(question).await.expect("the store answers");
    !answers.is_empty() && answers.iter().all(|worker| worker.answered)
}

#[tokio::test]
async fn once_a_pause_is_answered_no_call_is_started() {
    let pipeline = TestPipeline::start().await;
    pipeline.store.pause_gate(Destination::TextUs, "a test").await.unwrap();

    let question = pipeline.store.ask_workers().await.unwrap();
    eventually("an answer", async || everybody_answered(&pipeline, question).await).await;

    let id = pipeline.send_known("message.received", &someone()).await;
    eventually("its record", async || {
        let row = pipeline.event(&id).await;
        row.is_some_and(|row| ending(&row, RecordHistory) == "done")
    })
    .await;
    assert_eq!(pipeline.sandbox.requests().len(), 0);
    pipeline.store.resume_gate(Destination::TextUs).await.unwrap();
    pipeline.quiet().await;
    assert_eq!(pipeline.notes().await.len(), 1);
    let held = pipeline.store.ask_workers().await.unwrap();
    eventually("an answer", async || everybody_answered(&pipeline, held).await).await;
    assert_eq!(pipeline.store.answers(held).await.unwrap()[0].held_history, 0, "all of it is settled");
}

#[tokio::test]
async fn a_worker_that_ended_is_not_waited_for() {
    let pipeline = TestPipeline::start().await;
    eventually("the worker", async || pipeline.store.answers(Question::NONE).await.unwrap().len() == 1).await;

    pipeline.end();

    eventually("nobody", async || pipeline.store.answers(Question::NONE).await.unwrap().is_empty()).await;
}
