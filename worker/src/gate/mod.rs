//! What every call to a destination passes: closed until a `Retry-After` has passed, paused by an operator or for
//! refused credentials. One [`Gate`] per destination and credential, in memory; `shared` keeps it and the store's
//! table `gates` alike, so that what one process is told binds all. (Budget, breaker and priority come with the
//! gate's own work.)
//!
//! [`Gate::check`] is asked right before each request, so a closing binds every call that is started after the answer
//! that caused it was read.

mod headers;
mod pause;
mod shared;
mod throttle;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookline_common::names::Destination;
use hookline_common::telemetry::metrics::{GateState, Metrics};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::headers::{MAX_WAIT, RateLimitHeaders};
pub use self::pause::CREDENTIALS_REFUSED;
use self::pause::{Change, Pass, Pause};
use self::shared::{Outbox, PauseNews};
use self::throttle::Throttle;
use crate::destinations::error::DestinationError;
use crate::destinations::redact::redact;

/// Of one destination and credential; shared by `Arc`.
pub struct Gate {
    destination: Destination,
    store: Store,
    metrics: Arc<Metrics>,
    paused_probe: Duration,
    state: Mutex<State>,
    /// There is something for the store.
    news: Notify,
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
}

impl Gate {
    /// Open until the store says otherwise: await [`Gate::refresh`] before the first call, and run [`Gate::watch`].
    /// `paused_probe` is how often a call is let through while the credentials are refused.
    #[must_use]
    pub fn new(destination: Destination, store: Store, metrics: Arc<Metrics>, paused_probe: Duration) -> Self {
        Self { destination, store, metrics, paused_probe, state: Mutex::default(), news: Notify::new() }
    }

    #[must_use]
    pub fn destination(&self) -> Destination {
        self.destination
    }

    /// Asks to make a call now.
    ///
    /// # Errors
    /// `GateClosed`: no call may be made before its `until`.
    pub fn check(&self) -> Result<Permit<'_>, DestinationError> {
        let now = Instant::now();
        let mut state = self.lock();
        let closed = |wait, why: &str| {
            let why = format!("calls to {} are held: {why}", self.destination);
            Err(DestinationError::GateClosed { until: in_time(wait), why: redact(&why) })
        };
        if let Some(wait) = state.throttle.closed_for(now) {
            return closed(wait, "its rate limit is reached");
        }
        let is_probe = match state.pause.pass(now, self.paused_probe) {
            Pass::Flow => false,
            Pass::Probe => true,
            Pass::Held { wait, why } => return closed(wait, &why),
        };
        Ok(Permit { gate: self, closings: state.throttle.closings(), resumes: state.pause.resumes(), is_probe })
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
        shared::watch(&self, &shutdown).await;
    }

    fn show(&self, state: &State) {
        let shown = if !state.pause.is_flowing() {
            GateState::Paused
        } else if state.throttle.closed_for(Instant::now()).is_some() {
            GateState::Open
        } else {
            GateState::Closed
        };
        self.metrics.worker.destination(self.destination, shown);
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
    /// Tells the answer's status and headers, as soon as they are read. Returns when the call may be made again where
    /// the answer was 429, 401 or 403; `None` otherwise.
    pub fn answered(self, status: u16, headers: &RateLimitHeaders) -> Option<Timestamp> {
        let gate = self.gate;
        let mut state = gate.lock();
        self.note_budget(&mut state, headers);
        let again = match status {
            429 => Some(self.too_many(&mut state, headers)),
            401 | 403 => Some(self.refused(&mut state, status)),
            _ => {
                self.went_through(&mut state, status);
                None
            }
        };
        if status != 429
            && let Some(wait) = headers.spent_for(Timestamp::now())
        {
            state.throttle.close_for(Instant::now(), wait);
            gate.tell_store(&mut state, |outbox| outbox.close(in_time(wait), "its rate limit's window is spent"));
        }
        gate.show(&state);
        again.map(in_time)
    }

    fn note_budget(&self, state: &mut State, headers: &RateLimitHeaders) {
        #[expect(clippy::cast_precision_loss, reason = "calls per window are far below 2^52")]
        let as_gauge = |count: i64| count as f64;
        let metrics = &self.gate.metrics.worker;
        metrics.budget(self.gate.destination, headers.limit.map(as_gauge), headers.remaining.map(as_gauge));
        if let (Some(limit), Some(remaining)) = (headers.limit, headers.remaining) {
            state.outbox.budget(limit, remaining);
        }
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
                 token is valid and may do this, set a new one and restart, or run `hookline resume {destination}`"
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

fn log_resumed(destination: Destination) {
    tracing::info!(destination = %destination, "destination.resumed: calls are made again");
}

/// The wall clock `wait` from now; rounded up, for nothing may be early.
fn in_time(wait: Duration) -> Timestamp {
    Timestamp::now().plus(wait + Duration::from_millis(1))
}
