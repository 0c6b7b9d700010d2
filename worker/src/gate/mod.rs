//! What every call to a destination passes: closed until a `Retry-After` has passed, paused by an operator or for
//! refused credentials, held by the breaker while the destination fails, and paced by its budget, opt-outs first. One
//! [`Gate`] per destination and credential, in memory; `shared` keeps it and the store's table `gates` alike, so that
//! what one process is told binds all, and `pump` shares budget and breaker where there are several processes.
//!
//! [`Gate::enter`] is awaited right before each request, so a closing binds every call that is started after the answer
//! that caused it was read.

mod breaker;
mod budget;
mod headers;
mod line;
mod pause;
mod pump;
mod ration;
mod shared;
mod throttle;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hookline_common::names::Destination;
use hookline_common::telemetry::metrics::{GateState, Metrics};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::budget::{Told, WindowTold};
pub use self::headers::{MAX_WAIT, RateLimitHeaders};
pub use self::line::Priority;
use self::line::{Line, Slot};
pub use self::pause::CREDENTIALS_REFUSED;
use self::pause::{Change, Pass, Pause};
use self::ration::End;
pub use self::ration::Pacing;
use self::shared::{Outbox, PauseNews};
use self::throttle::Throttle;
use crate::destinations::error::DestinationError;
use crate::destinations::redact::redact;

/// A pause may end at any moment, by an operator or by new credentials: a delivery looks again after this, and up to as
/// much again, so that they do not come back together.
const PAUSED_LOOK: Duration = Duration::from_secs(10);
const RATE_LIMIT: &str = "its rate limit is reached";

/// Of one destination and credential; shared by `Arc`.
pub struct Gate {
    destination: Destination,
    store: Store,
    metrics: Arc<Metrics>,
    paused_probe: Duration,
    state: Mutex<State>,
    /// There is something for the store.
    news: Notify,
    pacing: RwLock<Pacing>,
    line: Mutex<Line>,
    /// Somebody in the line may go.
    changed: Notify,
    /// There is something to ask of the store's ration, or to tell.
    wanted: Notify,
    /// [`Gate::watch`] runs, and the store is shared with other processes.
    shares: AtomicBool,
    /// The breaker was open when it was last shown.
    was_broken: AtomicBool,
    /// Of this process, among those that share the destination.
    id: String,
    began: Instant,
}

#[derive(Default)]
struct State {
    throttle: Throttle,
    pause: Pause,
    outbox: Outbox,
    /// Counts what is put into the outbox, so that what the store said before is not taken for what it says after.
    version: u64,
    /// The store was read at least once.
    has_read: bool,
    /// The last closing that was read from the store.
    read_closing: Option<Timestamp>,
}

/// Leave to make one call, now. Tell it the answer; where none came, drop it.
#[must_use = "the answer to the call must be told"]
pub struct Permit<'a> {
    gate: &'a Gate,
    closings: u64,
    resumes: u64,
    is_probe: bool,
    slot: Option<Slot<'a>>,
    sent_ms: i64,
}

/// What an answer, or that there was none, means for the calls after it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meaning {
    /// When the call may be made again, where the answer was 429, 401 or 403.
    pub again: Option<Timestamp>,
    /// The call was a probe of the breaker and failed: it says nothing of what it was made for. When to come back.
    pub held: Option<Timestamp>,
}

impl Gate {
    /// Open until the store says otherwise: await [`Gate::refresh`] before the first call, and run [`Gate::watch`].
    /// `paused_probe` is how often a call is let through while the credentials are refused.
    #[must_use]
    pub fn new(
        destination: Destination,
        store: Store,
        metrics: Arc<Metrics>,
        paused_probe: Duration,
        pacing: Pacing,
    ) -> Self {
        Self {
            destination,
            store,
            metrics,
            paused_probe,
            state: Mutex::default(),
            news: Notify::new(),
            pacing: RwLock::new(pacing),
            line: Mutex::default(),
            changed: Notify::new(),
            wanted: Notify::new(),
            shares: AtomicBool::new(false),
            was_broken: AtomicBool::new(false),
            id: format!("{:016x}", rand::random::<u64>()),
            began: Instant::now(),
        }
    }

    #[must_use]
    pub fn destination(&self) -> Destination {
        self.destination
    }

    /// Waits for a call's turn. `place` is one of its handler's in flight, waited for no longer than the turn is.
    ///
    /// # Errors
    /// `GateClosed`: no call may be made before its `until`.
    pub async fn enter<P>(
        &self,
        priority: Priority,
        place: impl Future<Output = P>,
    ) -> Result<(P, Permit<'_>), DestinationError> {
        self.shut()?;
        let place = tokio::time::timeout(self.in_hand(), place)
            .await
            .map_err(|_elapsed| self.closed(Instant::now(), "as many calls are in flight as may be"))?;
        self.turn(priority).await.map(|permit| (place, permit))
    }

