//! Every command works while `run` is up and while it is down, makes nothing where nothing is, and its JSON has the keys
//! of docs/reference.md.

use std::collections::BTreeSet;

use hookline_e2e::{ACCOUNT, AllInOne, HANDLERS, SECOND_ACCOUNT, eventually};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EffectKind, Endpoint, Fault, FaultRule};
use serde_json::{Value, json};

/// Lists with the key that their rows are under.
const LISTS: [(&[&str], &str); 7] = [
    (&["events", "list"], "events"),
    (&["dead-letters", "list"], "dead_letters"),
    (&["opt-outs", "list"], "opt_outs"),
    (&["opt-outs", "list", "--unsent"], "opt_outs"),
    (&["records", "notes"], "notes"),
    (&["records", "contacts"], "contacts"),
    (&["records", "opt-outs"], "opt_outs"),
];

#[track_caller]
pub(crate) fn has_keys(value: &Value, expected: &[&str]) {
    let found: BTreeSet<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(found, expected.iter().copied().collect(), "{value:#}");
}

async fn every_list_answers(all_in_one: &AllInOne, when: &str) {
    for (list, key) in LISTS {
        let document = all_in_one.json(list).await;
        has_keys(&document, &[key, "next"]);
        assert!(document[key].is_array(), "{when}: {list:?}");
        let table = all_in_one.cli(list).await;
        assert_eq!(table.code, Some(0), "{when}: {list:?} {table:?}");
    }
    has_status_keys(&all_in_one.json(&["status"]).await);
    assert_eq!(all_in_one.cli(&["status"]).await.code, Some(0), "{when}");
    let verified = all_in_one.json(&["opt-outs", "verify"]).await;
    assert_eq!(verified["ok"], true, "{when}");
    has_keys(&all_in_one.json(&["opt-outs", "prove", "+12025550147"]).await, &["phone", "entries", "flags"]);
}

