//! Tells of opt-outs that were received and are not PUT everywhere (docs/guarantees.md, 10), whatever holds them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_common::time::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::delivery::consume::Context;

/// An opt-out counts as unsent after this: three times as long as any retry of it waits (`retry.max`, 5 min), so that what is told
/// is held by more than one failed call.
pub const UNSENT_AFTER: Duration = Duration::from_mins(15);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Judging a hundred thousand of them takes seconds: never more than this share of the time.
const SHARE: u32 = 20;

/// Counts them until `shutdown`.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let mut ticker = tokio::time::interval(LOOK_EVERY);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        loop {
            ticker.tick().await;
            let clock = Instant::now();
            // What was waited for in vain is no work of the store's.
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

/// `false` where they could not be counted.
async fn look(context: &Context) -> bool {
    let accounts = &context.settings.handlers.record_opt_out.accounts;
    let metrics = &context.metrics.worker;
    match context.store.unsent_sum(accounts, UNSENT_AFTER).await {
        Ok(sum) => {
            let oldest = sum.oldest.map(|oldest| Timestamp::now().since(oldest)).unwrap_or_default();
            metrics.opt_outs_unsent(sum.opt_outs, sum.stuck, oldest);
            true
        }
        // Nothing is told rather than that all is well.
        Err(error) => {
            tracing::debug!(error = %error, "opt_outs.not_counted: trying again");
            metrics.opt_outs_unsent_unknown();
            false
        }
    }
}
