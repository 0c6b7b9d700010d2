//! Keeps a gate and its row in the store alike. Workers that share a database exchange with its policy under the row's
//! lock: each tells how its calls ended, and the policy decides about its calls that wait. A process that is alone decides
//! by itself, and the row only holds what must outlive a restart. Everything else that the row says is read by the
//! worker's one poll (`presence`), every 150 ms (contract.md section 8 allows 250).

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use hookline_common::names::OperationClass;
use hookline_common::telemetry::metrics::GateState;
use hookline_common::time::Timestamp;
use hookline_store::StoreError;
use hookline_store::model::{GateRow, GateStanding};
use tokio_util::sync::CancellationToken;

use super::policy::Policy;
use super::queue::Exchange;
use super::{Gate, GateRules, MAX_WAIT, duration, millis, pause};

/// Between two exchanges, so that what happens meanwhile shares one.
const EXCHANGED_EVERY: Duration = Duration::from_millis(15);
const STORE_AWAY: Duration = Duration::from_millis(500);
/// The quota and the pace are for people to look at: the row of a process that is alone is written no more often.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);
/// A last write on shutdown; the store may be away.
const LAST_WRITE: Duration = Duration::from_secs(1);

impl Gate {
    /// A background task: keeps this gate and the store alike until `shutdown`.
    pub async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        self.is_shared.store(self.store.is_shared(), Ordering::Relaxed);
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.wanted.notified() => {}
                () = tokio::time::sleep(WRITTEN_EVERY) => {}
            }
            let exchanged = self.exchange().await;
            if let Err(error) = &exchanged {
                tracing::debug!(destination = %self.destination, %error, "gate.alone: the store does not answer");
            }
            let pause = if exchanged.is_ok() { EXCHANGED_EVERY } else { STORE_AWAY };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
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
        self.credentials_changed();
        Ok(())
    }

    /// Takes over what the store's row says of pause, closing and policy.
    pub fn follow(&self, row: &GateRow) {
        let (now_ms, rules) = (self.now_ms(), self.rules());
        let mut queue = self.queue();
        if self.is_shared() {
            queue.follow(read(row, now_ms), &rules);
        } else {
            let mut written = self.written();
            if written.is_behind(&queue.policy) {
                // What happened here is on its way to the store.
                return;
            }
            let mut policy = queue.policy.clone();
            policy.pause.follow(row.reason_of_pause(), now_ms);
            // Once for each closing: after the wall clock was set back, the same row must not close the gate anew.
            if let Some(until) = row.closed_until.filter(|until| written.row_closed_until != Some(*until)) {
                policy.close(now_ms + millis(until.since(Timestamp::now()).min(MAX_WAIT)));
            }
            written.take(&policy, row.closed_until);
            queue.forget_reports();
            queue.follow(policy, &rules);
        }
        drop(queue);
        self.changed.notify_waiters();
        self.show();
    }

    /// Tells the store what happened here, and asks about the calls that wait. [`Gate::watch`] does it by itself.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn exchange(&self) -> Result<(), StoreError> {
        let (now_ms, rules, process) = (self.now_ms(), self.rules(), self.id.clone());
        let own = (!self.is_shared()).then(|| self.queue().policy.clone());
        let mut asked = self.queue().exchange(now_ms);
        if own.as_ref().is_some_and(|own| !self.written().is_due(own, now_ms)) {
            return Ok(());
        }
        if own.is_some() || self.queue().policy.rate_limit.is_unlimited() {
            asked.waiting.clear();
        }
        if own.is_none() && asked.reports.is_empty() && asked.waiting.is_empty() {
            return Ok(());
        }
        let told = asked.reports.len();
        let (is_alone, kept) = (own.is_some(), own.clone());
        let change = move |mut row: GateRow, now: Timestamp| {
            let Exchange { reports, out, waiting } = asked.clone();
            let mut policy = own.clone().unwrap_or_else(|| read(&row, now_ms));
            let mut decisions = Vec::new();
            if own.is_none() {
                reports.iter().for_each(|report| policy.record(report, &rules));
                decisions = policy.decide_all(now_ms, &process, out, waiting, &rules);
                row.policy = serde_json::to_string(&policy).ok();
            }
            write(&mut row, &policy, now_ms, now, &rules);
            let closed_until = row.closed_until;
            (row, (policy, decisions, closed_until))
        };
        let (policy, decisions, closed_until) = self.store.change_gate(self.destination, change).await?;
        if is_alone {
            kept.iter().for_each(|kept| self.written().take(kept, closed_until));
            return Ok(());
        }
        self.queue().exchanged(told, policy, decisions, &self.rules());
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
        let destination = self.destination;
        let shown = (policy.pause.reason().map(str::to_owned), policy.failing(), policy.closings);
        let (was_paused, was_failing, closings) = std::mem::replace(&mut self.written().shown, shown);
        match (was_paused.is_some(), policy.pause.reason()) {
            (false, Some(reason)) if pause::is_probed(reason) => tracing::error!(%destination,
                "destination.paused: it refuses our credentials; nothing is lost, deliveries wait. Check that the token is \
                 valid and may do this, and set a new one: in its file it counts within seconds, elsewhere after a restart; \
                 or run `hookline resume {destination}`"),
            (false, Some(_)) => tracing::warn!(%destination, "destination.paused: by an operator; deliveries wait"),
            (true, None) => tracing::info!(%destination, "destination.resumed: calls are made again"),
            (true, Some(_)) | (false, None) => {}
        }
        for class in policy.failing().iter().filter(|class| !was_failing.contains(class)) {
            tracing::warn!(%destination, %class, "destination.failing: these calls fail again and again; deliveries wait, and \
                one call at a time is let through until one works");
        }
        for class in was_failing.iter().filter(|class| policy.probe_due_ms(**class).is_none()) {
            tracing::info!(%destination, %class, "destination.works: these calls are made again");
        }
        if policy.closings > closings {
            tracing::warn!(%destination, "destination.closed: its rate limit is reached; deliveries wait, no attempt is spent");
        }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The policy that the store holds, following what an operator did to its row since.
