//! What every call to a destination passes, in this order: paused by an operator or for refused credentials; closed until
//! a `Retry-After` has passed; held by the breaker of its class of operation; paced by the quota, opt-outs first.
//!
//! One [`Gate`] for each destination and credential. `policy` decides, and knows no clock and no I/O. Its truth is the
//! store's row, of which each process has a copy that is at most 150 ms old (`sync`). While nothing limits or holds calls
//! a process decides by its copy; else the store does, for all. `queue` holds the calls of this process that wait.
//!
//! [`Gate::enter`] is awaited right before each request, so a closing binds every call that is started after the answer
//! that caused it was read.

mod breaker;
mod pause;
mod policy;
mod queue;
mod rate_limit;
mod sync;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookline_common::names::{Destination, Operation, OperationClass};
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::time::{duration, millis};
use hookline_store::Store;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::policy::{Answer, Call, Go, Report, Wait};
pub use self::policy::{CheckResult, Why};
use self::queue::Queue;
use crate::destinations::limits::{GateRules, Limits};
use crate::destinations::priority::Priority;
use crate::destinations::standing::StandingReporter;
use crate::destinations::status::Meaning;
use crate::on_drop::OnDrop;

/// A pause may end at any moment, by an operator or by new credentials: a delivery looks again after this, and up to as
/// much again, so that deliveries do not come back together.
pub(crate) const PAUSED_LOOK: Duration = Duration::from_secs(10);

/// Of one destination and credential; shared by `Arc`.
pub struct Gate {
    destination: Destination,
    store: Store,
    queue: Mutex<Queue>,
    reporter: StandingReporter,
    /// A call that waits may go.
    changed: Notify,
    /// There is something for the store that must not wait.
    wanted: Notify,
    began: Instant,
    began_ms: i64,
}

/// Leave to make one call, now. Tell it the answer; dropped without one, the call was not made.
#[must_use = "the answer to the call must be told"]
pub struct Permit<'a> {
    gate: &'a Gate,
    call: Call,
    is_probe: bool,
    sent_ms: i64,
    has_ended: bool,
}

/// What an answer, or that there was none, means for the calls after it.
#[derive(Clone, Copy, Debug)]
pub struct After {
    /// How long the rate limit closes the gate.
    pub closed_for: Duration,
    /// The call was a probe and failed: it was made to see whether the destination works. How long until the next one.
    pub failed_probe: Option<Duration>,
    /// When the call was made, by the gate's clock.
    pub sent_ms: i64,
}

/// No call may be made now.
#[derive(Clone, Debug)]
pub struct Held {
    pub destination: Destination,
    pub why: Why,
    /// `None`: nobody knows how long.
    pub wait: Option<Duration>,
}

impl Gate {
    /// Open until the store says otherwise: await [`Gate::refresh`] before the first call, and run [`Gate::watch`].
    #[must_use]
    pub fn new(destination: Destination, store: Store, metrics: Arc<Metrics>, rules: GateRules) -> Self {
        Self {
            destination,
            queue: Mutex::new(Queue::new(format!("{:016x}", rand::random::<u64>()), rules)),
            reporter: StandingReporter::new(destination, metrics),
            changed: Notify::new(),
            wanted: Notify::new(),
            began: Instant::now(),
            began_ms: store.now().as_millis(),
            store,
        }
    }

    #[must_use]
    pub fn destination(&self) -> Destination {
        self.destination
    }

    /// Waits for a call's turn. The call fails and recovers with this class, which need not be its operation's own. `place`
    /// is one of its handler's calls in flight, waited for no longer than the turn is.
    ///
    /// # Errors
    /// Where no call may be made, for longer than one waits in hand.
    pub async fn enter<P>(
        &self,
        priority: Priority,
        operation: Operation,
        class: OperationClass,
        place: impl Future<Output = P>,
    ) -> Result<(P, Permit<'_>), Held> {
        let call = Call::of(priority, operation, class);
        self.shut_for(call)?;
        let in_hand_ms = self.queue().rules.in_hand_ms;
        let place = tokio::time::timeout(duration(in_hand_ms), place)
            .await
            .map_err(|_elapsed| self.held(Wait { until_ms: None, why: Why::Turn }))?;
        let deadline_ms = self.now_ms() + in_hand_ms;
        self.queue().waits(call);
        let _leaves = OnDrop(|| self.queue().leaves(call));
        loop {
            let changed = self.changed.notified();
            let now_ms = self.now_ms();
            let taken = self.queue().take(now_ms, call);
            let wait = match taken {
                Ok(Go { is_probe }) => {
                    return Ok((place, Permit { gate: self, call, is_probe, sent_ms: now_ms, has_ended: false }));
                }
                Err(wait) => wait,
            };
            self.wanted.notify_one();
            let Some(until_ms) = wait.until_ms.filter(|until| *until <= deadline_ms && now_ms < deadline_ms) else {
                return Err(self.held(wait));
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(duration((until_ms - now_ms).max(1))) => {}
            }
        }
    }

