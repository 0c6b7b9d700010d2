//! Counts opt-outs that were received and haven't been PUT everywhere (docs/guarantees.md, 10), whatever holds them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_common::time::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::delivery::consume::Context;

/// An opt-out counts as unsent after this time. It is three times the longest wait of a retry (`retry.max`, 5 min), so
/// that more than one failed call holds what is reported.
pub const UNSENT_AFTER: Duration = Duration::from_mins(15);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Judging a hundred thousand opt-outs takes seconds. The wait between two counts is at least this many times as long
/// as the last count took.
const SHARE: u32 = 20;

/// Counts unsent opt-outs until `shutdown`.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let mut ticker = tokio::time::interval(LOOK_EVERY);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        loop {
            ticker.tick().await;
            let clock = Instant::now();
            // Only a count that succeeded stretches the wait: waiting in vain is no load for the store.
            if look(&context).await {
                ticker.reset_after(LOOK_EVERY.max(clock.elapsed() * SHARE));
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = looking => {}
    }
}

/// Counts once. Returns `false` if the opt-outs couldn't be counted.
async fn look(context: &Context) -> bool {
    let accounts = &context.settings.handlers.record_opt_out.accounts;
    let metrics = &context.metrics.worker;
    match context.store.unsent_sum(accounts, UNSENT_AFTER).await {
        Ok(sum) => {
            let oldest = sum.oldest.map(|oldest| Timestamp::now().since(oldest)).unwrap_or_default();
            metrics.opt_outs_unsent(sum.opt_outs, sum.stuck, oldest);
            true
        }
        // Report nothing rather than that all is well.
        Err(error) => {
            tracing::debug!(error = %error, "opt_outs.not_counted: trying again");
            metrics.opt_outs_unsent_unknown();
            false
        }
    }
}
