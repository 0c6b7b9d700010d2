//! What docs/runbooks.md says is done word for word, under load.

use std::process::Output;

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::{Deployment, Half, Load, send_all};
use serde_json::Value;
use tokio::process::Command;

use crate::brokers::connected;
use crate::{Fault, full, seed, timed};

const RUNBOOKS: &str = include_str!("../../../docs/runbooks.md");
/// The queue that the page names as an example.
const QUEUE: &str = "hookline.work.log_note";

/// The commands of a part of the runbooks, block by block.
fn commands(part: &str) -> Vec<String> {
    let (_, text) = RUNBOOKS.split_once(&format!("\n## {part}\n")).expect("there is such a part");
    let text = text.split("\n## ").next().expect("a text");
    let mut blocks = text.split("```sh\n").skip(1);
    let block = |block: &str| {
        let indent = block.len() - block.trim_start().len();
        let lines = block.split("```").next().expect("a text").lines();
        lines.map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n").collect::<String>()
    };
    blocks.by_ref().map(block).collect()
}

async fn bash(programs: &std::path::Path, script: &str) -> Output {
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", script]).env("PATH", format!("{}:/usr/bin:/bin", programs.display()));
    let ran = bash.kill_on_drop(true).output();
    tokio::time::timeout(hookline_e2e::DEADLINE, ran).await.expect("it ends").expect("bash is there")
}

/// Replaces the queue by one of an earlier version, which had another argument; whoever is connected stays it.
async fn change_an_argument(all_in_one: &Deployment<'_>) {
    let deleted_and_declared = format!(
        "Name = rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{QUEUE}\">>), {{ok, Q}} = rabbit_amqqueue:lookup(Name), \
         Bindings = [B || B <- rabbit_binding:list_for_destination(Name), element(2, B) =/= \
         rabbit_misc:r(<<\"{vhost}\">>, exchange, <<>>)], \
         Arguments = lists:keyreplace(<<\"x-delivery-limit\">>, 1, amqqueue:get_arguments(Q), \
         {{<<\"x-delivery-limit\">>, long, 7}}), \
         {{ok, 0}} = rabbit_amqqueue:delete(Q, false, false, <<\"e2e\">>), \
         {{new, _}} = rabbit_amqqueue:declare(Name, true, false, Arguments, none, <<\"e2e\">>), \
         [ok = rabbit_binding:add(B, <<\"e2e\">>) || B <- Bindings], length(Bindings).",
        vhost = all_in_one.vhost
    );
    let bindings = all_in_one.ctl(&["eval", &deleted_and_declared]).await;
    assert!(bindings.trim().parse::<u32>().is_ok_and(|bindings| bindings > 1), "{bindings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_argument_is_changed_as_the_runbook_says_and_nothing_is_lost_or_done_twice() {
    let fault = Fault::new("runbook", "a queue's argument changed as docs/runbooks.md says, messages in it");
    let nodes = [RabbitNode::start().await];
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.set("HOOKLINE__BROKER__MISSING_AFTER", "10s");
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), full(150, 600), full(15, 60), &all_in_one.sandbox);
    let parts = load.parts(3);
    send_all(&all_in_one.sender, parts[0]).await;
    all_in_one.settled().await;
    all_in_one.stop(Half::Worker, 0).await;
    change_an_argument(&all_in_one).await;
    send_all(&all_in_one.sender, parts[1]).await;
    let held = all_in_one.queues().await[QUEUE];

    let programs = tempfile::tempdir().expect("a directory");
    nodes[0].write_commands(programs.path());
    all_in_one.write_command(programs.path());
    let blocks = commands("Changing a queue argument");
    let told = bash(programs.path(), &blocks[0]).await;
    let set = format!("vhost=hookline queue={QUEUE} ");
    assert!(blocks[1].starts_with(&set), "{}", blocks[1]);
    let script = blocks[1..].concat().replacen("vhost=hookline ", &format!("vhost='{}' ", all_in_one.vhost), 1);
    let (ran, ()) = tokio::join!(bash(programs.path(), &script), send_all(&all_in_one.sender, parts[2]));
    println!("{}", String::from_utf8_lossy(&ran.stdout));
    let after = bash(programs.path(), &blocks[0]).await;
    let back = all_in_one.queues().await[QUEUE];
    all_in_one.put(Half::Worker, 0, &[]).await;
    let recovered = connected(&all_in_one).await;
    let recovered = recovered
        + timed("all is done", hookline_e2e::DEADLINE, async || {
            all_in_one.json(&["status"]).await["handlers"]
                .as_array()
                .is_some_and(|handlers| handlers.iter().all(|handler: &Value| handler["waiting"] == 0))
        })
        .await;
    let tally = all_in_one.holds(&load, 0).await;

    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    assert!(text(&told.stdout).contains(&format!("other    queue {QUEUE}: ")), "{}", text(&told.stdout));
    assert!(ran.status.success(), "{}\n{}", text(&ran.stdout), text(&ran.stderr));
    assert!(after.status.success(), "all is as it must be: {}", text(&after.stdout));
    assert!(held > 0 && back >= held, "{held} messages were moved, {back} are back");
    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(recovered));
}
