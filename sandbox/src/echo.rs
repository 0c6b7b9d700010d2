//! Posts echoes, the webhooks that TextUs would send about the writes it carried out, in the background until each is
//! accepted.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::options::EchoTiming;
use crate::post;
use crate::server::SandboxState;
use crate::state::Outgoing;

/// Counts of the echoes of all writes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EchoCounts {
    /// Echoes that were answered 2xx.
    pub sent: u64,
    /// Echoes that were not accepted after all attempts, or whose target was removed.
    pub given_up: u64,
    pub pending: u64,
}

/// Attempts per echo. With the pauses between them they take about 12 seconds, which is longer than a restart.
const ATTEMPTS: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Delay before the first attempt. Normally a write's answer is on its way before its webhook is.
const AFTER_ANSWER: Duration = Duration::from_millis(20);

/// Starts sending an echo; the task ends when the echo was accepted or given up.
pub(crate) fn spawn(shared: &Arc<SandboxState>, webhook: Outgoing, timing: EchoTiming) -> JoinHandle<()> {
    let bytes = webhook.payload.to_string().into_bytes();
    count(shared, |counts| counts.pending += 1);
    let shared_by_task = Arc::clone(shared);
    shared.life.tasks.spawn(async move {
        let shared = shared_by_task;
        if timing == EchoTiming::AfterAnswer {
            tokio::time::sleep(AFTER_ANSWER).await;
        }
        let accepted = tokio::select! {
            () = shared.life.stop.cancelled() => false,
            accepted = deliver(&shared, &webhook.integration, &bytes) => accepted,
        };
        count(&shared, |counts| {
            counts.pending -= 1;
            if accepted {
                counts.sent += 1;
            } else {
                counts.given_up += 1;
            }
        });
    })
}

async fn deliver(shared: &SandboxState, integration: &str, bytes: &[u8]) -> bool {
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=ATTEMPTS {
        // The target is read anew for each attempt, because the receiver may have moved to another port meanwhile.
        let Some(target) = shared.state().target(integration) else { return false };
        match post::post_with(&shared.client, &target.url, &target.secret, bytes).await {
            Ok(posted) if posted.is_success() => return true,
            Ok(posted) => tracing::debug!(attempt, status = posted.status, "echo refused"),
            Err(_) => tracing::debug!(attempt, "echo not delivered"),
        }
        if attempt < ATTEMPTS {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    false
}

fn count(shared: &SandboxState, change: impl FnOnce(&mut EchoCounts)) {
    change(&mut shared.echo_counts.lock().unwrap_or_else(PoisonError::into_inner));
}
