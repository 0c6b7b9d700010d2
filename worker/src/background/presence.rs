//! Reports that this worker is alive, answers what commands ask all workers, and knows whether the store is reachable.
//!
//! An answer has this meaning: everything that was in the store when the question was asked (a pause, a resume) binds
//! every call that this worker starts from now on.

use std::sync::Arc;
use std::time::Duration;

use hookline_common::names::{HandlerName, Queue};
use hookline_common::service::telemetry::metrics::Role;
use hookline_common::time::Timestamp;
use hookline_store::StoreError;
use hookline_store::model::{Question, WorkerProcess};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::delivery::consume::Context;
use crate::gate::Gate;

/// How soon a pause is seen. Each worker costs its store seven look-ups of a row or two per second.
const POLL: Duration = Duration::from_millis(150);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// Time for the last write on shutdown; the store may be away.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Runs until `ended`, which includes the drain, while calls are still made.
pub(crate) async fn run(context: Arc<Context>, gates: Vec<Arc<Gate>>, ended: CancellationToken) {
    let mut answered = Question::NONE;
    let mut heartbeat_due = Instant::now();
    let worker = process(&context);
    loop {
        match look(&context, &gates, &worker, &mut answered, &mut heartbeat_due).await {
            Ok(()) => context.store_answers(),
            // Whatever the reason: who cannot read the gates must not call, and commands do not see this worker.
            Err(error) => context.store_is_away(&error),
        }
        tokio::select! {
            () = ended.cancelled() => break,
            () = tokio::time::sleep(POLL) => {}
        }
    }
    // If this fails, the store forgets the row after a minute.
    let _ = tokio::time::timeout(LAST_WORD, context.store.worker_left(&context.worker_id)).await;
}

async fn look(
    context: &Context,
    gates: &[Arc<Gate>],
    worker: &WorkerProcess,
    answered: &mut Question,
    heartbeat_due: &mut Instant,
) -> Result<(), StoreError> {
    if Instant::now() >= *heartbeat_due {
        context.store.heartbeat(worker).await?;
        *heartbeat_due = Instant::now() + HEARTBEAT_EVERY;
    }
    let (question, rows) = context.store.look().await?;
    context.pauses.see(&rows);
    gates.iter().for_each(|gate| gate.follow(&rows));
    if question > *answered {
        context.store.answer(&context.worker_id, question, held_history(context).await).await?;
        *answered = question;
    }
    Ok(())
}

fn process(context: &Context) -> WorkerProcess {
    let kind = match context.metrics.role() {
        Role::Both => "run",
        Role::Worker | Role::Ingest => "worker",
    };
    let now = Timestamp::now();
    WorkerProcess {
        id: context.worker_id.clone(),
        kind: Some(kind.to_owned()),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        since: Some(now),
        heartbeat_at: now,
    }
}

/// Counts the history's deliveries in hand, whose events are in no queue and not in the store either.
async fn held_history(context: &Context) -> i64 {
    let history = HandlerName::RecordHistory;
    let mut held = 0;
    for queue in [Queue::Work(history), Queue::Dead(history)] {
        held += context.broker.held(queue).await;
    }
    i64::try_from(held).unwrap_or(i64::MAX)
}
