//! Asks every running worker to confirm that it has read the store, and for facts that only the worker knows.

use std::time::{Duration, Instant};

use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::WorkerAnswer;

/// Maximum wait for the answers. Workers read the store every 150 ms, so one that has not answered by then is in
/// trouble.
pub(crate) const WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Age of the last heartbeat after which a worker no longer counts as running. Workers send a heartbeat every five
/// seconds.
pub(crate) const ALIVE_WITHIN: Duration = Duration::from_secs(15);

/// The workers' answers to a question.
pub(crate) struct Answers {
    /// The workers that answered.
    pub(crate) answered: Vec<WorkerAnswer>,
    /// The number of workers that are running, by their heartbeats, and have not answered.
    pub(crate) silent: usize,
}

/// Returns when all running workers have answered or the time is up.
pub(crate) async fn ask(store: &Store) -> anyhow::Result<Answers> {
    let question = store.ask_workers().await?;
    let deadline = Instant::now() + WITHIN;
    loop {
        let now = Timestamp::now();
        let workers = store.answers(question).await?;
        let alive = workers.into_iter().filter(|worker| now.since(worker.heartbeat_at) <= ALIVE_WITHIN);
        let (answered, silent): (Vec<_>, Vec<_>) = alive.partition(|worker| worker.answered);
        if silent.is_empty() || Instant::now() >= deadline {
            return Ok(Answers { answered, silent: silent.len() });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
