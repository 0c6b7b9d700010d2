//! What an operator types, with the queues in RabbitMQ.

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::{ACCOUNT, AllInOne, HOOKLINE_INGEST, Process, eventually};
use hookline_sandbox::samples::{SampleFacts, sample};
use serde_json::{Value, json};

use crate::{NOWHERE, all_in_one, becomes_ready, broker, delete_queue, program, start};

const NOTES: &str = "hookline.work.log_note";

/// An ingest alone: no worker takes from its queues.
async fn ingest(all_in_one: &AllInOne) -> Process {
    let (ingest, at) = start(program(all_in_one, HOOKLINE_INGEST, &[])).await;
    becomes_ready(&at).await;
    all_in_one.sender.goes_to(&format!("http://{}/webhooks/textus", at["webhooks"].as_str().expect("an address")));
    ingest
}

/// Sends notes that no queue takes. Its ingest declares the queues again every 30 s, so it must not outlive this.
async fn send_unrouted(all_in_one: &AllInOne, vhost: &str, notes: usize) -> Vec<String> {
    let _ingest = ingest(all_in_one).await;
    let delete = async || {
        for queue in [NOTES, "hookline.work.record_history"] {
            delete_queue(vhost, queue).await;
        }
    };
    delete().await;
    let mut ids = Vec::new();
    eventually("no queue takes the notes", async || {
        let id = send_a_note(all_in_one).await;
        match unrouted(all_in_one).await.len() > ids.len() {
            true => ids.push(id),
            false => delete().await,
        }
        (ids.len() == notes).then_some(())
    })
    .await;
    ids
}

async fn send_a_note(all_in_one: &AllInOne) -> String {
    all_in_one.sender.send(&sample("message.received", &SampleFacts::random(ACCOUNT))).await
}

async fn unrouted(all_in_one: &AllInOne) -> Vec<Value> {
    all_in_one.json(&["unrouted", "list"]).await["unrouted"].as_array().expect("a list").clone()
}

