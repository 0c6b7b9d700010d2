//! Deliveries that RabbitMQ loses, or that somebody takes from its queues, come back from the history.

use std::time::Duration;

use futures::future::join_all;
use hookline_broker::topology::Tier;
use hookline_common::names::HandlerName::RecordOptOut;
use hookline_common::secret::Secret;
use hookline_common::testing::nodes::RabbitNode;
use hookline_sandbox::samples::sample;
use hookline_sandbox::{EffectKind, Endpoint, Fault, FaultRule};

use crate::helpers::{ACCOUNT, TestPipeline, attempts, ending, eventually, someone};

const OPT_OUTS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_a_purged_delay_queue_is_done_with_the_attempt_that_it_waited_for() {
    let node = RabbitNode::shared().await;
    let vhost = node.new_vhost().await;
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.broker.url = vec![Secret::new(node.url_of(&vhost))];
        setup.settings.broker.missing_after = Duration::from_secs(2);
        let retry = &mut setup.settings.handlers.record_opt_out.basics.retry;
        (retry.initial, retry.max) = (Duration::from_secs(8), Duration::from_secs(8));
    })
    .await;
    pipeline.sandbox.fault(FaultRule::new(Fault::status(503)).on(Endpoint::PutOptOut).times(OPT_OUTS));
    let people: Vec<_> = (0..OPT_OUTS).map(|_| someone()).collect();
    let sent = join_all(people.iter().map(|person| pipeline.send_sample("contact.opted_out", person))).await;
    let failed = |row: Option<_>| row.is_some_and(|row| attempts(&row, RecordOptOut) == 1);
    for id in &sent {
        eventually("its first attempt", async || failed(pipeline.event(id).await)).await;
    }
    let parked = async || pipeline.broker.other_queues().await.unwrap().iter().map(|queue| queue.messages).sum::<u64>();
    eventually("they are parked", async || parked().await >= 2).await;

    for tier in Tier::ALL {
        node.ctl(&["purge_queue", "-p", &vhost, &format!("hookline.delay.{tier}")]).await;
    }

    for (id, person) in sent.iter().zip(&people) {
        let row = pipeline.settled(id).await;
        assert_eq!((ending(&row, RecordOptOut).as_str(), attempts(&row, RecordOptOut)), ("done", 2));
        assert_eq!(pipeline.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone), 1);
    }
    pipeline.quiet().await;
}

/// No handler has begun the delivery: only the history knows about it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opt_out_that_only_the_history_got_is_put() {
    let node = RabbitNode::shared().await;
    let vhost = node.new_vhost().await;
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.broker.url = vec![Secret::new(node.url_of(&vhost))];
        setup.settings.broker.missing_after = Duration::from_secs(2);
    })
    .await;
    let person = someone();
    let body = sample("contact.opted_out", &person);
    let unbind = format!(
        "R = rabbit_misc:r(<<\"{vhost}\">>, exchange, <<\"hookline.work.record_opt_out\">>), \
         [rabbit_binding:remove(B, <<\"test\">>) || B <- rabbit_binding:list_for_destination(R)], ok."
    );
    node.ctl(&["eval", &unbind]).await;

    let id = pipeline.send(&body).await;

    let row = pipeline.settled(&id).await;
    assert_eq!((ending(&row, RecordOptOut).as_str(), attempts(&row, RecordOptOut)), ("done", 1));
    assert_eq!(pipeline.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone), 1);
}
