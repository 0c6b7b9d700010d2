//! Deliveries that a pause holds are recorded at once, come back rarely, and go on when the pause ends.

use std::time::Duration;

use futures::future::join_all;
use hookline_common::event::EventId;
use hookline_common::names::Destination;
use hookline_common::names::HandlerName::RecordOptOut;
use hookline_common::secret::Secret;
use hookline_common::testing::nodes::{PostgresNode, RabbitNode};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EffectKind, Endpoint};

use crate::helpers::{ACCOUNT, TestPipeline, attempts, ending, eventually, someone};

/// Age of an opt-out at which it comes back only after minutes.
const LATE: Duration = Duration::from_secs(3600);

async fn opt_outs_that_waited(pipeline: &TestPipeline, people: &[SampleFacts]) -> Vec<EventId> {
    join_all(people.iter().map(|person| async { pipeline.send_late(&sample("contact.opted_out", person), LATE).await }))
        .await
}

/// Does what `hookline pause` does. The worker has seen the pause when this returns.
pub(crate) async fn pause(pipeline: &TestPipeline) {
    pipeline.store.pause_gate(Destination::TextUs, "maintenance").await.expect("written down");
    let question = pipeline.store.ask_workers().await.expect("written down");
    eventually("the worker has seen it", async || {
        let answers = pipeline.store.answers(question).await.unwrap_or_default();
        !answers.is_empty() && answers.iter().all(|worker| worker.answered)
    })
    .await;
}

async fn each_is_held(pipeline: &TestPipeline, people: &[SampleFacts]) {
    for person in people {
        eventually("its record", async || !pipeline.evidence(&person.phone).await.is_empty()).await;
    }
    // Others see each delivery as parked for the pause.
    eventually("all are held", async || {
        let Ok(held) = pipeline.store.held(Destination::TextUs).await else { return false };
        u64::try_from(people.len()).is_ok_and(|all| all == held)
    })
    .await;
}

async fn each_goes_on(pipeline: &TestPipeline, sent: &[EventId], people: &[SampleFacts]) {
    for (id, person) in sent.iter().zip(people) {
        let row = pipeline.settled(id).await;
        assert_eq!((ending(&row, RecordOptOut).as_str(), attempts(&row, RecordOptOut)), ("done", 1));
        assert_eq!(pipeline.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone), 1);
    }
    assert_eq!(pipeline.asked(Endpoint::PutOptOut).len(), people.len());
}

async fn a_pause_is_over(pipeline: TestPipeline) {
    let people: Vec<_> = (0..5).map(|_| someone()).collect();
    pause(&pipeline).await;
    let sent = opt_outs_that_waited(&pipeline, &people).await;
    each_is_held(&pipeline, &people).await;

    pipeline.store.resume_gate(Destination::TextUs).await.expect("written down");

    each_goes_on(&pipeline, &sent, &people).await;
    pipeline.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pause_holds_for_long_is_told_as_unsent_and_nothing_is_told_while_the_store_is_away() {
    let node = PostgresNode::start().await;
    let url = node.database().await;
    let pipeline = TestPipeline::with(|setup| setup.settings.store.url = Some(Secret::new(url))).await;
    let unsent = || ["", "_stuck"].map(|of| pipeline.metric(&format!("hookline_opt_outs_unsent{of}")));
    eventually("it is counted", async || unsent() == [Some(0.0), Some(0.0)]).await;
    pause(&pipeline).await;
    let people = [someone(), someone()];
    let sent = opt_outs_that_waited(&pipeline, &people).await;
    pipeline.send_sample("contact.opted_out", &someone()).await;

    eventually("they are told", async || unsent() == [Some(2.0), Some(0.0)]).await;
    assert!(pipeline.metric("hookline_opt_outs_unsent_oldest_seconds").is_some_and(|age| age >= LATE.as_secs_f64()));
    node.kill().await;
    eventually("nothing is told", async || unsent() == [None, None]).await;
    node.up().await;
    eventually("they are told again", async || unsent() == [Some(2.0), Some(0.0)]).await;

    pipeline.store.resume_gate(Destination::TextUs).await.expect("written down");
    for id in &sent {
        pipeline.settled(id).await;
    }
    eventually("they are sent", async || unsent() == [Some(0.0), Some(0.0)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pause_held_goes_on_when_it_is_over() {
    a_pause_is_over(TestPipeline::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pause_held_on_rabbitmq_goes_on_when_it_is_over() {
    let url = RabbitNode::shared().await.vhost().await;
    a_pause_is_over(TestPipeline::with(|setup| setup.settings.broker.url = vec![Secret::new(url)]).await).await;
}
