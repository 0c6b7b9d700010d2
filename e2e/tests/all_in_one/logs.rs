//! Whoever reads the log may stall; nothing else waits for them.

use std::process::Stdio;
use std::time::Duration;

use futures::future::join_all;
use hookline_e2e::{ACCOUNT, AllInOne, eventually};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{Endpoint, Fault, FaultRule, WebhookTarget};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

const DROPPED: &str = "hookline_log_lines_dropped_total ";
const ENDS_WITHIN: Duration = Duration::from_secs(40);

/// Returns how many lines the process has dropped.
async fn dropped(admin: &str) -> u64 {
    let metrics = reqwest::get(format!("http://{admin}/metrics")).await.expect("an answer").text().await.expect("text");
    let value = metrics.lines().find_map(|line| line.strip_prefix(DROPPED)).expect("the metric is there from zero");
    value.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_of_the_log_holds_up_no_opt_out_and_no_shutdown() {
    let mut all_in_one = AllInOne::start().await;
    all_in_one.set("RUST_LOG", "debug");
    let mut command = all_in_one.command(&["run"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().expect("it starts");
    let mut log = BufReader::new(process.stderr.take().expect("piped")).lines();
    let (webhooks, admin) = loop {
        let line = log.next_line().await.expect("readable").expect("it runs");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        if line["message"] == "hookline.started" {
            break (line["webhooks"].as_str().unwrap().to_owned(), line["admin"].as_str().unwrap().to_owned());
        }
    };
    let webhooks = format!("http://{webhooks}/webhooks/textus");
    all_in_one.sender.goes_to(&webhooks);
    let secret = hookline_e2e::SECRET.to_owned();
    all_in_one.sandbox.set_webhook(WebhookTarget { url: webhooks, secret });

    // From here on nobody reads. The pipe and the buffer fill, and what does not fit is dropped.
    eventually("lines are dropped", async || {
        let calls: Vec<_> = (0..50).map(|_| sample("phone_call.completed", &SampleFacts::random(ACCOUNT))).collect();
        join_all(calls.iter().map(|call| all_in_one.sender.send(call))).await;
        (dropped(&admin).await > 0).then_some(())
    })
    .await;
    all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;

    eventually("the opt-out is PUT", async || (!all_in_one.sandbox.effects().is_empty()).then_some(())).await;
    let pid = Pid::from_raw(process.id().expect("it runs").cast_signed()).expect("a process id");
    kill_process(pid, Signal::TERM).expect("sent");
    let ended = tokio::time::timeout(ENDS_WITHIN, process.wait()).await.expect("it ends").expect("a status");
    assert_eq!(ended.code(), Some(0));
    drop(log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_delivery_says_why_also_where_no_answer_came() {
    let all_in_one = AllInOne::start().await;
    all_in_one.sandbox.fault(FaultRule::new(Fault::Reset).on(Endpoint::PutOptOut).times(1));
    let mut running = all_in_one.run().await;
    all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;

    let parked = running
        .process
        .line("delivery.parked", |line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["message"] == "delivery.parked").then_some(line)
        })
        .await;

    assert_eq!(parked["cause"], "no_answer", "{parked}");
    assert!(parked["status"].is_null(), "{parked}");
    all_in_one.settled().await;
    assert_eq!(running.stop().await.code, Some(0));
}
