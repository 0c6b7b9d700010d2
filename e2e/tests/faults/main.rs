//! Faults that Hookline is shown to survive, each injected into real processes: ingests, workers, RabbitMQ, PostgreSQL.
//! Every test ends with the whole oracle ([`Deployment::holds`]). Those that take long are run by `scripts/faults` only.

mod alarms;
mod brokers;
mod channels;
mod clock;
mod cluster;
mod crm;
mod destinations;
mod ingests;
mod isolation;
mod limits;
mod network;
mod outage;
mod pacing;
mod parts;
mod report;
mod runbook;
mod soak;
mod spools;
mod store;
mod strangers;
mod topology;
mod workers;

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::Deployment;

pub(crate) use report::{Fault, full, seed, timed};

/// The node that tests share which do it no harm.
pub(crate) async fn shared_node() -> &'static [RabbitNode] {
    std::slice::from_ref(RabbitNode::shared().await)
}

/// Waits until so many different events were answered 200.
pub(crate) async fn accepted(all_in_one: &Deployment<'_>, count: usize) {
    hookline_e2e::eventually("more is accepted", async || (all_in_one.sender.accepted().len() >= count).then_some(()))
        .await;
}
