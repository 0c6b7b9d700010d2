//! What an operator types, with the queues in RabbitMQ.

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::{ACCOUNT, HOOKLINE_INGEST, House, Process, eventually};
use hookline_sandbox::samples::{SampleFacts, sample};
use serde_json::{Value, json};

use crate::{NOWHERE, becomes_ready, broker, delete_queue, house, program, start};

const NOTES: &str = "hookline.work.log_note";

/// An ingest alone: no worker takes from its queues.
async fn ingest(house: &House) -> Process {
    let (ingest, at) = start(program(house, HOOKLINE_INGEST, &[])).await;
    becomes_ready(&at).await;
    house.sender.goes_to(&format!("http://{}/webhooks/textus", at["webhooks"].as_str().expect("an address")));
    ingest
}

/// Sends notes that no queue takes. Its ingest declares the queues again every 30 s, so it must not outlive this.
async fn send_unrouted(house: &House, vhost: &str, notes: usize) -> Vec<String> {
    let _ingest = ingest(house).await;
    let delete = async || {
        for queue in [NOTES, "hookline.work.record_history"] {
            delete_queue(vhost, queue).await;
        }
    };
    delete().await;
    let mut ids = Vec::new();
    eventually("no queue takes the notes", async || {
        let id = send_a_note(house).await;
        match unrouted(house).await.len() > ids.len() {
            true => ids.push(id),
            false => delete().await,
        }
        (ids.len() == notes).then_some(())
    })
    .await;
    ids
}

async fn send_a_note(house: &House) -> String {
    house.sender.send(&sample("message.received", &SampleFacts::random(ACCOUNT))).await
}

async fn unrouted(house: &House) -> Vec<Value> {
    house.json(&["unrouted", "list"]).await["unrouted"].as_array().expect("a list").clone()
}

