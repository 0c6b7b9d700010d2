//! What every call to a destination passes, in this order: paused by an operator or for refused credentials; closed until
//! a `Retry-After` has passed; held by the breaker of its class of operation; paced by the quota, opt-outs first.
//!
//! One [`Gate`] for each destination and credential. `policy` decides, and knows no clock and no I/O. Where one process is
//! alone its policy is in memory; workers that share a database keep it in the store's row, each with a copy that is at
//! most 150 ms old (`sync`). `queue` holds the calls of this process that wait for their turn.
//!
//! [`Gate::enter`] is awaited right before each request, so a closing binds every call that is started after the answer
//! that caused it was read.

mod breaker;
mod pause;
mod policy;
mod queue;
mod rate_limit;
mod sync;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hookline_common::names::{Destination, HandlerName, Operation, OperationClass};
use hookline_common::settings::TextUsSettings;
use hookline_common::telemetry::metrics::Metrics;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::pause::CREDENTIALS_REFUSED;
pub use self::policy::Meaning;
use self::policy::{Answer, Call, Report, Told, Wait, Why};
use self::queue::{Queue, Ticket};
use self::rate_limit::WindowSeen;
use crate::destinations::error::DestinationError;
use crate::destinations::redact::redact;

/// No destination is left alone for longer because of a header: a wrong one must not stop opt-outs for a day.
pub const MAX_WAIT: Duration = Duration::from_secs(15 * 60);
/// A pause may end at any moment, by an operator or by new credentials: a delivery looks again after this, and up to as
/// much again, so that deliveries do not come back together.
const PAUSED_LOOK: Duration = Duration::from_secs(10);
/// A turn is waited for in hand for so long at most, whatever a call may take: longer waits are for the queue.
const IN_HAND_MAX: Duration = Duration::from_secs(8);

/// What the configuration and the destination fix of a gate.
#[derive(Clone, Copy, Debug)]
pub struct GateRules {
    /// Share of the quota kept for opt-outs.
    reserve: f64,
    /// Length of the rate limit's window. Its end is what answers tell.
    window_ms: i64,
    open_min_ms: i64,
    open_max_ms: i64,
    /// How often a destination that refused our credentials is probed.
    probe_every_ms: i64,
    /// How long a call's turn is waited for in hand. No longer than a call may take: a claim's lease, of three such times
    /// and more, has to outlast two waits and the call.
    in_hand_ms: i64,
}

impl GateRules {
    #[must_use]
    pub fn of(settings: &TextUsSettings) -> Self {
        Self {
            reserve: settings.opt_out_reserve,
            window_ms: millis(settings.rate_limit_window),
            open_min_ms: millis(settings.breaker.open_min),
            open_max_ms: millis(settings.breaker.open_max),
            probe_every_ms: millis(settings.paused_probe),
            in_hand_ms: millis(settings.timeout.min(IN_HAND_MAX)),
        }
    }
}

/// Which calls of a destination go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    #[default]
    OptOut,
    Contact,
    Note,
}

impl From<HandlerName> for Priority {
    fn from(handler: HandlerName) -> Self {
        match handler {
            HandlerName::RecordOptOut | HandlerName::FlagOptOut => Self::OptOut,
            HandlerName::CreateContact | HandlerName::SyncContact => Self::Contact,
            HandlerName::LogNote | HandlerName::RecordHistory => Self::Note,
        }
    }
}

/// What an answer tells of the destination's rate limit; each `None` where the answer does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls for each window.
    pub limit: Option<i64>,
    /// Calls left in this window.
    pub remaining: Option<i64>,
    /// When the window ends, on the destination's clock, and how long it still lasts.
    pub window_end: Option<(Timestamp, Duration)>,
    pub retry_after: Option<Duration>,
}

/// Of one destination and credential; shared by `Arc`.
pub struct Gate {
    destination: Destination,
    store: Store,
    metrics: Arc<Metrics>,
    rules: RwLock<GateRules>,
    queue: Mutex<Queue>,
    written: Mutex<sync::Written>,
    /// A call that waits may go.
    changed: Notify,
    /// There is something for the store.
    wanted: Notify,
    /// [`Gate::watch`] runs, and the store is shared with other processes.
    is_shared: AtomicBool,
    /// Names this process among those that share the destination.
    id: String,
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
    resumes: u64,
    closings: u64,
    has_ended: bool,
}

/// What an answer, or that there was none, means for the calls after it.
#[derive(Clone, Copy, Debug, Default)]
pub struct After {
    /// When the call may be made again, where the answer was 429 or 401.
    pub again: Option<Timestamp>,
    /// The call was a probe and failed: it was made to see whether the destination works. When to come back.
    pub failed_probe: Option<Timestamp>,
}