fn has_status_keys(status: &Value) {
    has_keys(status, &["processes", "broker", "store", "unrecorded", "handlers", "destinations", "queues", "spool"]);
    for process in status["processes"].as_array().expect("a list") {
        has_keys(process, &["kind", "id", "version", "since", "state"]);
        assert_eq!((process["kind"].as_str(), process["state"].as_str()), (Some("run"), Some("running")));
    }
    for part in ["broker", "store"] {
        has_keys(&status[part], &["kind", "version", "state", "reason"]);
        assert_eq!(status[part]["state"], "reachable");
    }
    let handlers = status["handlers"].as_array().expect("a list");
    assert_eq!(handlers.len(), HANDLERS.len(), "every handler, from zero");
    for handler in handlers {
        has_keys(handler, &["handler", "accepted", "done", "skipped", "dead_lettered", "discarded", "waiting"]);
    }
    for destination in status["destinations"].as_array().expect("a list") {
        let keys = ["destination", "state", "reason", "budget_limit", "budget_remaining", "seconds_to_drain"];
        has_keys(destination, &keys);
    }
    for queue in status["queues"].as_array().expect("a list") {
        has_keys(queue, &["queue", "messages", "oldest_seconds"]);
    }
    has_keys(&status["spool"], &["events", "bytes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_was_ever_run_a_command_says_so_and_makes_nothing() {
    let all_in_one = AllInOne::start().await;
    let others: [&[&str]; 13] = [
        &["status"],
        &["status", "--ids", "log_note"],
        &["opt-outs", "verify"],
        &["opt-outs", "prove", "+12025550147"],
        &["events", "show", "evt_00000000000000000000000000000000"],
        &["events", "replay", "--since", "1d"],
        &["dead-letters", "show", "dl_0000000000000000"],
        &["dead-letters", "redrive", "--all"],
        &["dead-letters", "discard", "dl_0000000000000000", "--reason", "x"],
        &["dead-letters", "resolve", "dl_0000000000000000", "--done"],
        &["pause", "textus"],
        &["resume", "textus"],
        &["erase", "+12025550147", "--yes"],
    ];
    for dev in [&[][..], &["--dev"]] {
        for command in LISTS.iter().map(|(list, _)| *list).chain(others) {
            let ran = all_in_one.cli(&[command, dev].concat()).await;
            assert_eq!(ran.code, Some(1), "{command:?}: {ran:?}");
            assert!(ran.stderr.contains("nothing here"), "{command:?}: {ran:?}");
            assert_eq!(ran.stdout, "", "{command:?}");
        }
    }
    for (list, _) in LISTS {
        assert_eq!(all_in_one.cli(&[list, &["--json"]].concat()).await.code, Some(1), "{list:?}");
    }
    let checked = all_in_one.cli(&["check", "--connect"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("ok           TextUs token"), "{checked:?}");

    let made: Vec<_> = std::fs::read_dir(all_in_one.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made, ["hookline.toml"], "but for the configuration there is nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_answer_while_it_runs_and_after_it() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    every_list_answers(&all_in_one, "up and empty").await;
    for (list, key) in LISTS {
        assert_eq!(all_in_one.json(list).await, json!({ key: [], "next": null }), "{list:?}");
    }
    let person = SampleFacts::random(ACCOUNT);
    for event_type in ["contact.created", "message.received", "contact.opted_out"] {
        let body = sample(event_type, &person);
        all_in_one.sandbox.learn(&body).unwrap();
        all_in_one.sender.send(&body).await;
    }
    all_in_one.settled().await;
    every_list_answers(&all_in_one, "up").await;
    let up = documents(&all_in_one).await;
    assert_eq!(running.stop().await.code, Some(0));

    every_list_answers(&all_in_one, "down").await;
    assert_eq!(documents(&all_in_one).await, up, "the same facts, up and down");
}

async fn documents(all_in_one: &AllInOne) -> Vec<Value> {
    let mut documents = Vec::new();
    for (list, _) in LISTS {
        documents.push(all_in_one.json(list).await);
    }
    documents
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_have_the_keys_of_the_contract() {
    let more = format!("[handlers.create_contact]\naccounts = [\"{SECOND_ACCOUNT}\"]\n");
    let all_in_one = AllInOne::with(|_options| {}, &more).await;
    let running = all_in_one.run().await;
    let person = SampleFacts::random(ACCOUNT);
    let note = sample("message.received", &person);
    all_in_one.sandbox.learn(&note).unwrap();
    let refused = Fault::Status { status: 400, headers: Vec::new(), body: Some(r#"{"error":"no"}"#.to_owned()) };
    all_in_one.sandbox.fault(FaultRule::new(refused).on(Endpoint::CreateContact).times(1));
    let opt_out = all_in_one.sender.send(&sample("contact.opted_out", &person)).await;
    all_in_one.sender.send(&note).await;
    let refused = all_in_one.sender.send(&sample("contact.created", &person)).await;
    eventually("one dead letter", async || {
        (all_in_one.json(&["dead-letters", "list"]).await["dead_letters"].as_array().expect("a list").len() == 1)
            .then_some(())
    })
    .await;
    all_in_one.settled().await;

    events_have_their_keys(&all_in_one, &opt_out).await;
    opt_outs_have_their_keys(&all_in_one, &person.phone).await;
    records_have_their_keys(&all_in_one).await;
    dead_letters_have_their_keys(&all_in_one, &refused).await;
    running.stop().await;
}

async fn events_have_their_keys(all_in_one: &AllInOne, opt_out: &str) {
    let keys = ["event_id", "source", "source_event_id", "event_type", "received_at", "deliveries"];
    for event in all_in_one.rows(&["events", "list"], "events").await {
        has_keys(&event, &keys);
        assert!(event["received_at"].as_str().expect("a text").ends_with('Z'), "UTC");
        for delivery in event["deliveries"].as_array().expect("a list") {
            has_keys(delivery, &["handler", "state", "reason", "attempts"]);
        }
    }
    let shown = all_in_one.json(&["events", "show", opt_out]).await;
    has_keys(&shown, &keys);
    assert_eq!(shown["event_type"], "contact.opted_out");
    let deliveries = shown["deliveries"].as_array().expect("a list");
    for delivery in deliveries {
        has_keys(delivery, &["handler", "state", "reason", "attempts", "attempt_log"]);
        for attempt in delivery["attempt_log"].as_array().expect("a list") {
            // `detail` besides: what a retry waits for.
            has_keys(attempt, &["attempt", "started_at", "duration_ms", "verdict", "detail", "requests"]);
            for request in attempt["requests"].as_array().expect("a list") {
                has_keys(request, &["method", "path", "status", "duration_ms"]);
            }
        }
    }
    let put = deliveries.iter().find(|delivery| delivery["handler"] == "record_opt_out").expect("the PUT");
    assert_eq!(put["attempt_log"][0]["requests"][0]["method"], "PUT");
    assert_eq!(put["attempt_log"][0]["requests"][0]["status"], 201);
}

async fn opt_outs_have_their_keys(all_in_one: &AllInOne, phone: &str) {
    for row in all_in_one.rows(&["opt-outs", "list"], "opt_outs").await {
        has_keys(&row, &["account", "phone", "state", "event_time", "source_event_id", "put_status"]);
        assert_eq!((row["phone"].as_str(), row["state"].as_str()), (Some(phone), Some("opted_out")));
        assert_eq!(row["put_status"], 201);
    }
    let proof = all_in_one.json(&["opt-outs", "prove", phone]).await;
    assert_eq!(proof["phone"], phone);
    let entries = proof["entries"].as_array().expect("a list");
    for entry in entries {
        has_keys(
            entry,
            &[
                "seq",
                "kind",
                "at",
                "event_time",
                "received_at",
                "method",
                "event_id",
                "source_event_id",
                "account",
                "status",
                "reason",
                "hash_version",
                "hash",
                "previous_hash",
            ],
        );
    }
    let kinds: Vec<&str> = entries.iter().map(|entry| entry["kind"].as_str().expect("a text")).collect();
    assert!(kinds.starts_with(&["received", "put_sent", "put_answered"]), "{kinds:?}");
    for ten_digits in [&phone[2..], &phone[1..]] {
        assert_eq!(all_in_one.json(&["opt-outs", "prove", ten_digits]).await, proof, "any usual form");
    }
    let verified = all_in_one.json(&["opt-outs", "verify"]).await;
    // `head` and `broken` besides: what to export, and what is wrong.
    has_keys(&verified, &["ok", "entries", "head", "broken"]);
}

async fn records_have_their_keys(all_in_one: &AllInOne) {
    let notes = all_in_one.rows(&["records", "notes"], "notes").await;
    assert_eq!(notes.len(), 1);
    let keys = [
        "note_id",
        "message_id",
        "event_id",
        "contact_id",
        "phone",
        "direction",
        "body",
        "occurred_at",
        "business_number",
        "thread_id",
        "user",
    ];
    has_keys(&notes[0], &keys);
    assert!(notes[0]["message_id"].as_str().expect("a text").starts_with("/messages/"));
    threads_and_their_preview(all_in_one, notes[0]["message_id"].as_str().expect("a text")).await;
    let contacts = all_in_one.rows(&["records", "contacts"], "contacts").await;
    has_keys(&contacts[0], &["record_id", "contact_id", "phone", "phones", "name", "created_at"]);
    let opt_outs = all_in_one.rows(&["records", "opt-outs"], "opt_outs").await;
    for row in &opt_outs {
        has_keys(row, &["phone", "opted_out", "event_time"]);
    }
}

async fn threads_and_their_preview(all_in_one: &AllInOne, message_id: &str) {
    let threads = all_in_one.rows(&["records", "threads"], "threads").await;
    let keys = ["thread_id", "record_id", "business_number", "day", "message_ids", "text", "remote_id", "written_at"];
    has_keys(&threads[0], &keys);
    assert_eq!(threads[0]["message_ids"], json!([message_id]));

    let bare = message_id.trim_start_matches("/messages/");
    for id in [message_id, bare] {
        let preview = all_in_one.json(&["notes", "preview", id]).await;
        has_keys(&preview, &["thread_id", "business_number", "day", "message_ids", "parts"]);
        assert_eq!((&preview["parts"][0], &preview["thread_id"]), (&threads[0]["text"], &threads[0]["thread_id"]));
    }
    let shown = all_in_one.cli(&["notes", "preview", bare]).await;
    assert_eq!(shown.stdout.trim_end(), threads[0]["text"].as_str().expect("a text"));
    let unknown = all_in_one.cli(&["notes", "preview", "nothing"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("no thread has the message"), "{unknown:?}");
}

async fn dead_letters_have_their_keys(all_in_one: &AllInOne, event_id: &str) {
    let keys =
        ["id", "event_id", "handler", "reason", "destination", "status", "attempts", "dead_lettered_at", "detail"];
    let dead = all_in_one.rows(&["dead-letters", "list"], "dead_letters").await.remove(0);
    has_keys(&dead, &keys);
    let id = dead["id"].as_str().expect("a text");
    assert_eq!(all_in_one.json(&["dead-letters", "show", id]).await, dead);
    assert_eq!(all_in_one.json(&["dead-letters", "show", event_id]).await, dead, "by its event's id too");

    assert_eq!(all_in_one.json(&["dead-letters", "redrive", event_id]).await, json!({ "redriven": 1 }));
    all_in_one.settled().await.hold(&all_in_one.sender.accepted(), all_in_one.sandbox.echoes_sent());
    assert_eq!(
        all_in_one.sandbox.effects().iter().filter(|effect| effect.kind == EffectKind::ContactCreated).count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_ids_exit_1_and_say_what_to_do() {
    let all_in_one = AllInOne::start().await;
    all_in_one.run().await.stop().await;
    let unknown = "evt_00000000000000000000000000000000";
    for arguments in [
        &["events", "show", unknown][..],
        &["events", "show", "nonsense"],
        &["events", "replay", unknown],
        &["dead-letters", "show", "dl_0000000000000000"],
        &["dead-letters", "redrive", "dl_0000000000000000"],
        &["dead-letters", "redrive", unknown],
        &["dead-letters", "discard", "dl_0000000000000000", "--reason", "x"],
        &["dead-letters", "resolve", "dl_0000000000000000", "--done"],
    ] {
        for json in [false, true] {
            let arguments = if json { [arguments, &["--json"]].concat() } else { arguments.to_vec() };
            let ran = all_in_one.cli(&arguments).await;
            assert_eq!(ran.code, Some(1), "{arguments:?}: {ran:?}");
            assert!(!ran.stderr.is_empty(), "{arguments:?}");
        }
    }
    assert_eq!(all_in_one.cli(&["pause", "nowhere"]).await.code, Some(2));
    assert_eq!(all_in_one.cli(&["opt-outs", "prove", "hello"]).await.code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_by_their_cursor_without_a_gap_or_a_repeat() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    for _ in 0..7 {
        all_in_one.sender.send(&sample("message.failed", &SampleFacts::random(ACCOUNT))).await;
    }
    all_in_one.settled().await;

    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut arguments = vec!["events", "list", "--limit", "3"];
        if let Some(cursor) = &cursor {
            arguments.extend(["--cursor", cursor]);
        }
        let page = all_in_one.json(&arguments).await;
        seen.extend(
            page["events"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|event| event["event_id"].as_str().expect("a text").to_owned()),
        );
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }

    assert_eq!(seen.len(), 7);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all_in_one.sender.accepted().into_keys().collect());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_calls_until_resume_also_across_a_restart() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    assert_eq!(all_in_one.cli(&["pause", "textus", "--reason", "maintenance"]).await.code, Some(0));

    let id = all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;
    eventually("the other handler is done with it", async || {
        let shown = all_in_one.cli(&["events", "show", &id, "--json"]).await;
        shown.stdout.contains("unknown_contact").then_some(())
    })
    .await;
    assert_eq!(all_in_one.sandbox.requests(), [], "paused");
    assert_eq!(running.stop().await.code, Some(0));
    let running = all_in_one.run().await;
    eventually("it is taken up again", async || (running.admin("/readyz").await.0 == 200).then_some(())).await;
    assert_eq!(all_in_one.sandbox.requests(), [], "still paused");
    assert_eq!(all_in_one.cli(&["resume", "textus"]).await.code, Some(0));

    assert_eq!(all_in_one.settled().await.ending(&id, "record_opt_out"), "done");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_does_what_was_not_done_and_repeats_nothing_that_was() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    let person = SampleFacts::random(ACCOUNT);
    let note = sample("message.received", &person);
    all_in_one.sandbox.learn(&note).unwrap();
    let note = all_in_one.sender.send(&note).await;
    let opt_out = all_in_one.sender.send(&sample("contact.opted_out", &person)).await;
    all_in_one.settled().await;
    let effects = all_in_one.sandbox.effects();
    let requests = all_in_one.sandbox.requests().len();

    let replayed = all_in_one.cli(&["events", "replay", &note, &opt_out]).await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    let accounts = all_in_one.settled().await;

    assert_eq!(all_in_one.sandbox.effects(), effects);
    assert_eq!(all_in_one.sandbox.requests().len(), requests);
    assert_eq!(all_in_one.rows(&["records", "notes"], "notes").await.len(), 1);
    accounts.hold(&all_in_one.sender.accepted(), all_in_one.sandbox.echoes_sent());
    running.stop().await;
}