async fn messages(house: &House, queue: &str) -> u64 {
    let status = house.json(&["status"]).await;
    let queues = status["queues"].as_array().expect("queues");
    let found = queues.iter().find(|row| row["queue"] == queue).unwrap_or_else(|| panic!("no {queue} in {status}"));
    found["messages"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_tells_what_is_missing_and_declares_it() {
    let (house, vhost) = house().await;

    let before = house.cli(&["topology", "--json"]).await;
    let applied = house.cli(&["topology", "--apply"]).await;
    let after = house.cli(&["topology"]).await;

    assert_eq!(before.code, Some(1), "{before:?}");
    let document: Value = serde_json::from_str(&before.stdout).expect("JSON");
    let all = document["exchanges"].as_array().unwrap().len() + document["queues"].as_array().unwrap().len();
    let differences = document["differences"].as_array().unwrap();
    assert_eq!(differences.len(), all, "all of it is missing: {document}");
    assert!(
        differences.iter().all(|one| one["what"] == "missing" && one["remedy"].as_str().unwrap().contains("--apply"))
    );
    assert_eq!((applied.code, after.code), (Some(0), Some(0)), "{applied:?} {after:?}");
    delete_queue(&vhost, NOTES).await;
    let missing = house.cli(&["topology"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stdout.lines().any(|line| line.starts_with("missing") && line.contains(NOTES)), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_names_what_an_earlier_version_left_and_removes_it() {
    let (house, vhost) = house().await;
    assert_eq!(house.cli(&["topology", "--apply"]).await.code, Some(0));
    let declare = format!(
        "rabbit_exchange:declare(rabbit_misc:r(<<\"{vhost}\">>, exchange, <<\"hookline.control\">>), fanout, true, false, \
         false, [], <<\"e2e\">>)."
    );
    RabbitNode::shared().await.ctl(&["eval", &declare]).await;

    let told = house.cli(&["topology", "--json"]).await;
    let checked = house.cli(&["check", "--connect"]).await;
    let applied = house.cli(&["topology", "--apply"]).await;
    let after = house.cli(&["topology"]).await;

    assert_eq!(told.code, Some(1), "{told:?}");
    let document: Value = serde_json::from_str(&told.stdout).expect("JSON");
    let [difference] = <[Value; 1]>::try_from(document["differences"].as_array().unwrap().clone()).expect("one");
    assert_eq!(
        (&difference["what"], &difference["object"]),
        (&json!("left_over"), &json!("exchange hookline.control"))
    );
    let line = "ok           topology: exchange hookline.control is left over";
    assert!(checked.stdout.contains(line), "it is no fault: {checked:?}");
    assert_eq!((applied.code, after.code), (Some(0), Some(0)), "{applied:?} {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_has_nothing_to_say_of_the_embedded_broker() {
    let house = House::start().await;

    assert_eq!(house.cli(&["topology", "--apply"]).await.code, Some(0));
    assert_eq!(house.json(&["topology"]).await["broker"], "embedded");
    assert_eq!(house.json(&["unrouted", "list"]).await, json!({ "unrouted": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_took_is_listed_and_redriven_once_the_topology_is_whole() {
    let (house, vhost) = house().await;

    let ids = send_unrouted(&house, &vhost, 1).await;

    for _ in 0..2 {
        let [row] = <[Value; 1]>::try_from(unrouted(&house).await).expect("one, however often it is looked at");
        assert_eq!((&row["event_id"], &row["exchange"]), (&json!(ids[0]), &json!("hookline.events")), "{row}");
        assert_eq!(row["event_type"], "message.received");
    }
    let listed = house.cli(&["dead-letters", "list"]).await;
    assert!(listed.stderr.contains("1 events found no queue"), "{listed:?}");
    let too_early = house.cli(&["unrouted", "redrive"]).await;
    assert_eq!(too_early.code, Some(1), "{too_early:?}");
    assert!(too_early.stderr.contains(NOTES), "{too_early:?}");

    assert_eq!(house.cli(&["topology", "--apply"]).await.code, Some(0));
    assert_eq!(house.json(&["unrouted", "redrive", "--dry-run"]).await["would_redrive"], 1);
    assert_eq!(house.json(&["unrouted", "redrive"]).await, json!({ "redriven": 1 }));

    assert_eq!(unrouted(&house).await, [Value::Null; 0]);
    assert_eq!(messages(&house, NOTES).await, 1);
    assert_eq!(messages(&house, "hookline.unrouted").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_took_is_discarded_and_stays_in_the_history() {
    let (house, vhost) = house().await;
    let ids = send_unrouted(&house, &vhost, 2).await;

    let discarded = house.json(&["unrouted", "discard", "--reason", "a test of the queues"]).await;

    assert_eq!(discarded, json!({ "discarded": 2 }));
    assert_eq!(unrouted(&house).await, [Value::Null; 0]);
    assert_eq!(house.cli(&["topology", "--apply"]).await.code, Some(0));
    for id in &ids {
        let event = house.json(&["events", "show", id]).await;
        let note = event["deliveries"].as_array().unwrap().iter().find(|delivery| delivery["handler"] == "log_note");
        assert_eq!(note.unwrap_or_else(|| panic!("{event}"))["state"], "waiting", "{event}");
        assert_eq!(house.cli(&["events", "replay", id]).await.code, Some(0));
    }
    assert_eq!(messages(&house, NOTES).await, 2, "a replay brings them to the handler that missed them");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_counts_what_waits_where_no_worker_runs() {
    let (house, _) = house().await;
    let _ingest = ingest(&house).await;
    for _ in 0..3 {
        send_a_note(&house).await;
    }

    let status = house.json(&["status"]).await;

    assert_eq!(status["unrecorded"], 3, "{status}");
    assert_eq!(status["spool"], json!({ "events": 0, "bytes": 0 }));
    assert_eq!((messages(&house, NOTES).await, messages(&house, "hookline.delay.12h").await), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tries_broker_and_topology_each_by_itself() {
    let (house, _) = house().await;
    let there = house.cli(&["check", "--connect"]).await;
    let nowhere = House::with(|_options| {}, &broker(NOWHERE)).await.cli(&["check", "--connect"]).await;

    assert_eq!(there.code, Some(0), "{there:?}");
    for line in ["ok           broker: RabbitMQ answers", "ok           topology: "] {
        assert!(there.stdout.contains(line), "{line} in {}", there.stdout);
    }
    assert_eq!(nowhere.code, Some(1));
    for line in ["failed       broker: RabbitMQ cannot be asked", "not checked  topology: ", "ok           store: "] {
        assert!(nowhere.stdout.contains(line), "{line} in {}", nowhere.stdout);
    }
}
