//! Keeps a gate and the store's row alike. Each process reports how its calls ended, and the row's policy decides about
//! its waiting calls under the row's lock. The worker's single poll (`presence`) reads what others did every 150 ms
//! (docs/guarantees.md allows 250).

use std::sync::Arc;
use std::time::Duration;

use hookline_common::time::{Timestamp, duration, millis};
use hookline_store::StoreError;
use hookline_store::model::{GateRow, GateStanding};
use tokio_util::sync::CancellationToken;

use super::policy::{CheckResult, Policy};
use super::rate_limit::CLOCKS_DIFFER_MS;
use super::{Gate, GateRules};
use crate::destinations::limits::MAX_WAIT;

/// Pause between two exchanges, so that everything that happens meanwhile shares one.
const EXCHANGED_EVERY: Duration = Duration::from_millis(15);
/// The same pause while nothing limits or holds calls, when there are only successes to report.
const FREE_EXCHANGED_EVERY: Duration = Duration::from_millis(250);
const STORE_AWAY: Duration = Duration::from_millis(500);
/// Time for a last write on shutdown; the store may be away.
const LAST_WRITE: Duration = Duration::from_secs(1);
/// A policy written this far in the future comes from a clock that was set back.
const CLOCK_SET_BACK: Duration = Duration::from_secs(30);

impl Gate {
    /// Runs in the background and keeps this gate and the store alike until `shutdown`. From this call on, the store
    /// decides about calls that processes have to agree on.
    pub fn watch(self: Arc<Self>, shutdown: CancellationToken) -> impl Future<Output = ()> + Send {
        self.queue().asks_store = true;
        self.run(shutdown)
    }

    async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.wanted.notified() => {}
                () = tokio::time::sleep(FREE_EXCHANGED_EVERY) => {}
            }
            let exchanged = self.exchange().await;
            if let Err(error) = &exchanged {
                tracing::debug!(destination = %self.destination, %error, "gate.alone: the store does not answer");
            }
            tokio::time::sleep(if exchanged.is_ok() { EXCHANGED_EVERY } else { STORE_AWAY }).await;
        }
        // What this process learnt in its last moments binds the others too.
        let _ = tokio::time::timeout(LAST_WRITE, self.exchange()).await;
    }

    /// Takes over the store's state. Await this once before the first call, because a pause outlives a restart.
    ///
    /// # Errors
    /// When the store can't be read; the gate then stays as it was.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        self.follow(&self.store.gates().await?);
        // This process may hold other credentials than those that were refused.
        self.check_ended(CheckResult::Changed);
        Ok(())
    }

    /// Takes over the state from the store's row of this destination.
    pub fn follow(&self, rows: &[GateRow]) {
        let Some(row) = rows.iter().find(|row| row.destination == self.destination) else { return };
        let policy = read(row, self.now_ms());
        self.queue().follow(policy);
        self.policy_changed();
    }

    /// Sends the store the reports of this process and asks about its waiting calls. [`Gate::watch`] calls this by
    /// itself.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub async fn exchange(&self) -> Result<(), StoreError> {
        let (began, began_ms) = (self.began, self.began_ms);
        let Some(asked) = self.queue().exchange() else { return Ok(()) };
        let told = asked.reports.len();
        let change = move |mut row: GateRow, now: Timestamp| {
            // After the wait for the row, and again if the transaction is repeated.
            let now_ms = began_ms + millis(began.elapsed());
            let mut policy = read(&row, now_ms);
            let granted = policy.exchange(now_ms, &asked);
            write(&mut row, &mut policy, now_ms, now, &asked.rules);
            (row, (policy, granted))
        };
        let (policy, granted) = self.store.change_gate(self.destination, change).await?;
        self.queue().exchanged(told, policy, granted);
        self.policy_changed();
        Ok(())
    }
}

/// Returns the store's policy, updated with what an operator changed in the row since.
fn read(row: &GateRow, now_ms: i64) -> Policy {
    // If another version wrote a policy that this one can't read, a call or two restore what it held.
    let written = row.policy.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let is_past = |policy: &Policy| policy.written_ms <= now_ms + millis(CLOCK_SET_BACK);
    let mut policy = written.filter(is_past).unwrap_or_default();
    policy.pause.follow(row.reason_of_pause(), now_ms);
    // Workers of the previous version report a `Retry-After` only here. A longer wait than `MAX_WAIT` can only come
    // from a clock that was set back. A little more than the policy's own time is that time on the row's clock: if it
    // counted, each exchange would prolong the wait by the difference between the clocks.
    let others = policy.closed_until_ms + CLOCKS_DIFFER_MS..=now_ms + millis(MAX_WAIT);
    let told = row.closed_until.map(Timestamp::as_millis).filter(|until| others.contains(until));
    policy.closed_until_ms = told.unwrap_or(policy.closed_until_ms);
    policy
}

/// Writes the policy into the row. `now` is `now_ms` on the row's clock.
fn write(row: &mut GateRow, policy: &mut Policy, now_ms: i64, now: Timestamp, rules: &GateRules) {
    let closed_for = duration(policy.closed_until_ms - now_ms).min(MAX_WAIT);
    row.closed_until = (!closed_for.is_zero()).then(|| now.plus(closed_for));
    let rate_limit = row.closed_until.map(|_until| "its rate limit is reached");
    row.paused = !policy.pause.is_flowing();
    row.reason = policy.pause.reason().or(rate_limit).map(str::to_owned);
    let (limit, remaining) = policy.rate_limit.quota().unzip();
    let per_minute = limit.map(|limit| limit * 60_000 / rules.window_ms.max(1));
    row.standing = GateStanding { limit, remaining, per_minute, failing: policy.failing() };
    policy.written_ms = now_ms;
    row.policy = serde_json::to_string(policy).ok();
}

#[cfg(test)]
mod tests {
    use hookline_common::names::Destination;

    use super::*;

    #[test]
    fn exchanges_do_not_prolong_what_a_destination_asked_for() {
        const NOW_MS: i64 = 1_000_000;
        let mut row = GateRow {
            destination: Destination::TextUs,
            paused: false,
            reason: None,
            closed_until: None,
            standing: GateStanding::default(),
            policy: None,
        };
        let rules = GateRules {
            reserve: 0.0,
            per_second: 0,
            searches: 0,
            window_ms: 300_000,
            is_rolling: false,
            open_min_ms: 5_000,
            open_max_ms: 300_000,
            probe_every_ms: 60_000,
            in_hand_ms: 8_000,
        };
        let mut policy = Policy::default();
        policy.closed_until_ms = NOW_MS + 60_000;
        for exchange in 0..200 {
            let now_ms = NOW_MS + exchange * 17;
            write(&mut row, &mut policy, now_ms, Timestamp::from_millis(now_ms + 120), &rules);
            policy = read(&row, now_ms + 17);
        }
        assert_eq!(policy.closed_until_ms, NOW_MS + 60_000);

        row.policy = None;
        assert!(read(&row, NOW_MS).closed_until_ms > NOW_MS + 59_000, "an earlier version writes nothing else");
    }
}