impl Gate {
    /// Open until the store says otherwise: await [`Gate::refresh`] before the first call, and run [`Gate::watch`].
    #[must_use]
    pub fn new(destination: Destination, store: Store, metrics: Arc<Metrics>, rules: GateRules) -> Self {
        Self {
            destination,
            metrics,
            rules: RwLock::new(rules),
            queue: Mutex::default(),
            written: Mutex::default(),
            changed: Notify::new(),
            wanted: Notify::new(),
            is_shared: AtomicBool::new(false),
            id: format!("{:016x}", rand::random::<u64>()),
            began: Instant::now(),
            began_ms: store.now().as_millis(),
            store,
        }
    }

    #[must_use]
    pub fn destination(&self) -> Destination {
        self.destination
    }

    /// Waits for a call's turn. `place` is one of its handler's calls in flight, waited for no longer than the turn is.
    ///
    /// # Errors
    /// `GateClosed`: no call may be made before its `until`.
    pub async fn enter<P>(
        &self,
        priority: Priority,
        operation: Operation,
        place: impl Future<Output = P>,
    ) -> Result<(P, Permit<'_>), DestinationError> {
        let call = Call::of(priority, operation);
        self.shut_for(call)?;
        let place = tokio::time::timeout(duration(self.rules().in_hand_ms), place)
            .await
            .map_err(|_elapsed| self.closed(&Wait { until_ms: None, why: Why::Turn }))?;
        self.turn(call).await.map(|permit| (place, permit))
    }

