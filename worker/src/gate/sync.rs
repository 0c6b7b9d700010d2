//! Keeps a gate and the store's row alike: each process tells how its calls ended, and the row's policy decides about its
//! calls that wait, under the row's lock. What others did is read by the worker's one poll (`presence`), every 150 ms
//! (docs/guarantees.md allows 250).

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hookline_common::names::{Destination, OperationClass};
use hookline_common::service::telemetry::metrics::GateState;
use hookline_common::time::Timestamp;
use hookline_store::StoreError;
use hookline_store::model::{GateRow, GateStanding};
use tokio_util::sync::CancellationToken;

use super::pause::{is_of_another_world, is_probed};
use super::policy::{Policy, Told};
use super::{Gate, GateRules, MAX_WAIT, duration, millis};

/// Between two exchanges, so that what happens meanwhile shares one.
const EXCHANGED_EVERY: Duration = Duration::from_millis(15);
/// The same while nothing limits or holds calls: all there is to tell is that they work.
const FREE_EXCHANGED_EVERY: Duration = Duration::from_millis(250);
const STORE_AWAY: Duration = Duration::from_millis(500);
/// A last write on shutdown; the store may be away.
const LAST_WRITE: Duration = Duration::from_secs(1);
/// A policy that was written so much later than now is of a clock that was set back.
const CLOCK_SET_BACK: Duration = Duration::from_secs(30);

impl Gate {
    /// A background task: keeps this gate and the store alike until `shutdown`.
    pub async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        self.is_watched.store(true, Ordering::Relaxed);
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
        // What this process was told in its last moments binds the others too.
        let _ = tokio::time::timeout(LAST_WRITE, self.exchange()).await;
    }

    /// Takes over what the store says. Await it once before the first call: a pause outlives a restart.
    ///
    /// # Errors
    /// Where the store cannot be asked; the gate then stays as it was.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let rows = self.store.gates().await?;
        rows.iter().filter(|row| row.destination == self.destination).for_each(|row| self.follow(row));
        // This process may hold other credentials than the one that was refused.
        self.check_told(Told::Changed);
        Ok(())
    }

    /// Takes over what the store's row says.
    pub fn follow(&self, row: &GateRow) {
        let policy = read(row, self.now_ms());
        self.queue().follow(policy, &self.rules());
        self.changed.notify_waiters();
        self.show();
    }

    /// Tells the store what happened here, and asks about the calls that wait. [`Gate::watch`] does it by itself.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn exchange(&self) -> Result<(), StoreError> {
        let (now_ms, rules, process) = (self.now_ms(), self.rules(), self.id.clone());
        let Some(asked) = self.queue().exchange() else { return Ok(()) };
        let told = asked.reports.len();
        let change = move |mut row: GateRow, now: Timestamp| {
            let mut policy = read(&row, now_ms);
            asked.reports.iter().for_each(|report| policy.record(report, &rules));
            let granted = policy.decide_all(now_ms, &process, asked.out, asked.waiting.clone(), &rules);
            write(&mut row, &mut policy, now_ms, now, &rules);
            (row, (policy, granted))
        };
        let (policy, granted) = self.store.change_gate(self.destination, change).await?;
        self.queue().exchanged(told, policy, granted, &self.rules());
        self.changed.notify_waiters();
        self.show();
        Ok(())
    }

    /// Shows the destination's state, and logs what changed.
    pub(super) fn show(&self) {
        let now_ms = self.now_ms();
        let queue = self.queue();
        let policy = &queue.policy;
        let due = OperationClass::ALL.iter().filter_map(|class| policy.probe_due_ms(*class)).min();
        let state = match due {
            _ if !policy.pause.is_flowing() => GateState::Paused,
            _ if policy.closed_until_ms > now_ms => GateState::Open,
            Some(due) if due > now_ms => GateState::Open,
            Some(_) => GateState::HalfOpen,
            None => GateState::Closed,
        };
        self.metrics.worker.destination(self.destination, state);
        let now = (policy.pause.reason().map(str::to_owned), policy.closed_until_ms, policy.failing());
        drop(queue);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        log_changes(self.destination, now_ms, &shown, &now);
        *shown = now;
    }
}

/// The policy that the store holds, following what an operator did to its row since.
fn read(row: &GateRow, now_ms: i64) -> Policy {
    // What an older or newer version wrote and this one cannot read is known again after a call or two.
    let mut policy: Policy = row.policy.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    if policy.written_ms > now_ms + millis(CLOCK_SET_BACK) {
        policy = Policy::default();
    }
    policy.pause.follow(row.reason_of_pause(), now_ms);
    // Workers of the version before tell of a `Retry-After` here alone. None is longer: that would be a clock set back.
    let closed_until_ms = row.closed_until.map(Timestamp::as_millis);
    policy.close(closed_until_ms.filter(|until| *until <= now_ms + millis(MAX_WAIT)).unwrap_or_default());
    policy
}

/// `now` is `now_ms` on the clock of the row.
fn write(row: &mut GateRow, policy: &mut Policy, now_ms: i64, now: Timestamp, rules: &GateRules) {
    let closed_for = duration(policy.closed_until_ms - now_ms).min(MAX_WAIT);
    let is_closed = !closed_for.is_zero();
    row.paused = policy.pause.reason().is_some();
    row.reason = policy.pause.reason().map(str::to_owned);
    row.closed_until = is_closed.then(|| now.plus(closed_for));
    if is_closed {
        row.reason.get_or_insert_with(|| "its rate limit is reached".to_owned());
    }
    let quota = policy.rate_limit.quota();
    row.standing = GateStanding {
        limit: quota.map(|(limit, _)| limit),
        remaining: quota.map(|(_, remaining)| remaining),
        per_minute: quota.map(|(limit, _)| limit * 60_000 / rules.window_ms.max(1)),
        failing: policy.failing(),
    };
    policy.written_ms = now_ms;
    row.policy = serde_json::to_string(policy).ok();
}

/// What of a policy was last logged: why the destination is paused, until when it is closed, and what fails.
pub(super) type Logged = (Option<String>, i64, Vec<OperationClass>);

fn log_changes(destination: Destination, now_ms: i64, before: &Logged, now: &Logged) {
    let ((pause_before, closed_before, failing_before), (pause, closed, failing)) = (before, now);
    match (pause_before, pause) {
        (before, Some(reason)) if is_of_another_world(reason) => {
            if !before.as_deref().is_some_and(is_of_another_world) {
                tracing::error!(%destination, reason, "destination.paused: nothing is lost, deliveries wait");
            }
        }
        (None, Some(reason)) if is_probed(reason) => tracing::error!(%destination,
            "destination.paused: it refuses our credentials; nothing is lost, deliveries wait. Check that the token is valid \
             and may do this, and set a new one: in its file it counts within seconds, elsewhere after a restart; or run \
             `hookline resume {destination}`"),
        (None, Some(_)) => tracing::warn!(%destination, "destination.paused: by an operator; deliveries wait"),
        (Some(_), None) => tracing::info!(%destination, "destination.resumed: calls are made again"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    for class in failing.iter().filter(|class| !failing_before.contains(class)) {
        tracing::warn!(%destination, %class, "destination.failing: these calls fail again and again; deliveries wait, and one \
            call at a time is let through until one works");
    }
    for class in failing_before.iter().filter(|class| !failing.contains(class)) {
        tracing::info!(%destination, %class, "destination.works: these calls are made again");
    }
    if closed > closed_before {
        tracing::warn!(%destination, wait_ms = closed - now_ms,
            "destination.closed: its rate limit is reached; deliveries wait, no attempt is spent");
    }
}
