//! Which destinations are paused, by an operator or because they refused the credentials, and what a pause makes wait.
//!
//! A pause may last for days. What it holds goes round ever more seldom, and says little; when the pause ends, it is
//! published anew and need not wait for its time. Every worker looks, and each delivery is given to one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hookline_common::names::{Destination, HandlerName};
use hookline_common::time::Timestamp;
use hookline_store::model::GateRow;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::delivery::consume::Context;
use crate::delivery::undelivered::{self, MOST};

/// Between two looks. A pause is over when two in a row say so: every worker's gate has seen it by then, and what is
/// published does not meet one that is closed still.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a pause holds looks again after these at the earliest and at the latest.
const SOONEST: Duration = Duration::from_secs(10);
const LATEST: Duration = Duration::from_mins(5);
/// Between two lines about what a handler's pause holds.
const TELL_EVERY: Duration = Duration::from_mins(1);

#[derive(Default)]
pub(crate) struct Pauses {
    /// `None` before the first look.
    paused: Mutex<Option<BTreeSet<Destination>>>,
    held: Mutex<BTreeMap<HandlerName, Held>>,
}

struct Held {
    told: Instant,
    since: u64,
}

impl Pauses {
    /// Takes over what the worker's poll saw.
    pub(crate) fn see(&self, gates: &[GateRow]) {
        *lock(&self.paused) = Some(gates.iter().filter(|gate| gate.paused).map(|gate| gate.destination).collect());
    }

    /// Counts a delivery that waits for a destination; how many to tell of, where it is time to.
    pub(crate) fn holds(&self, handler: HandlerName) -> Option<u64> {
        let mut all = lock(&self.held);
        let Some(held) = all.get_mut(&handler) else {
            all.insert(handler, Held { told: Instant::now(), since: 0 });
            return Some(1);
        };
        held.since += 1;
        (held.told.elapsed() >= TELL_EVERY).then(|| {
            held.told = Instant::now();
            std::mem::take(&mut held.since)
        })
    }
}

/// When a delivery that a pause holds looks again: after as long again as it has waited.
pub(crate) fn look_again(received_at: Timestamp, now: Timestamp) -> Timestamp {
    // Earlier rather than later: those that came together need not come back together.
    let jitter = 0.75 + 0.25 * rand::random::<f64>();
    now.plus(now.since(received_at).mul_f64(jitter).clamp(SOONEST, LATEST.mul_f64(jitter)))
}

/// Brings back what a pause held once it is over, until `shutdown`.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let mut ticker = tokio::time::interval(LOOK_EVERY);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        let mut open_before = BTreeSet::new();
        loop {
            ticker.tick().await;
            // While the store is away nothing is known: what was paused is.
            let Some(paused) = lock(&context.pauses.paused).clone() else { continue };
            let open: BTreeSet<_> = Destination::ALL.iter().copied().filter(|one| !paused.contains(one)).collect();
            for destination in open.intersection(&open_before) {
                if let Err(error) = bring_back(&context, *destination).await {
                    tracing::warn!(destination = %destination, error = %format!("{error:#}"),
                        "pause.not_all_back: what the pause held is published a little later");
                }
            }
            open_before = open;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = looking => {}
    }
}

/// Publishes anew what a pause held. The copies that are parked still are dropped when they come.
async fn bring_back(context: &Context, destination: Destination) -> anyhow::Result<()> {
    // Each second, and there is nothing to write then.
    if context.store.held(destination).await? == 0 {
        return Ok(());
    }
    let mut back = 0;
    loop {
        let held = context.store.take_held(destination, MOST).await?;
        let outcome = undelivered::publish_anew(context, &held).await;
        back += outcome.published;
        if let Some(why) = outcome.why {
            context.store.put_back(&outcome.not_stored, Some(destination)).await?;
            return Err(why);
        }
        if held.len() < usize::try_from(MOST).unwrap_or(usize::MAX) {
            break;
        }
    }
    if back > 0 {
        tracing::info!(destination = %destination, deliveries = back, "pause.over: what it held goes on now");
    }
    Ok(())
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pause_holds_looks_again_ever_more_seldom_and_within_five_minutes() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let wait = |waited: u64| look_again(now.minus(Duration::from_secs(waited)), now).since(now);
        for _ in 0..100 {
            for waited in [0, 5, 10] {
                assert_eq!(wait(waited), SOONEST);
            }
            assert!((45..=60).contains(&wait(60).as_secs()));
            for waited in [400, 86_400] {
                assert!((225..=300).contains(&wait(waited).as_secs()));
            }
        }
        assert_eq!(look_again(now.plus(LATEST), now).since(now), SOONEST, "our clock was set back");
    }

    #[test]
    fn a_pause_is_told_of_once_and_then_each_minute_with_how_many_it_held() {
        let pauses = Pauses::default();
        assert_eq!(pauses.holds(HandlerName::RecordOptOut), Some(1));
        assert_eq!(pauses.holds(HandlerName::LogNote), Some(1), "each handler's own");
        for _ in 0..41 {
            assert_eq!(pauses.holds(HandlerName::RecordOptOut), None);
        }
        let before = Instant::now().checked_sub(TELL_EVERY).expect("the machine has run for a minute");
        lock(&pauses.held).get_mut(&HandlerName::RecordOptOut).expect("it was counted").told = before;
        assert_eq!(pauses.holds(HandlerName::RecordOptOut), Some(42));
    }
}