    async fn turn(&self, call: Call) -> Result<Permit<'_>, DestinationError> {
        let deadline_ms = self.now_ms() + self.rules().in_hand_ms;
        let ticket = Ticket::draw(self, call);
        loop {
            let changed = self.changed.notified();
            let now_ms = self.now_ms();
            let wait = match self.try_take(&ticket, now_ms) {
                Ok(permit) => return Ok(permit),
                Err(wait) => wait,
            };
            let Some(until_ms) = wait.until_ms.filter(|until| *until <= deadline_ms && now_ms < deadline_ms) else {
                return Err(self.closed(&wait));
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(duration((until_ms - now_ms).max(1))) => {}
            }
        }
    }

    fn try_take(&self, ticket: &Ticket<'_>, now_ms: i64) -> Result<Permit<'_>, Wait> {
        let mut queue = self.queue();
        let mut taken = queue.take(now_ms, ticket);
        // Where no limit was told there is nothing to share.
        if taken.is_err() && (!self.is_shared() || queue.policy.rate_limit.is_unlimited()) {
            let granted = queue.decide(now_ms, &self.id, &self.rules());
            taken = queue.take(now_ms, ticket);
            if granted > usize::from(taken.is_ok()) {
                self.changed.notify_waiters();
            }
        }
        self.wanted.notify_one();
        let (resumes, closings) = (queue.policy.pause.resumes(), queue.policy.closings);
        let is_probe = taken?;
        let call = ticket.call;
        Ok(Permit { gate: self, call, is_probe, sent_ms: now_ms, resumes, closings, has_ended: false })
    }

    /// Fails where opt-out writes are held for longer than a call waits in hand.
    ///
    /// # Errors
    /// `GateClosed`: no call may be made before its `until`.
    pub(crate) fn shut(&self) -> Result<(), DestinationError> {
        self.shut_for(Call::new(Priority::OptOut, OperationClass::OptOutWrites))
    }

    fn shut_for(&self, call: Call) -> Result<(), DestinationError> {
        let now_ms = self.now_ms();
        let deadline_ms = now_ms + self.rules().in_hand_ms;
        let wait = self.queue().policy.holds(now_ms, call);
        match wait.filter(|wait| wait.until_ms.is_none_or(|until| until > deadline_ms)) {
            Some(wait) => Err(self.closed(&wait)),
            None => Ok(()),
        }
    }

    /// When the next call may be made; `None`: now, as far as pause and `Retry-After` go. A pause has no known end: the
    /// time is then when to look again.
    #[must_use]
    pub fn open_at(&self) -> Option<Timestamp> {
        let now_ms = self.now_ms();
        let policy = &self.queue().policy;
        let closed = (policy.closed_until_ms > now_ms).then(|| duration(policy.closed_until_ms - now_ms));
        closed.max((!policy.pause.is_flowing()).then_some(PAUSED_LOOK)).map(in_time)
    }

    /// How long not to take deliveries whose calls have this priority and are of these classes: they can wait in their
    /// queue. `None`: take them.
    #[must_use]
    pub fn no_room_for(&self, priority: Priority, classes: &[OperationClass]) -> Option<Duration> {
        let (now_ms, rules) = (self.now_ms(), self.rules());
        self.queue().no_room_for(now_ms, priority, classes, &rules)
    }

    /// Goes by other limits from now on.
    pub fn go_by(&self, rules: GateRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// There are other credentials: where they were refused they are checked at once.
    pub fn credentials_changed(&self) {
        self.told(Told::Changed);
    }

    /// Tells what the check of credentials told.
    pub(crate) fn checked(&self, accepted: Result<(), Option<u16>>) {
        self.told(match accepted {
            Ok(()) => Told::Accepted,
            Err(Some(status)) => Told::Refused { status },
            Err(None) => Told::Nothing,
        });
    }

    fn told(&self, told: Told) {
        self.tell(Report::Check { at_ms: self.now_ms(), told });
    }

    /// How long until refused credentials are to be checked; `None`: they are not refused.
    pub(crate) fn check_due_in(&self) -> Option<Duration> {
        let due_ms = self.queue().policy.pause.check_due_ms()?;
        Some(duration(due_ms - self.now_ms()))
    }

    /// Whether a call with these credentials was answered 2xx within the last `span`.
    pub(crate) fn succeeded_within(&self, span: Duration) -> bool {
        let since_ms = self.now_ms() - millis(span);
        self.queue().policy.last_success_ms.is_some_and(|at| at >= since_ms)
    }

    fn closed(&self, wait: &Wait) -> DestinationError {
        let known = wait.until_ms.map(|until| duration(until - self.now_ms()));
        let (why, until) = match &wait.why {
            Why::Paused(reason) if pause::is_probed(reason) => {
                ("paused: our credentials are refused".to_owned(), known.unwrap_or_default().min(paused_look()))
            }
            Why::Paused(reason) => (format!("paused by an operator: {reason}"), paused_look()),
            Why::RateLimit => ("its rate limit is reached".to_owned(), known.unwrap_or_default()),
            // Apart, so that they do not come back together.
            Why::Failing(class) => {
                let why = format!("{} fail; one probe at a time is let through", class.in_words());
                (why, known.unwrap_or_default() + apart())
            }
            Why::Turn => ("its turn is not yet".to_owned(), known.unwrap_or_default().max(apart()) + apart()),
        };
        let why = redact(&format!("calls to {} are held: {why}", self.destination));
        DestinationError::GateClosed { until: in_time(until), why }
    }

    fn tell(&self, report: Report) {
        self.queue().tell(report, &self.rules());
        self.changed.notify_waiters();
        self.wanted.notify_one();
        self.show();
    }

    fn rules(&self) -> GateRules {
        *self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Relaxed)
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
    /// Tells the answer, as soon as its headers are read.
    pub fn answered(self, meaning: Meaning, limits: &Limits) -> After {
        #[expect(clippy::cast_precision_loss, reason = "calls of a window are far below 2^52")]
        let [limit, remaining] = [limits.limit, limits.remaining].map(|count| count.map(|count| count as f64));
        self.gate.metrics.worker.budget(self.gate.destination, limit, remaining);
        let window = limits.limit.zip(limits.remaining).zip(limits.window_end);
        let seen = window.map(|((limit, remaining), (ends_at, lasts))| WindowSeen {
            limit,
            remaining,
            reset_ms: ends_at.as_millis(),
            lasts_ms: millis(lasts),
        });
        self.end(meaning, seen, limits.retry_after.map(millis))
    }

    /// Tells that no answer came: no connection, a time-out, or something that is none.
    pub fn failed(self) -> After {
        self.end(Meaning::NoAnswer, None, None)
    }

    fn end(mut self, meaning: Meaning, window: Option<WindowSeen>, wait_ms: Option<i64>) -> After {
        let Self { gate, is_probe, sent_ms, resumes, closings, .. } = self;
        let (class, at_ms) = (self.call.class, gate.now_ms());
        self.has_ended = true;
        gate.queue().ended();
        let answer = Answer { class, at_ms, sent_ms, meaning, window, wait_ms, is_probe, resumes, closings };
        gate.tell(Report::Answer(answer));
        let policy = &gate.queue().policy;
        let has_failed = matches!(meaning, Meaning::Failed | Meaning::NoAnswer);
        let probe_due_ms = policy.probe_due_ms(class).unwrap_or(at_ms + gate.rules().open_min_ms);
        After {
            again: match meaning {
                Meaning::TooMany => Some(in_time(duration(policy.closed_until_ms - at_ms))),
                Meaning::Refused => Some(in_time(paused_look())),
                Meaning::Success | Meaning::Worked | Meaning::Forbidden | Meaning::Failed | Meaning::NoAnswer => None,
            },
            failed_probe: (is_probe && has_failed).then(|| in_time(duration(probe_due_ms - at_ms))),
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

/// How long a delivery waits before it looks again whether a pause has ended.
pub(crate) fn paused_look() -> Duration {
    PAUSED_LOOK.mul_f64(1.0 + rand::random::<f64>())
}

fn apart() -> Duration {
    Duration::from_millis(rand::random_range(250..500))
}

/// The wall clock `wait` from now; rounded up, for nothing may be early.
fn in_time(wait: Duration) -> Timestamp {
    Timestamp::now().plus(wait + Duration::from_millis(1))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// None where it is negative.
fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
