//! Work that only needs the store: while that is away, the delivery stays in hand. Parked, it would be out of sight of
//! whoever counts what is not recorded yet.

use std::time::Duration;

use hookline_store::StoreError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::delivery::consume::Context;

const AGAIN: Duration = Duration::from_secs(1);
/// After that what is in hand is given back, and nothing more is taken before the store answers.
const IN_HAND: Duration = Duration::from_secs(60);

/// How long one piece of work is tried.
pub(crate) struct Patience<'a> {
    context: &'a Context,
    shutdown: &'a CancellationToken,
    since: Instant,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(context: &'a Context, shutdown: &'a CancellationToken) -> Self {
        Self { context, shutdown, since: Instant::now() }
    }

    /// Whether to do it again, after a second: the store is away, and it was not tried for a minute yet. After
    /// `shutdown` it is tried once more.
    pub(crate) async fn again(&self, error: &StoreError) -> bool {
        if !error.is_unavailable() || self.shutdown.is_cancelled() || self.since.elapsed() >= IN_HAND {
            return false;
        }
        self.context.store_is_away();
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
