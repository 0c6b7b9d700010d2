//! PostgreSQL dies while attempts run: no event is lost, no effect is repeated, no attempt is spent.

use std::time::Duration;

use futures::future::join_all;
use hookline_common::names::HandlerName::{CreateContact, LogNote, RecordHistory};
use hookline_common::secret::Secret;
use hookline_common::testing::nodes::PostgresNode;
use hookline_sandbox::{EffectKind, Endpoint, Fault, FaultRule};

use crate::helpers::{ACCOUNT, SECOND, TestPipeline, attempts, ending, eventually, someone};

async fn on(node: &PostgresNode) -> TestPipeline {
    let url = node.database().await;
    TestPipeline::with(|setup| {
        setup.settings.store.url = Some(Secret::new(url));
        setup.settings.handlers.create_contact.accounts = vec![SECOND.to_owned()];
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_dies_under_load_costs_no_attempt_and_no_event() {
    let node = PostgresNode::start().await;
    let pipeline = on(&node).await;
    let before = join_all((0..30).map(|_| async { pipeline.send_known("message.received", &someone()).await })).await;
    eventually("some notes", async || pipeline.notes().await.len() >= 3).await;

    node.kill().await;
    let during = join_all((0..10).map(|_| async { pipeline.send_known("message.received", &someone()).await })).await;
    node.up().await;

    pipeline.quiet().await;
    assert_eq!(pipeline.notes().await.len(), 40);
    assert_eq!(pipeline.dead_letters().await, []);
    for id in before.iter().chain(&during) {
        let row = pipeline.settled(id).await;
        assert_eq!((ending(&row, LogNote).as_str(), attempts(&row, LogNote)), ("done", 1));
        assert_eq!(ending(&row, RecordHistory), "done");
    }
}

/// The call is made, but its effect can't be recorded. The next attempt looks first, and doesn't POST again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_that_could_not_be_recorded_is_found_and_not_made_twice() {
    let node = PostgresNode::start().await;
    let pipeline = on(&node).await;
    let person = someone();
    pipeline
        .sandbox
        .fault(FaultRule::new(Fault::Slow(Duration::from_millis(400))).on(Endpoint::CreateContact).times(1));

    let id = pipeline.send_known("contact.created", &person).await;
    let posted = || pipeline.sandbox.effect_count(EffectKind::ContactCreated, SECOND, &person.phone);
    eventually("the POST", async || posted() == 1).await;
    // The POST's answer comes while nothing can be recorded, because starting the node takes longer.
    node.kill().await;
    node.up().await;

    pipeline.quiet().await;
    assert_eq!(posted(), 1, "looked up, not made again");
    assert_eq!(pipeline.sandbox.effect_count(EffectKind::ContactCreated, ACCOUNT, &person.phone), 0);
    let row = pipeline.settled(&id).await;
    let ended = ending(&row, CreateContact);
    assert!(["done", "skipped: already_done"].contains(&ended.as_str()), "{ended}");
    assert_eq!(attempts(&row, CreateContact), 1);
}
