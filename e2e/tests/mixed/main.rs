//! The mixed lane: random sequences of events, of faults of a part of the API, and of an operator's acts, by a seed; then
//! whether every opt-out is where it belongs, and every other promise kept. docs/faults.md tells what it found.
//!
//! ```text
//! scripts/faults mixed --seed 123                  one seed again, on one machine
//! scripts/faults mixed --rabbitmq --seed 123       and on RabbitMQ and PostgreSQL
//! scripts/faults mixed --seeds 1000
//! ```

mod accounts;
mod besides;
mod bodies;
mod clock;
mod crm;
mod erasure;
mod ledger;
mod maker;
mod numbers;
mod operator;
mod owed;
mod pace;
mod people;
mod plan;
mod play;
mod runs;
mod situations;
mod stage;
mod statuses;
mod verdict;
mod worlds;

use plan::Below;

#[tokio::test(flavor = "multi_thread")]
async fn on_one_machine() {
    runs::all(Below::OneMachine, 10, 1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_rabbitmq_and_postgres() {
    runs::all(Below::RabbitMqAndPostgres, 2, 100).await;
}

#[test]
fn a_seed_decides_the_whole_plan() {
    for below in [Below::OneMachine, Below::RabbitMqAndPostgres] {
        for seed in 0..50 {
            assert_eq!(runs::told(&maker::plan(seed, below)), runs::told(&maker::plan(seed, below)));
        }
    }
    assert_ne!(runs::told(&maker::plan(1, Below::OneMachine)), runs::told(&maker::plan(2, Below::OneMachine)));
}
