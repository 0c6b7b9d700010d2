//! Retries work that needs only the store. While the store is away, the delivery stays in hand: a parked one would be
//! invisible to whoever counts the events that aren't recorded yet.

use std::time::Duration;

use hookline_store::StoreError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::delivery::consume::Context;

const AGAIN: Duration = Duration::from_secs(1);
/// After this time the deliveries in hand are given back, and none is taken until the store answers.
const IN_HAND: Duration = Duration::from_secs(60);

/// Tracks how long one piece of work has been tried.
pub(crate) struct Patience<'a> {
    context: &'a Context,
    shutdown: &'a CancellationToken,
    since: Instant,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(context: &'a Context, shutdown: &'a CancellationToken) -> Self {
        Self { context, shutdown, since: Instant::now() }
    }

    /// Waits a second and returns whether to try again: yes while the store is away and a minute hasn't passed. A
    /// `shutdown` during the wait allows one more try.
    pub(crate) async fn again(&self, error: &StoreError) -> bool {
        if !error.is_unavailable() || self.shutdown.is_cancelled() || self.since.elapsed() >= IN_HAND {
            return false;
        }
        self.context.store_is_away(error);
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
        true
    }
}

/// Returns when the store answers, or on `shutdown`.
pub(crate) async fn store_is_back(context: &Context, shutdown: &CancellationToken) {
    while context.store.latest_question().await.is_err_and(|error| error.is_unavailable()) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}