async fn messages(all_in_one: &AllInOne, queue: &str) -> u64 {
    let status = all_in_one.json(&["status"]).await;
    let queues = status["queues"].as_array().expect("queues");
    let found = queues.iter().find(|row| row["queue"] == queue).unwrap_or_else(|| panic!("no {queue} in {status}"));
    found["messages"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_tells_what_is_missing_and_declares_it() {
    let (all_in_one, vhost) = all_in_one().await;

    let before = all_in_one.cli(&["topology", "--json"]).await;
    let applied = all_in_one.cli(&["topology", "--apply"]).await;
    let after = all_in_one.cli(&["topology"]).await;

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
    let missing = all_in_one.cli(&["topology"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stdout.lines().any(|line| line.starts_with("missing") && line.contains(NOTES)), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_names_what_an_earlier_version_left_and_removes_it() {
    let (all_in_one, vhost) = all_in_one().await;
    assert_eq!(all_in_one.cli(&["topology", "--apply"]).await.code, Some(0));
    let declare = format!(
        "rabbit_exchange:declare(rabbit_misc:r(<<\"{vhost}\">>, exchange, <<\"hookline.control\">>), fanout, true, false, \
         false, [], <<\"e2e\">>)."
    );
    RabbitNode::shared().await.ctl(&["eval", &declare]).await;

    let told = all_in_one.cli(&["topology", "--json"]).await;
    let checked = all_in_one.cli(&["check", "--connect"]).await;
    let applied = all_in_one.cli(&["topology", "--apply"]).await;
    let after = all_in_one.cli(&["topology"]).await;

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
    let all_in_one = AllInOne::start().await;

    assert_eq!(all_in_one.cli(&["topology", "--apply"]).await.code, Some(0));
    assert_eq!(all_in_one.json(&["topology"]).await["broker"], "embedded");
    assert_eq!(all_in_one.json(&["unrouted", "list"]).await, json!({ "unrouted": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_took_is_listed_and_redriven_once_the_topology_is_whole() {
    let (all_in_one, vhost) = all_in_one().await;

    let ids = send_unrouted(&all_in_one, &vhost, 1).await;

    for _ in 0..2 {
        let [row] = <[Value; 1]>::try_from(unrouted(&all_in_one).await).expect("one, however often it is looked at");
        assert_eq!((&row["event_id"], &row["exchange"]), (&json!(ids[0]), &json!("hookline.events")), "{row}");
        assert_eq!(row["event_type"], "message.received");
    }
    let listed = all_in_one.cli(&["dead-letters", "list"]).await;
    assert!(listed.stderr.contains("1 events found no queue"), "{listed:?}");
    let too_early = all_in_one.cli(&["unrouted", "redrive"]).await;
    assert_eq!(too_early.code, Some(1), "{too_early:?}");
    assert!(too_early.stderr.contains(NOTES), "{too_early:?}");

    assert_eq!(all_in_one.cli(&["topology", "--apply"]).await.code, Some(0));
    assert_eq!(all_in_one.json(&["unrouted", "redrive", "--dry-run"]).await["would_redrive"], 1);
    assert_eq!(all_in_one.json(&["unrouted", "redrive"]).await, json!({ "redriven": 1 }));

    assert_eq!(unrouted(&all_in_one).await, [Value::Null; 0]);
    assert_eq!(messages(&all_in_one, NOTES).await, 1);
    assert_eq!(messages(&all_in_one, "hookline.unrouted").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_took_is_discarded_and_stays_in_the_history() {
    let (all_in_one, vhost) = all_in_one().await;
    let ids = send_unrouted(&all_in_one, &vhost, 2).await;

    let discarded = all_in_one.json(&["unrouted", "discard", "--reason", "a test of the queues"]).await;

    assert_eq!(discarded, json!({ "discarded": 2 }));
    assert_eq!(unrouted(&all_in_one).await, [Value::Null; 0]);
    assert_eq!(all_in_one.cli(&["topology", "--apply"]).await.code, Some(0));
    for id in &ids {
        let event = all_in_one.json(&["events", "show", id]).await;
        let note = event["deliveries"].as_array().unwrap().iter().find(|delivery| delivery["handler"] == "log_note");
        assert_eq!(note.unwrap_or_else(|| panic!("{event}"))["state"], "waiting", "{event}");
        assert_eq!(all_in_one.cli(&["events", "replay", id]).await.code, Some(0));
    }
    assert_eq!(messages(&all_in_one, NOTES).await, 2, "a replay brings them to the handler that missed them");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_counts_what_waits_where_no_worker_runs() {
    let (all_in_one, _) = all_in_one().await;
    let _ingest = ingest(&all_in_one).await;
    for _ in 0..3 {
        send_a_note(&all_in_one).await;
    }

    let status = all_in_one.json(&["status"]).await;

    assert_eq!(status["unrecorded"], 3, "{status}");
    assert_eq!(status["spool"], json!({ "events": 0, "bytes": 0 }));
    assert_eq!((messages(&all_in_one, NOTES).await, messages(&all_in_one, "hookline.delay.12h").await), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tries_broker_and_topology_each_by_itself() {
    let (all_in_one, _) = all_in_one().await;
    let there = all_in_one.cli(&["check", "--connect"]).await;
    let nowhere = AllInOne::with(|_options| {}, &broker(NOWHERE)).await.cli(&["check", "--connect"]).await;

    assert_eq!(there.code, Some(0), "{there:?}");
    for line in ["ok           broker: RabbitMQ answers", "ok           topology: "] {
        assert!(there.stdout.contains(line), "{line} in {}", there.stdout);
    }
    assert_eq!(nowhere.code, Some(1));
    for line in ["failed       broker: RabbitMQ cannot be asked", "not checked  topology: ", "ok           store: "] {
        assert!(nowhere.stdout.contains(line), "{line} in {}", nowhere.stdout);
    }
}
