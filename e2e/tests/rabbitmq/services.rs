//! `hookline-ingest`, `hookline-worker` and `hookline run` as processes.

use std::time::Duration;

use hookline_e2e::{ACCOUNT, AllInOne, HOOKLINE_INGEST, HOOKLINE_WORKER, Process, SECRET, eventually, run};
use hookline_sandbox::WebhookTarget;
use hookline_sandbox::samples::{SampleFacts, sample};
use serde_json::{Value, json};

use crate::{NOWHERE, admin, all_in_one, becomes_ready, broker, program, start};

const ENDS_WITHIN: Duration = Duration::from_secs(40);

/// Webhooks and echoes go to this ingest from now on.
fn goes_to(all_in_one: &AllInOne, ingest: &Value) {
    let webhooks = format!("http://{}/webhooks/textus", ingest["webhooks"].as_str().expect("an address"));
    all_in_one.sender.goes_to(&webhooks);
    all_in_one.sandbox.set_webhook(WebhookTarget { url: webhooks, secret: SECRET.to_owned() });
}

/// Waits until no delivery of the event waits.
async fn settled(all_in_one: &AllInOne, id: &str) -> Value {
    eventually("the event is settled", async || {
        let shown = all_in_one.cli(&["events", "show", id, "--json"]).await;
        let event: Value = serde_json::from_str(&shown.stdout).ok()?;
        let deliveries = event["deliveries"].as_array()?;
        let done = deliveries.len() == 3 && deliveries.iter().all(|delivery| delivery["state"] != "waiting");
        done.then_some(event)
    })
    .await
}

