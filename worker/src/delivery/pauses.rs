//! Knows which destinations are paused, by an operator or because they refused the credentials, and which deliveries a
//! pause makes wait.
//!
//! A pause may last for days. Deliveries that it holds come back less and less often, and are logged rarely. When the
//! pause ends, they are republished, so that they need not wait for their due time. Every worker watches for this, and
//! the store gives each delivery to one of them.

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

/// How often ended pauses are looked for. A pause counts as over when two looks in a row say so: by then every worker's
/// gate has seen it, and no republished delivery meets a gate that is still closed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bounds of the wait before a delivery that a pause holds comes back.
const SOONEST: Duration = Duration::from_secs(10);
const LATEST: Duration = Duration::from_mins(5);
/// Least time between two log lines about the deliveries of one handler that a pause holds.
const TELL_EVERY: Duration = Duration::from_mins(1);

#[derive(Default)]
pub(crate) struct Pauses {
    /// `None` until the worker has polled the gates for the first time.
    paused: Mutex<Option<BTreeSet<Destination>>>,
    held: Mutex<BTreeMap<HandlerName, Held>>,
}

struct Held {
    told: Instant,
    since: u64,
}

impl Pauses {
    /// Stores which destinations the worker's poll saw paused.
    pub(crate) fn see(&self, gates: &[GateRow]) {
        *lock(&self.paused) = Some(gates.iter().filter(|gate| gate.paused).map(|gate| gate.destination).collect());
    }

    /// Counts a delivery that waits for a paused destination. Returns the count to log when a log line is due.
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

/// Returns when a delivery that a pause holds comes back. The wait is about as long as the event's age, within
/// `SOONEST` and `LATEST`.
pub(crate) fn look_again(received_at: Timestamp, now: Timestamp) -> Timestamp {
    // The jitter only shortens the wait. It spreads deliveries that arrived together.
    let jitter = 0.75 + 0.25 * rand::random::<f64>();
    now.plus(now.since(received_at).mul_f64(jitter).clamp(SOONEST, LATEST.mul_f64(jitter)))
}

/// Republishes what a pause held once the pause is over, until `shutdown`.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let mut ticker = tokio::time::interval(LOOK_EVERY);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        let mut open_before = BTreeSet::new();
        loop {
            ticker.tick().await;
            // Before the first poll nothing is known. While the store is away, the last known pauses stay.
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

/// Republishes what a pause held. Copies that are still parked are dropped when they come.
async fn bring_back(context: &Context, destination: Destination) -> anyhow::Result<()> {
    // This runs every second; the query avoids a write when nothing is held.
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
