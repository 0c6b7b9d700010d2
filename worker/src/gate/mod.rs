//! Every call to a destination passes a gate. Four things can hold a call, in this order: a pause by an operator or for
//! refused credentials; a `Retry-After` that has not passed; the breaker of the call's class of operation; the quota,
//! which serves opt-outs first.
//!
//! There is one [`Gate`] for each destination and credential. `policy` decides without a clock or I/O. The store's row
//! is the truth, and each process has a copy of it that is at most 150 ms old (`sync`). While nothing limits or holds
//! calls, a process decides by its copy; otherwise the store decides for all. `queue` holds this process's waiting
//! calls.
//!
//! Callers await [`Gate::enter`] right before each request. So once an answer that closes the gate has been read, every
//! later call is bound by it.

mod breaker;
mod pause;
mod policy;
mod queue;
mod rate_limit;
mod rolling;
mod search_limit;
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
pub use self::search_limit::Search;
pub(crate) use self::search_limit::of_back_fill as searches_of_back_fill;
use crate::destinations::limits::{GateRules, Limits};
use crate::destinations::priority::Priority;
use crate::destinations::standing::StandingReporter;
use crate::destinations::status::Meaning;
use crate::on_drop::OnDrop;

/// How long a delivery waits before it looks again at a paused destination. Up to the same time is added at random, so
/// that deliveries don't come back together. An operator or new credentials may end a pause at any moment.
pub(crate) const PAUSED_LOOK: Duration = Duration::from_secs(10);

/// The gate of one destination and credential, shared by `Arc`.
pub struct Gate {
    destination: Destination,
    store: Store,
    queue: Mutex<Queue>,
    reporter: StandingReporter,
    /// Notified when a waiting call may be able to go.
    changed: Notify,
    /// Notified when the store must be told or asked something without delay.
    wanted: Notify,
    began: Instant,
    began_ms: i64,
}

/// Permission to make one call now. The holder must report the answer. A permit dropped without one counts as no call
/// made.
#[must_use = "the answer to the call must be told"]
pub struct Permit<'a> {
    gate: &'a Gate,
    call: Call,
    is_probe: bool,
    sent_ms: i64,
    has_ended: bool,
}

/// What an answer, or its absence, means for later calls.
#[derive(Clone, Copy, Debug)]
pub struct After {
    /// How long the rate limit closes the gate.
    pub closed_for: Duration,
    /// Time until the next probe, if this call was a probe and failed.
    pub failed_probe: Option<Duration>,
    /// When the call was made, by the gate's clock.
    pub sent_ms: i64,
}

/// Says that no call may be made now.
#[derive(Clone, Debug)]
pub struct Held {
    pub destination: Destination,
    pub why: Why,
    /// `None` if nobody knows how long.
    pub wait: Option<Duration>,
}

impl Gate {
    /// Creates a gate that is open until the store says otherwise. Await [`Gate::refresh`] before the first call, and
    /// run [`Gate::watch`].
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

    /// Waits for a call's turn. `class` is the class whose breaker counts this call; it need not be the operation's
    /// own. A search has a limit of its own where the rules set one. `place` resolves to one of the handler's places for a
    /// call in flight, and is awaited no longer than a turn.
    ///
    /// # Errors
    /// When no call may be made for longer than a call waits in hand.
    pub async fn enter<P>(
        &self,
        priority: Priority,
        operation: Operation,
        class: OperationClass,
        search: Option<Search>,
        place: impl Future<Output = P>,
    ) -> Result<(P, Permit<'_>), Held> {
        let call = Call { search, ..Call::of(priority, operation, class) };
        self.shut_for(call)?;
        let sent_back = self.queue().sends_back(self.now_ms(), call);
        sent_back.map_or(Ok(()), |wait| Err(self.held(wait)))?;
        let in_hand_ms = self.queue().rules.in_hand_ms;
        let place = tokio::time::timeout(duration(in_hand_ms), place)
            .await
            .map_err(|_elapsed| self.held(Wait { until_ms: None, why: Why::Turn }))?;
        let deadline_ms = self.now_ms() + in_hand_ms;
        self.queue().waits(call);
        let _leaves = OnDrop(|| self.queue().leaves(call));
        let mut asks = true;
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
            // Searches that wait would otherwise ask after each change, and with each answer change something.
            if asks || search.is_none() {
                self.wanted.notify_one();
            }
            let Some(until_ms) = wait.until_ms.filter(|until| *until <= deadline_ms && now_ms < deadline_ms) else {
                return Err(self.held(wait));
            };
            tokio::select! {
                () = changed => asks = false,
                () = tokio::time::sleep(duration((until_ms - now_ms).max(1))) => asks = true,
            }
        }
    }

    /// Fails if opt-out writes are held for longer than a call waits in hand.
    ///
    /// # Errors
    /// Why opt-out writes are held, and for how long.
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

    /// Returns how long the consumer should leave deliveries in their queue if their calls have this priority and these
    /// classes; `None` if it should take them.
    #[must_use]
    pub fn no_room_for(&self, priority: Priority, classes: &[OperationClass]) -> Option<Duration> {
        self.queue().no_room_for(self.now_ms(), priority, classes)
    }

    /// Stops all calls of all processes until a person resumes them, for what the answer to a call showed that was made
    /// at `sent_ms`; unless a person has resumed them since.
    pub(crate) fn stop(&self, sent_ms: i64, reason: &'static str) {
        self.record(Report::Stop(sent_ms, reason));
    }

    /// Returns how many calls of all processes are in flight, as far as this one knows.
    #[must_use]
    pub(crate) fn in_flight(&self) -> u64 {
        self.queue().in_flight().unsigned_abs()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Applies other limits from now on.
    pub fn go_by(&self, rules: GateRules) {
        self.queue().rules = rules;
    }

    /// Records the result of the credential check, or that there are other credentials to check.
    pub fn check_ended(&self, result: CheckResult) {
        self.record(Report::Check { at_ms: self.now_ms(), result });
    }

    /// Returns how long until refused credentials must be checked; `None` if they aren't refused.
    pub(crate) fn check_due_in(&self) -> Option<Duration> {
        let due_ms = self.queue().policy.pause.check_due_ms()?;
        Some(duration(due_ms - self.now_ms()))
    }

    /// Returns whether a call with these credentials was answered 2xx within the last `span`.
    pub(crate) fn succeeded_within(&self, span: Duration) -> bool {
        self.queue().policy.last_success_ms.is_some_and(|at| at >= self.now_ms() - millis(span))
    }

    fn held(&self, wait: Wait) -> Held {
        let known = wait.until_ms.map(|until| duration(until - self.now_ms()));
        Held { destination: self.destination, why: wait.why, wait: known }
    }

    fn record(&self, report: Report) {
        let is_free = {
            let mut queue = self.queue();
            queue.record(report);
            queue.policy.is_free(&queue.rules)
        };
        if !is_free {
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

    /// Returns the store's time when the gate was created plus the monotonic time since, which no clock change affects.
    pub(crate) fn now_ms(&self) -> i64 {
        self.began_ms + millis(self.began.elapsed())
    }
}

impl Permit<'_> {
    /// Reports that no usable answer came: no connection, a time-out, or something that is no answer.
    pub fn failed(self) -> After {
        self.answered(Meaning::NoAnswer, &Limits::default())
    }

    /// Reports the answer, as soon as its headers are read.
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