    async fn turn(&self, priority: Priority) -> Result<Permit<'_>, DestinationError> {
        let slot = self.slot(priority).await?;
        let mut state = self.lock();
        if let Some(wait) = state.throttle.closed_for(Instant::now()) {
            return Err(self.held(wait, RATE_LIMIT));
        }
        let is_probe = match state.pause.pass(Instant::now(), self.paused_probe) {
            Pass::Flow => false,
            Pass::Probe => true,
            Pass::Held { wait, why } => return Err(self.held(paused(wait), &why)),
        };
        Ok(Permit {
            gate: self,
            closings: state.throttle.closings(),
            resumes: state.pause.resumes(),
            is_probe,
            slot: Some(slot),
            sent_ms: self.now_ms(),
        })
    }

    /// Fails where calls are held by what the destination, or an operator, said, for longer than a call waits in hand.
    ///
    /// # Errors
    /// `GateClosed`: no call may be made before its `until`.
    pub(crate) fn shut(&self) -> Result<(), DestinationError> {
        self.held_until(Instant::now() + self.in_hand()).map(drop)
    }

    /// Until when calls are held; fails where that is after `deadline`. What waits in hand is there when the gate opens;
    /// parked, it comes back by a queue's clock, when the window's calls may be spent again.
    fn held_until(&self, deadline: Instant) -> Result<Option<Instant>, DestinationError> {
        let now = Instant::now();
        let state = self.lock();
        if let Some((wait, why)) = state.pause.held(now) {
            return Err(self.held(paused(wait), &why));
        }
        match state.throttle.closed_for(now) {
            Some(wait) if now + wait > deadline => Err(self.held(wait, RATE_LIMIT)),
            wait => Ok(wait.map(|wait| now + wait)),
        }
    }

    fn held(&self, wait: Duration, why: &str) -> DestinationError {
        let why = format!("calls to {} are held: {why}", self.destination);
        DestinationError::GateClosed { until: in_time(wait), why: redact(&why) }
    }

    /// When the next call may be made; `None`: now. An operator's pause has no known end: the time is then when to
    /// look again.
    #[must_use]
    pub fn open_at(&self) -> Option<Timestamp> {
        let now = Instant::now();
        let state = self.lock();
        state.throttle.closed_for(now).max(state.pause.held_for(now)).map(in_time)
    }

    /// A background task: keeps this gate and the store alike until `shutdown`.
    pub async fn watch(self: Arc<Self>, shutdown: tokio_util::sync::CancellationToken) {
        if self.store.is_shared() {
            self.shares.store(true, Ordering::Relaxed);
            tokio::join!(shared::watch(&self, &shutdown), pump::run(&self, &shutdown));
            self.shares.store(false, Ordering::Relaxed);
        } else {
            shared::watch(&self, &shutdown).await;
        }
    }

    fn show(&self, state: &State) {
        let broken = self.broken_until();
        if self.was_broken.swap(broken.is_some(), Ordering::Relaxed) != broken.is_some() {
            log_broken(self.destination, broken.is_some());
        }
        let shown = if !state.pause.is_flowing() {
            GateState::Paused
        } else if state.throttle.closed_for(Instant::now()).is_some() {
            GateState::Open
        } else {
            match broken {
                Some(until) if until > Timestamp::now().plus(Duration::from_millis(5)) => GateState::Open,
                Some(_) => GateState::HalfOpen,
                None => GateState::Closed,
            }
        };
        self.metrics.worker.destination(self.destination, shown);
    }

    /// Goes by other limits from now on.
    pub fn pace_by(&self, pacing: Pacing) {
        *self.pacing.write().unwrap_or_else(PoisonError::into_inner) = pacing;
    }

    /// There are other credentials: where they were refused they are tried at once.
    pub fn credentials_changed(&self) {
        self.lock().pause.probe_now(Instant::now());
    }

    fn in_hand(&self) -> Duration {
        self.pacing().in_hand
    }

    fn pacing(&self) -> Pacing {
        *self.pacing.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_shared(&self) -> bool {
        self.shares.load(Ordering::Relaxed)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On this process's clock, which is never set.
    fn now_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn tell_store(&self, state: &mut State, put: impl FnOnce(&mut Outbox)) {
        put(&mut state.outbox);
        state.version += 1;
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Tells the answer's status and headers, as soon as they are read.
    pub fn answered(mut self, status: u16, headers: &RateLimitHeaders) -> Meaning {
        let gate = self.gate;
        let now_ms = gate.now_ms();
        let window = headers.window(Timestamp::now()).map(|(limit, remaining, reset, lasts)| WindowTold {
            limit,
            remaining,
            reset_ms: reset.as_millis(),
            lasts_ms: i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX),
        });
        let told = Told { at_ms: now_ms, sent_ms: self.sent_ms, too_many: status == 429, window };
        let has_failed = status >= 500;
        let held = self.end(|is_probe| if has_failed { End::Failed { told, is_probe } } else { End::Worked(told) });

        let mut state = gate.lock();
        self.note_budget(&mut state, headers);
        let again = match status {
            429 => Some(self.too_many(&mut state, headers)),
            401 | 403 => Some(paused(self.refused(&mut state, status))),
            _ => {
                self.went_through(&mut state, status);
                None
            }
        };
        // Where the window's end is known to better than the second that the header tells, the budget holds calls.
        if status != 429
            && !gate.line().view().knows_length
            && let Some(wait) = headers.spent_for(Timestamp::now())
        {
            state.throttle.close_for(Instant::now(), wait);
            gate.tell_store(&mut state, |outbox| outbox.close(in_time(wait), "its rate limit's window is spent"));
        }
        gate.show(&state);
        Meaning { again: again.map(in_time), held: held.filter(|_| has_failed) }
    }

    /// Tells that no answer came: no connection, a time-out, or something that is none.
    pub fn failed(mut self) -> Meaning {
        let gate = self.gate;
        let at_ms = gate.now_ms();
        let held = self.end(|is_probe| End::Silent { at_ms, is_probe });
        gate.show(&gate.lock());
        Meaning { again: None, held }
    }

    /// Where it was a probe of the breaker: until when calls are held now, if it failed.
    fn end(&mut self, end: impl FnOnce(bool) -> End) -> Option<Timestamp> {
        let slot = self.slot.take()?;
        let was_probe = slot.is_probe;
        slot.end(end(was_probe));
        let until = || self.gate.broken_until().unwrap_or_else(|| in_time(self.gate.pacing().open_min()));
        was_probe.then(until)
    }

    fn note_budget(&self, state: &mut State, headers: &RateLimitHeaders) {
        #[expect(clippy::cast_precision_loss, reason = "calls per window are far below 2^52")]
        let as_gauge = |count: i64| count as f64;
        let metrics = &self.gate.metrics.worker;
        metrics.budget(self.gate.destination, headers.limit.map(as_gauge), headers.remaining.map(as_gauge));
        let view = self.gate.line().view();
        state.outbox.standing(headers.limit.zip(headers.remaining), view.per_second, view.is_open);
    }

    fn too_many(&self, state: &mut State, headers: &RateLimitHeaders) -> Duration {
        let gate = self.gate;
        let wall = Timestamp::now();
        // `Retry-After` is the destination's own word on this very call; the window is second best.
        let asked = headers.retry_after(wall).or_else(|| headers.spent_for(wall));
        let (wait, is_news) = state.throttle.too_many(Instant::now(), asked, self.closings);
        gate.tell_store(state, |outbox| outbox.close(in_time(wait), "its rate limit is reached"));
        if is_news {
            tracing::warn!(
                destination = %gate.destination,
                wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "destination.closed: its rate limit is reached; deliveries wait, no attempt is spent"
            );
        }
        wait
    }

    fn refused(&self, state: &mut State, status: u16) -> Duration {
        let gate = self.gate;
        let (wait, is_news) = state.pause.refused(Instant::now(), gate.paused_probe, self.resumes);
        if is_news {
            let destination = gate.destination;
            let reason =
                format!("{CREDENTIALS_REFUSED} ({status}): set valid ones, then `hookline resume {destination}`");
            tracing::error!(
                destination = %destination, status,
                "destination.paused: it refuses our credentials; nothing is lost, deliveries wait. Check that the \
                 token is valid and may do this, and set a new one: in its file it counts within seconds, elsewhere after a \
                 restart; or run `hookline resume {destination}`"
            );
            gate.tell_store(state, |outbox| outbox.pause = Some(PauseNews::Refused { reason }));
        }
        wait
    }

    fn went_through(&self, state: &mut State, status: u16) {
        state.throttle.went_through(self.closings);
        // 404 or 422 came from behind the check of credentials as surely as 200; 5xx and redirects may not.
        let took_credentials = matches!(status, 200..300 | 400..500) && !matches!(status, 407 | 408 | 425);
        if self.is_probe && took_credentials && state.pause.accepted() == Change::Resumed {
            log_resumed(self.gate.destination);
            self.gate.tell_store(state, |outbox| outbox.pause = Some(PauseNews::Accepted));
        }
    }
}

fn log_broken(destination: Destination, is_broken: bool) {
    if is_broken {
        tracing::warn!(destination = %destination,
            "destination.failing: it fails again and again; deliveries wait, and one call at a time is let through until one works");
    } else {
        tracing::info!(destination = %destination, "destination.works: calls are made again");
    }
}

fn log_resumed(destination: Destination) {
    tracing::info!(destination = %destination, "destination.resumed: calls are made again");
}

fn paused(wait: Duration) -> Duration {
    wait.min(PAUSED_LOOK.mul_f64(1.0 + rand::random::<f64>()))
}

/// The wall clock `wait` from now; rounded up, for nothing may be early.
fn in_time(wait: Duration) -> Timestamp {
    Timestamp::now().plus(wait + Duration::from_millis(1))
}
