//! Queues and bindings that somebody removes or limits by mistake.

use std::time::{Duration, Instant};

use hookline_e2e::{ACCOUNT, Deployment, Half, Load, eventually, send_all};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EffectKind, Endpoint, Fault as ApiFault, FaultRule};
use serde_json::json;

use crate::{Fault, seed, shared_node, timed};

const ALL_BUT_CONTACTS: [&str; 5] = ["record_opt_out", "flag_opt_out", "log_note", "sync_contact", "record_history"];

async fn limit(all_in_one: &Deployment<'_>, queue: &str, definition: &str) {
    let pattern = format!("^{}$", queue.replace('.', "\\."));
    all_in_one
        .ctl(&["set_policy", "-p", &all_in_one.vhost, "--apply-to", "queues", "full", &pattern, definition])
        .await;
}

async fn unlimit(all_in_one: &Deployment<'_>) {
    all_in_one.ctl(&["clear_policy", "-p", &all_in_one.vhost, "full"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_a_full_work_queue_is_spooled_around_and_does_not_delay_another_handlers_retry() {
    let fault = Fault::new("F16", "a work queue full (reject-publish)");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    // 425 says that nothing was done, and is tried again at once; the breaker that it opens holds nothing.
    all_in_one.sandbox.fault(FaultRule::new(ApiFault::status(425)).on(Endpoint::CreateContact));
    all_in_one.start(1, 1, "[textus.breaker]\nopen_min = \"1ms\"\nopen_max = \"1ms\"\n").await;
    let load = Load::mixed(seed(), 60, 6, &all_in_one.sandbox);
    send_all(&all_in_one.sender, &load.bodies).await;
    let people: Vec<SampleFacts> = (0..45).map(|_| SampleFacts::random(ACCOUNT)).collect();
    let created: Vec<_> = people.iter().map(|person| sample("contact.created", person)).collect();
    send_all(&all_in_one.sender, &created).await;
    // As long as somebody takes from it, it is not full; then it is, and they cannot come back.
    limit(&all_in_one, "hookline.work.create_contact", r#"{"max-length":5}"#).await;
    eventually("most contacts wait to be tried again", async || {
        (all_in_one.queues().await["hookline.delay.1s"] >= 30).then_some(())
    })
    .await;
    all_in_one.kill(Half::Worker, 0).await;
    all_in_one.add_worker_of(&ALL_BUT_CONTACTS).await;
    let returning = all_in_one.queues().await["hookline.delay.1s"];
    assert!(returning >= 10, "{returning} cannot come back");
    all_in_one.sandbox.fault(FaultRule::new(ApiFault::status(503)).on(Endpoint::PutOptOut).times(1));
    let person = SampleFacts::random(ACCOUNT);
    let began = Instant::now();
    all_in_one.sender.send(&sample("contact.opted_out", &person)).await;
    let retried = timed("the other's retry", Duration::from_secs(60), async || {
        all_in_one.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone) == 1
    });
    retried.await;
    let took = began.elapsed();
    all_in_one.sender.send(&sample("contact.created", &SampleFacts::random(ACCOUNT))).await;
    eventually("what the full queue refuses is spooled", async || (all_in_one.spooled().await > 0).then_some(())).await;

    // The limit stays: RabbitMQ 3.10 tells publishers that a queue is full no longer when it has been drained, and never
    // where a policy that was taken away had made it full.
    all_in_one.sandbox.clear_faults();
    all_in_one.add_worker_of(&["create_contact"]).await;
    let tally = all_in_one.holds(&load, 0).await;
    unlimit(&all_in_one).await;

    assert!(took < Duration::from_secs(5), "another handler's retry took {took:?}");
    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, None);
}

/// How many deliveries of `record_opt_out` workers have published anew from the history.
async fn republished(all_in_one: &Deployment<'_>) -> f64 {
    let mut republished = 0.0;
    for worker in all_in_one.parts(Half::Worker) {
        republished += worker.metric("hookline_deliveries_republished_total{handler=\"record_opt_out\"}").await;
    }
    republished
}

/// Sends opt-outs until `is_hidden` holds after one as it did before: what declares the topology has not come in between, so
/// its handler's queue has missed it. Returns the number that it is about.
async fn send_a_hidden_opt_out(all_in_one: &Deployment<'_>, hide: &str, is_hidden: &str) -> String {
    eventually("nothing tells its handler of an opt-out", async || {
        all_in_one.ctl(&["eval", hide]).await;
        let person = SampleFacts::random(ACCOUNT);
        all_in_one.sender.send(&sample("contact.opted_out", &person)).await;
        all_in_one.ctl(&["eval", is_hidden]).await.contains("true").then_some(person.phone)
    })
    .await
}

/// An opt-out that its queue missed is PUT within a minute of the queue's return; a worker that starts takes some seconds.
const REPAIRED_WITHIN: Duration = Duration::from_secs(70);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f12_what_a_deleted_work_queue_missed_is_published_anew_from_the_history() {
    let fault = Fault::new("F12", "hookline.work.record_opt_out deleted live");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 200, 20, &all_in_one.sandbox);
    let parts = load.parts(3);
    send_all(&all_in_one.sender, parts[0]).await;
    all_in_one.settled().await;

    let queue = format!("rabbit_misc:r(<<\"{}\">>, queue, <<\"hookline.work.record_opt_out\">>)", all_in_one.vhost);
    let is_gone = format!("rabbit_amqqueue:lookup({queue}) =:= {{error, not_found}}.");
    let delete = format!(
        "case rabbit_amqqueue:lookup({queue}) of {{ok, Q}} -> \
         element(1, rabbit_amqqueue:delete(Q, false, false, <<\"e2e\">>)); _ -> gone end."
    );
    // A worker declares its queue as soon as it is told of the end of it.
    all_in_one.ctl(&["eval", &delete]).await;
    send_all(&all_in_one.sender, parts[1]).await;
    all_in_one.stop(Half::Worker, 0).await;
    let phone = send_a_hidden_opt_out(&all_in_one, &delete, &is_gone).await;
    send_all(&all_in_one.sender, parts[2]).await;
    let by_ingest = timed("an ingest alone declares it again", Duration::from_secs(40), async || {
        all_in_one.queues().await.contains_key("hookline.work.record_opt_out")
    })
    .await;
    all_in_one.put(Half::Worker, 0, &[]).await;
    let repaired = timed("the opt-out is PUT", REPAIRED_WITHIN, async || {
        all_in_one.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &phone) == 1
    })
    .await;
    let tally = all_in_one.holds(&load, 0).await;

    assert!(republished(&all_in_one).await > 0.0, "nothing else brings it to its handler");
    assert_eq!(all_in_one.queues().await["hookline.unrouted"], 0);
    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(by_ingest + repaired));
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_what_a_queue_without_its_bindings_missed_is_published_anew_from_the_history() {
    let fault = Fault::new("F13", "a binding removed: events to queue");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.set("HOOKLINE__BROKER__MISSING_AFTER", "10s");
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), 60, 6, &all_in_one.sandbox);
    let parts = load.parts(2);
    send_all(&all_in_one.sender, parts[0]).await;
    all_in_one.settled().await;

    let bindings = format!(
        "rabbit_binding:list_for_source_and_destination(rabbit_misc:r(<<\"{0}\">>, exchange, <<\"hookline.events\">>), \
         rabbit_misc:r(<<\"{0}\">>, queue, <<\"hookline.work.record_opt_out\">>))",
        all_in_one.vhost
    );
    let unbind = format!("[rabbit_binding:remove(B, <<\"e2e\">>) || B <- {bindings}], ok.");
    let is_unbound = format!("{bindings} =:= [].");
    send_a_hidden_opt_out(&all_in_one, &unbind, &is_unbound).await;
    send_all(&all_in_one.sender, parts[1]).await;
    let recovered = timed("it is bound again", Duration::from_secs(40), async || {
        all_in_one.ctl(&["eval", &is_unbound]).await.contains("false")
    })
    .await;
    let tally = all_in_one.holds(&load, 0).await;

    assert!(republished(&all_in_one).await > 0.0, "nothing else brings it to its handler");
    fault.survived(tally, Some(recovered));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f30_a_dead_letter_that_its_queue_did_not_get_is_kept_as_unrouted_and_arrives_later() {
    let fault = Fault::new("F30", "a binding removed: dead letters to hookline.dead.record_opt_out");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 60, 6, &all_in_one.sandbox);
    send_all(&all_in_one.sender, &load.bodies).await;
    all_in_one.settled().await;

    let refusal = ApiFault::Status { status: 400, headers: Vec::new(), body: Some(json!({}).to_string()) };
    all_in_one.sandbox.fault(FaultRule::new(refusal).on(Endpoint::PutOptOut));
    let unbind = format!(
        "V = <<\"{}\">>, rabbit_binding:remove({{binding, rabbit_misc:r(V, exchange, <<\"hookline.dead\">>), \
         <<\"record_opt_out\">>, rabbit_misc:r(V, queue, <<\"hookline.dead.record_opt_out\">>), []}}, <<\"e2e\">>).",
        all_in_one.vhost
    );
    let removed = all_in_one.ctl(&["eval", &unbind]).await;
    assert!(removed.contains("ok"), "{removed}");
    let id = all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;
    all_in_one.doomed.insert(id.clone());
    eventually("it is kept", async || (all_in_one.queues().await["hookline.unrouted"] == 1).then_some(())).await;
    let dead_letters = async || all_in_one.rows(&["dead-letters", "list"], "dead_letters").await;
    assert_eq!(dead_letters().await.len(), 0, "its queue was not bound");
    let recovered = timed("redriven, it is refused again and arrives", Duration::from_secs(60), async || {
        all_in_one.json(&["unrouted", "redrive"]).await;
        !dead_letters().await.is_empty()
    })
    .await;
    let tally = all_in_one.holds(&load, 0).await;

    let dead = dead_letters().await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0]["event_id"], id.as_str());
    fault.survived(tally, Some(recovered));
}
