//! Reads what RabbitMQ's queues hold from each queue's leader, because RabbitMQ's own lists are up to five seconds old.

use std::collections::BTreeMap;

use hookline_common::testing::nodes::RabbitNode;

use super::Deployment;

impl Deployment<'_> {
    /// Returns the messages per queue: ready ones, those handed out, and those that a delay queue has not passed on
    /// yet.
    ///
    /// # Panics
    /// If a queue has no leader.
    pub async fn queues(&self) -> BTreeMap<String, u64> {
        let ask = format!(
            "lists:foreach(fun(Q) -> {{ok, {{_, O}}, _}} = ra:leader_query(amqqueue:get_pid(Q), fun rabbit_fifo:overview/1), \
             io:format(\"~s ~b~n\", [element(4, amqqueue:get_name(Q)), maps:get(num_messages, O) + maps:get(num_discarded, \
             O, 0) + maps:get(num_discard_checked_out, O, 0)]) end, [Q || Q <- rabbit_amqqueue:list(<<\"{}\">>), \
             amqqueue:get_type(Q) =:= rabbit_quorum_queue]).",
            self.vhost
        );
        let listed = self.ctl(&["eval", &ask]).await;
        let count = |line: &str| {
            let (name, count) = line.rsplit_once(' ')?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        listed.lines().filter_map(count).collect()
    }

    /// Returns the queues that are not empty.
    pub async fn waiting(&self) -> BTreeMap<String, u64> {
        let mut queues = self.queues().await;
        queues.retain(|_, messages| *messages > 0);
        queues
    }

    /// Returns the node that leads a queue.
    ///
    /// # Panics
    /// If there is no such queue.
    pub async fn leader(&self, queue: &str) -> String {
        self.leader_seen_by(self.node(), queue).await
    }

    /// Returns the node that leads a queue, as this node sees it.
    ///
    /// # Panics
    /// If there is no such queue, or the node does not answer.
    pub async fn leader_seen_by(&self, node: &RabbitNode, queue: &str) -> String {
        let ask = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{}\">>, queue, <<\"{queue}\">>)), io:format(\"~s~n\", \
             [element(2, amqqueue:get_pid(Q))]).",
            self.vhost
        );
        let told = node.ctl(&["eval", &ask]).await;
        told.lines().next().expect("a name").to_owned()
    }
}
