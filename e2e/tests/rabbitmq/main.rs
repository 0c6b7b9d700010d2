//! The services and the commands with the queues in a real RabbitMQ.

mod bench;
mod commands;
mod services;
mod worlds;

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::{AllInOne, Process, binary, eventually};
use serde_json::Value;
use tokio::process::Command;

/// An address at which nothing answers.
const NOWHERE: &str = "amqp://guest:guest@127.0.0.1:1/nowhere";

/// An all-in-one Hookline whose queues are in a virtual host of its own, and the name of that.
async fn all_in_one() -> (AllInOne, String) {
    let node = RabbitNode::shared().await;
    let vhost = node.new_vhost().await;
    (AllInOne::with(|_options| {}, &broker(&node.url_of(&vhost))).await, vhost)
}

/// The lines that put the queues there.
fn broker(url: &str) -> String {
    format!("[broker]\nurl = \"{url}\"\n")
}

async fn delete_queue(vhost: &str, queue: &str) {
    RabbitNode::shared().await.ctl(&["delete_queue", "-p", vhost, queue]).await;
}

/// One of our programs, with this all-in-one Hookline's configuration and nothing of the surroundings.
fn program(all_in_one: &AllInOne, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary(name));
    command.current_dir(all_in_one.dir()).env_clear().arg("--config").arg(all_in_one.config()).args(arguments);
    command
}

/// Starts a service and returns the addresses in its line `hookline.started`.
async fn start(command: Command) -> (Process, Value) {
    let mut process = Process::start(command);
    let started = process
        .line("hookline.started", |line| {
            serde_json::from_str::<Value>(line).ok().filter(|line| line["message"] == "hookline.started")
        })
        .await;
    (process, started)
}

/// Status and body of an admin path.
async fn admin(started: &Value, path: &str) -> (u16, String) {
    let client = hookline_sandbox::samples::client().expect("a client");
    let url = format!("http://{}{path}", started["admin"].as_str().expect("an address"));
    let answer = client.get(url).send().await.expect("the admin listener answers");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

async fn becomes_ready(started: &Value) {
    let ready = r#"{"status":"ready"}"#;
    eventually("it is ready", async || (admin(started, "/readyz").await.1 == ready).then_some(())).await;
}