async fn ends_well(process: Process) {
    process.terminate();
    let ended = process.ended(ENDS_WITHIN).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("hookline.stopped"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_take_an_opt_out_from_the_webhook_to_its_put() {
    let (all_in_one, _) = all_in_one().await;
    let (ingest, ingest_at) = start(program(&all_in_one, HOOKLINE_INGEST, &[])).await;
    let (worker, worker_at) = start(program(&all_in_one, HOOKLINE_WORKER, &[])).await;
    becomes_ready(&ingest_at).await;
    becomes_ready(&worker_at).await;
    goes_to(&all_in_one, &ingest_at);

    let id = all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;

    settled(&all_in_one, &id).await;
    eventually("all is recorded, as the worker says", async || {
        (all_in_one.json(&["status"]).await["unrecorded"] == 0).then_some(())
    })
    .await;
    assert_eq!(all_in_one.sandbox.effects().len(), 1, "one PUT");
    let (of_ingest, of_worker) = (admin(&ingest_at, "/metrics").await.1, admin(&worker_at, "/metrics").await.1);
    assert!(of_ingest.contains("hookline_broker_connected 1") && !of_ingest.contains("hookline_deliveries_total"));
    assert!(of_worker.contains("hookline_broker_connected 1") && !of_worker.contains("hookline_ingest_spool_events"));
    ends_well(ingest).await;
    ends_well(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_how_old_and_how_long_a_backlog_is_that_it_does_not_work_on() {
    let (all_in_one, _) = all_in_one().await;
    let (ingest, ingest_at) = start(program(&all_in_one, HOOKLINE_INGEST, &[])).await;
    let (worker, worker_at) = start(program(&all_in_one, HOOKLINE_WORKER, &["--handlers", "record_history"])).await;
    becomes_ready(&ingest_at).await;
    goes_to(&all_in_one, &ingest_at);

    all_in_one.sender.send(&sample("message.received", &SampleFacts::random(ACCOUNT))).await;

    let value = async |sample: &str| {
        let metrics = admin(&worker_at, "/metrics").await.1;
        let value = metrics.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {sample} in {metrics}"))
    };
    let oldest = r#"hookline_queue_oldest_seconds{queue="hookline.work.log_note"}"#;
    let to_drain = r#"hookline_destination_seconds_to_drain{destination="textus"}"#;
    // One call of the 1,000 in 5 minutes.
    eventually("the note is told of", async || (value(to_drain).await == 0.3).then_some(())).await;
    assert!(value(oldest).await > 0.0);
    // The alerts look at the delay queues too.
    assert_eq!(value(r#"hookline_queue_messages{queue="hookline.delay.5s"}"#).await, 0.0);
    assert!(value(r#"hookline_destination_seconds_to_drain{destination="system_of_record"}"#).await.is_nan());
    ends_well(ingest).await;
    ends_well(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_holds_both_halves_on_rabbitmq() {
    let (all_in_one, _) = all_in_one().await;
    let running = all_in_one.run().await;
    eventually("ready", async || (running.admin("/readyz").await.0 == 200).then_some(())).await;

    let id = all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;

    settled(&all_in_one, &id).await;
    assert_eq!(all_in_one.sandbox.effects().len(), 1, "one PUT");
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_taken_also_where_rabbitmq_is_away_at_the_start() {
    let all_in_one = AllInOne::with(|_options| {}, &broker(NOWHERE)).await;
    let (ingest, at) = start(program(&all_in_one, HOOKLINE_INGEST, &[])).await;
    goes_to(&all_in_one, &at);

    let id = all_in_one.sender.send(&sample("message.failed", &SampleFacts::random(ACCOUNT))).await;

    assert!(!id.is_empty());
    let (status, told) = admin(&at, "/readyz").await;
    assert_eq!(status, 200, "{told}");
    assert!(told.contains("webhooks go to the spool, where 1 events wait"), "{told}");
    ends_well(ingest).await;
    let ran = all_in_one.cli(&["status", "--json"]).await;
    assert_eq!(ran.code, Some(1), "the broker cannot be asked: {ran:?}");
    let status: Value = serde_json::from_str(&ran.stdout).expect("JSON all the same");
    assert_eq!((&status["broker"]["kind"], &status["broker"]["state"]), (&json!("rabbitmq"), &json!("unreachable")));
    assert_eq!(status["processes"][0]["state"], "not asked: its own /readyz and /metrics tell", "{status}");
    assert_eq!(status["spool"]["events"], 1, "{status}");
    assert_eq!(status["unrecorded"], Value::Null);
    assert!(status["unrecorded_reason"].as_str().expect("a reason").contains("RabbitMQ cannot be asked"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_rabbitmq_stays_up_and_says_why_it_is_not_ready() {
    let all_in_one = AllInOne::with(|_options| {}, &broker(NOWHERE)).await;
    let (worker, at) = start(program(&all_in_one, HOOKLINE_WORKER, &["--handlers", "log_note,record_history"])).await;

    eventually("it says why", async || {
        let (status, told) = admin(&at, "/readyz").await;
        (status == 503 && told.contains("queues are not consumed: RabbitMQ is away")).then_some(())
    })
    .await;

    assert_eq!(admin(&at, "/livez").await.0, 200);
    ends_well(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_takes_one_worker() {
    let (all_in_one, _) = all_in_one().await;
    let (worker, _) = start(program(&all_in_one, HOOKLINE_WORKER, &[])).await;

    let second = run(program(&all_in_one, HOOKLINE_WORKER, &[])).await;

    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(second.stderr.contains("[store] url with PostgreSQL"), "{second:?}");
    ends_well(worker).await;
    let (third, _) = start(program(&all_in_one, HOOKLINE_WORKER, &[])).await;
    ends_well(third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_takes_one_ingest() {
    let (all_in_one, _) = all_in_one().await;
    let (ingest, _) = start(program(&all_in_one, HOOKLINE_INGEST, &[])).await;

    let second = run(program(&all_in_one, HOOKLINE_INGEST, &[])).await;

    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("need a data_dir each"), "{second:?}");
    ends_well(ingest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_for_handlers_that_are_switched_off_is_wrong_usage() {
    let more = format!("{}[handlers.log_note]\nenabled = false\n", broker(NOWHERE));
    let all_in_one = AllInOne::with(|_options| {}, &more).await;

    let ran = run(program(&all_in_one, HOOKLINE_WORKER, &["--handlers", "log_note"])).await;

    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("log_note") && ran.stderr.contains("enabled = true"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_has_queues_of_its_own_whatever_is_configured() {
    let all_in_one = AllInOne::with(|_options| {}, &broker(NOWHERE)).await;

    let demo = all_in_one.cli(&["dev", "--demo"]).await;

    assert_eq!(demo.code, Some(0), "{demo:?}");
    assert!(demo.stderr.contains("broker.url is ignored by `dev`"), "{}", demo.stderr);
}
