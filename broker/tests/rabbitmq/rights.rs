//! On an empty virtual host, the users of deploy/rabbitmq/definitions.template.json may do what their programs do.

use std::collections::BTreeSet;

use hookline_broker::Publish;
use hookline_broker::rabbitmq::RabbitRole;
use hookline_broker::topology::rabbitmq::Topology;
use hookline_common::names::HandlerName;
use hookline_common::testing::nodes::RabbitNode;
use serde_json::Value;

use super::{options, ready};

const DEFINITIONS: &str = include_str!("../../../deploy/rabbitmq/definitions.template.json");

/// Creates a user with the rights that `user` has in the definitions, in `vhost`; returns its URL.
async fn user_like(node: &RabbitNode, vhost: &str, user: &str) -> String {
    let definitions: Value = serde_json::from_str(DEFINITIONS).expect("JSON");
    let permissions = definitions["permissions"].as_array().expect("a list");
    let rights = permissions.iter().find(|rights| rights["user"] == user).expect("the user");
    let name = format!("{user}-{vhost}");
    node.ctl(&["add_user", &name, "a-password"]).await;
    let patterns = ["configure", "write", "read"].map(|right| rights[right].as_str().expect("a pattern"));
    node.ctl(&[["set_permissions", "-p", vhost, name.as_str()].as_slice(), patterns.as_slice()].concat()).await;
    format!("amqp://{name}:a-password@127.0.0.1:{}/{vhost}", node.port())
}

/// Source, key and target of every binding that somebody made.
async fn bindings(node: &RabbitNode, vhost: &str) -> BTreeSet<Vec<String>> {
    let columns = ["source_name", "routing_key", "destination_name"];
    let listed = node.ctl(&[["list_bindings", "-p", vhost, "--no-table-headers"].as_slice(), &columns].concat()).await;
    let rows = listed.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    // The default exchange has one binding to each queue.
    rows.filter(|row| row.len() == 3 && !row[0].is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_worker_and_operator_may_declare_and_bind_everything() {
    let node = RabbitNode::shared().await;
    let needed: BTreeSet<Vec<String>> = Topology::of(HandlerName::ALL)
        .bindings
        .into_iter()
        .map(|binding| vec![binding.source.to_owned(), binding.key.clone(), binding.queue.name()])
        .collect();
    for (user, role) in [
        ("hookline-ingest", RabbitRole::Ingest),
        ("hookline-worker", RabbitRole::Worker),
        ("hookline-operator", RabbitRole::Command),
    ] {
        let vhost = node.new_vhost().await;
        let url = user_like(node, &vhost, user).await;

        let broker = ready(options(&url, role)).await;
        if role == RabbitRole::Command {
            broker.apply_topology().await.expect("applied");
        }

        assert_eq!(bindings(node, &vhost).await, needed, "{user}");
        broker.close().await;
    }
}
