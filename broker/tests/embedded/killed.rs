//! `kill -9` at any moment loses no event whose publish was answered. The publisher is this test binary again, in its
//! own process, which prints the answers.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_broker::conformance::{next, settle};
use hookline_broker::{Consume, Publish, Settlement};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::testing::events::an_inbound_message;

use crate::Directory;

/// The child publishes only if this file exists: run by hand, it does nothing.
const MARKER: &str = "publish-until-killed";
const PRODUCERS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_outlives_kill_9() {
    for answers in [1, 40, 300, 700] {
        let directory = Directory::new();
        let mut child = publisher(directory.dir.path(), None);
        let mut answered = answers_of(&mut child, Some(answers));
        child.kill().expect("killed");
        answered.extend(answers_of(&mut child, None));
        child.wait().expect("ended");

        assert!(answered.len() >= answers);
        all_are_there(&directory, &answered).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_outlives_a_crash_around_the_commit() {
    for point in ["publish.sent:200", "spool.committing:20", "publish.confirmed:20"] {
        let directory = Directory::new();
        let mut child = publisher(directory.dir.path(), Some(point));
        let answered = answers_of(&mut child, None);
        let status = child.wait().expect("ended");

        assert!(!status.success(), "it crashed at {point}");
        assert!(!answered.is_empty(), "it answered before {point}");
        all_are_there(&directory, &answered).await;
    }
}

/// The tests above run this in the data directory.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other process of the tests in this file"]
async fn publishes_until_it_is_killed() {
    if !Path::new(MARKER).exists() {
        return;
    }
    let options = hookline_broker::embedded::EmbeddedOptions::new("data", HandlerName::ALL.to_vec());
    let broker = hookline_broker::embedded::EmbeddedBroker::open(options).await.unwrap();
    // The parent may have failed, so the child must not run for ever.
    let end = Instant::now() + Duration::from_secs(60);
    let producers = (0..PRODUCERS).map(|_| {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            while Instant::now() < end {
                let event = an_inbound_message();
                broker.publish(&event).await.unwrap();
                let line = format!("\nanswered {}\n", event.id);
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        })
    });
    futures::future::join_all(producers.collect::<Vec<_>>()).await;
}

fn publisher(dir: &Path, abort_at: Option<&str>) -> Child {
    std::fs::write(dir.join(MARKER), "").expect("written");
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "killed::publishes_until_it_is_killed", "--ignored", "--nocapture"]);
    command.current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(point) = abort_at {
        command.env("HOOKLINE_TEST_ABORT_AT", point);
    }
    command.spawn().expect("started")
}

/// Reads answers until there are `enough`, or until the output ends.
fn answers_of(child: &mut Child, enough: Option<usize>) -> BTreeSet<String> {
    let stdout = child.stdout.take().expect("piped");
    let mut lines = BufReader::with_capacity(64, stdout);
    let mut answered = BTreeSet::new();
    let mut line = String::new();
    while enough.is_none_or(|enough| answered.len() < enough) {
        line.clear();
        if lines.read_line(&mut line).expect("read") == 0 {
            break;
        }
        // A line that the end of the process cut may hold half an id, so we ignore it.
        if let Some(id) = line.strip_prefix("answered ").and_then(|id| id.strip_suffix('\n')) {
            answered.insert(id.to_owned());
        }
    }
    child.stdout = Some(lines.into_inner());
    answered
}

async fn all_are_there(directory: &Directory, answered: &BTreeSet<String>) {
    let mut options = directory.options();
    options.data_dir = directory.dir.path().join("data");
    let broker = directory.open_with(options).await;
    for handler in [HandlerName::LogNote, HandlerName::RecordHistory] {
        let mut missing = answered.clone();
        let mut deliveries = broker.consume(Queue::Work(handler), 256).await.expect("the owner");
        while !missing.is_empty() {
            let delivery = next(&mut deliveries).await;
            missing.remove(delivery.event.id.as_str());
            settle(delivery, Settlement::Done).await;
        }
    }
    broker.close().await;
}