fn read(row: &GateRow, now_ms: i64) -> Policy {
    // What an older or newer version wrote and this one cannot read is known again after a call or two.
    let mut policy: Policy = row.policy.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    policy.pause.follow(row.reason_of_pause(), now_ms);
    if let Some(until) = row.closed_until {
        policy.close(until.as_millis().min(now_ms + millis(MAX_WAIT)));
    }
    policy
}

/// `now` is `now_ms` on the clock of the row.
fn write(row: &mut GateRow, policy: &Policy, now_ms: i64, now: Timestamp, rules: &GateRules) {
    // What an operator paused is the operator's: no answer ends or changes it.
    if row.reason_of_pause().is_none_or(pause::is_probed) {
        row.paused = policy.pause.reason().is_some();
        row.reason = policy.pause.reason().map(str::to_owned);
    }
    let closed_for = duration(policy.closed_until_ms - now_ms);
    if !closed_for.is_zero() {
        row.closed_until = row.closed_until.max(Some(now.plus(closed_for)));
        row.reason.get_or_insert_with(|| "its rate limit is reached".to_owned());
    }
    let quota = policy.rate_limit.quota();
    row.standing = GateStanding {
        limit: quota.map(|(limit, _)| limit),
        remaining: quota.map(|(_, remaining)| remaining),
        per_minute: quota.map(|(limit, _)| limit * 60_000 / rules.window_ms.max(1)),
        failing: policy.failing(),
    };
}

/// What the store was told last, and what was last logged.
#[derive(Debug, Default)]
pub(super) struct Written {
    pause: Option<String>,
    closed_until_ms: i64,
    /// As the row had it last.
    row_closed_until: Option<Timestamp>,
    standing: Option<(i64, i64)>,
    failing: Vec<OperationClass>,
    at_ms: i64,
    /// Why the destination is paused, which classes fail, and how often it closed itself.
    shown: (Option<String>, Vec<OperationClass>, u64),
}

impl Written {
    fn is_behind(&self, policy: &Policy) -> bool {
        self.pause.as_deref() != policy.pause.reason() || self.closed_until_ms < policy.closed_until_ms
    }

    /// Whether the policy of a process that is alone is to be written now.
    fn is_due(&mut self, policy: &Policy, now_ms: i64) -> bool {
        let is_news = self.standing != policy.rate_limit.quota() || self.failing != policy.failing();
        let is_due = self.is_behind(policy) || (is_news && now_ms - self.at_ms >= millis(WRITTEN_EVERY));
        if is_due {
            (self.at_ms, self.standing, self.failing) = (now_ms, policy.rate_limit.quota(), policy.failing());
        }
        is_due
    }

    fn take(&mut self, policy: &Policy, row_closed_until: Option<Timestamp>) {
        self.pause = policy.pause.reason().map(str::to_owned);
        (self.closed_until_ms, self.row_closed_until) = (policy.closed_until_ms, row_closed_until);
    }
}