    /// Fails where opt-out writes are held for longer than a call waits in hand.
    ///
    /// # Errors
    /// Why they are held, and for how long.
    pub(crate) fn shut(&self) -> Result<(), Held> {
        self.shut_for(Call::OPT_OUT_WRITE)
    }

    fn shut_for(&self, call: Call) -> Result<(), Held> {
        let (now_ms, queue) = (self.now_ms(), self.queue());
        let deadline_ms = now_ms + queue.rules.in_hand_ms;
        let passes = queue.policy.passes(now_ms, call);
        drop(queue);
        let Some(wait) = passes.err().filter(|wait| wait.until_ms.is_none_or(|until| until > deadline_ms)) else {
            return Ok(());
        };
        if let Why::Failing(class @ (OperationClass::Reads | OperationClass::ContactWrites)) = wait.why
            && call.priority == Priority::OptOut
        {
            self.record(Report::OptOutWaits(class));
        }
        Err(self.held(wait))
    }

    /// How long not to take deliveries whose calls have this priority and are of these classes: they can wait in their
    /// queue. `None`: take them.
    #[must_use]
    pub fn no_room_for(&self, priority: Priority, classes: &[OperationClass]) -> Option<Duration> {
        self.queue().no_room_for(self.now_ms(), priority, classes)
    }

    /// Stops all calls of all processes until a person resumes them, for what the answer to a call showed that was made
    /// at `sent_ms`; unless a person has resumed them since.
    pub(crate) fn stop(&self, sent_ms: i64, reason: &'static str) {
        self.record(Report::Stop(sent_ms, reason));
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Goes by other limits from now on.
    pub fn go_by(&self, rules: GateRules) {
        self.queue().rules = rules;
    }

    /// Records what the check of credentials found, or that there are other credentials to check.
    pub fn check_ended(&self, result: CheckResult) {
        self.record(Report::Check { at_ms: self.now_ms(), result });
    }

    /// How long until refused credentials are to be checked; `None`: they are not refused.
    pub(crate) fn check_due_in(&self) -> Option<Duration> {
        let due_ms = self.queue().policy.pause.check_due_ms()?;
        Some(duration(due_ms - self.now_ms()))
    }

    /// Whether a call with these credentials was answered 2xx within the last `span`.
    pub(crate) fn succeeded_within(&self, span: Duration) -> bool {
        self.queue().policy.last_success_ms.is_some_and(|at| at >= self.now_ms() - millis(span))
    }

    fn held(&self, wait: Wait) -> Held {
        let known = wait.until_ms.map(|until| duration(until - self.now_ms()));
        Held { destination: self.destination, why: wait.why, wait: known }
    }

    fn record(&self, report: Report) {
        self.queue().record(report);
        if !self.queue().policy.is_free() {
            self.wanted.notify_one();
        }
        self.policy_changed();
    }

    fn policy_changed(&self) {
        self.changed.notify_waiters();
        let standing = self.queue().policy.standing();
        self.reporter.report(self.now_ms(), standing);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store's clock as it was when the gate began, and this process's since, which nobody sets.
    fn now_ms(&self) -> i64 {
        self.began_ms + millis(self.began.elapsed())
    }
}

impl Permit<'_> {
    /// Tells that no answer came: no connection, a time-out, or something that is none.
    pub fn failed(self) -> After {
        self.answered(Meaning::NoAnswer, &Limits::default())
    }

    /// Tells the answer, as soon as its headers are read.
    pub fn answered(mut self, meaning: Meaning, limits: &Limits) -> After {
        let Self { gate, call, is_probe, sent_ms, .. } = self;
        let at_ms = gate.now_ms();
        self.has_ended = true;
        gate.queue().ended();
        let (window, wait_ms) = (limits.window(), limits.retry_after.map(millis));
        gate.record(Report::Answer(Answer { call, at_ms, sent_ms, meaning, window, wait_ms, is_probe }));
        let Queue { policy, rules, .. } = &*gate.queue();
        let has_failed = matches!(meaning, Meaning::Failed | Meaning::NoAnswer);
        let probe_due_ms = policy.probe_due_ms(call.class).unwrap_or(at_ms + rules.open_min_ms);
        After {
            closed_for: duration(policy.closed_until_ms - at_ms),
            failed_probe: (is_probe && has_failed).then(|| duration(probe_due_ms - at_ms)),
            sent_ms,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.gate.queue().ended();
            self.gate.changed.notify_waiters();
            self.gate.wanted.notify_one();
        }
    }
}
