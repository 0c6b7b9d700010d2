//! Asks every running worker whether it has looked at the store since, and what only it can know.

use std::time::{Duration, Instant};

use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::WorkerAnswer;

/// Workers look at the store every 150 ms; one that has not answered by then is in trouble.
pub(crate) const WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A worker says every five seconds that it is there: one that was silent for longer is not running.
pub(crate) const ALIVE_WITHIN: Duration = Duration::from_secs(15);

/// What came of a question.
pub(crate) struct Answers {
    /// Who has answered.
    pub(crate) answered: Vec<WorkerAnswer>,
    /// How many are running, by their heartbeats, and have not.
    pub(crate) silent: usize,
}

/// Returns when all running workers have answered, or time is up.
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
