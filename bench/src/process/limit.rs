//! A token's quota at the benchmark's API, and another program that uses the same token. Windows are fixed as in the
//! sandbox, each opened by the first call after the previous window's end. Every call is recorded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hookline_sandbox::rate_limit::{Quota, RateLimiter};
use serde::{Deserialize, Serialize};

use crate::clock;

const TOKEN: &str = "the only token";
/// Interval at which the program that spends the rest checks the window.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LimitSpec {
    /// Calls per window.
    pub(crate) calls: u32,
    pub(crate) window: Duration,
    pub(crate) other: Option<Other>,
}

/// How another program uses the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Other {
    /// The program makes half of the calls that the quota allows, evenly.
    HalfEvenly,
    /// The program makes all remaining calls when half of a window has passed.
    SpendsTheRest,
}

/// One call on the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ApiCall {
    /// When the call arrived, on the clock that the processes share.
    pub(crate) at_us: u64,
    pub(crate) caller: Caller,
    /// The `Retry-After` of a 429; `None` if the call was not refused.
    pub(crate) retry_after_s: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Caller {
    Other,
    /// One of our PUTs of an opt-out, with the phone's ten digits.
    OptOut(String),
    /// Any other call of ours.
    Ours,
}

pub(super) struct Limited {
    spec: LimitSpec,
    /// One moment on both clocks. A window ends by the wall clock, which may be changed meanwhile, so the time is
    /// derived from the monotonic clock.
    started: (SystemTime, u64),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    limiter: RateLimiter,
    calls: Vec<ApiCall>,
    opened_us: u64,
}

impl Limited {
    pub(super) fn start(spec: LimitSpec) -> Arc<Self> {
        let started = (SystemTime::now(), clock::now_us());
        let this = Arc::new(Self { spec, started, state: Mutex::default() });
        match spec.other {
            None => {}
            Some(Other::HalfEvenly) => drop(tokio::spawn(Arc::clone(&this).half_evenly())),
            Some(Other::SpendsTheRest) => drop(tokio::spawn(Arc::clone(&this).spend_the_rest())),
        }
        this
    }

    /// Counts a call that arrives now.
    pub(super) fn count(&self, caller: Caller) -> Quota {
        self.count_in(&mut self.lock(), caller)
    }

    fn count_in(&self, state: &mut State, caller: Caller) -> Quota {
        // The time is read under the lock, so that calls are recorded in order.
        let at_us = clock::now_us();
        let (wall, began_us) = self.started;
        let now = wall + Duration::from_micros(at_us - began_us);
        let quota = state.limiter.count(TOKEN, (self.spec.calls, self.spec.window), now);
        if !quota.exceeded && quota.remaining + 1 == self.spec.calls {
            state.opened_us = at_us;
        }
        let retry_after_s = quota.exceeded.then(|| quota.seconds_left());
        state.calls.push(ApiCall { at_us, caller, retry_after_s });
        quota
    }

    /// Returns the calls since the previous request.
    pub(super) fn take_calls(&self) -> Vec<ApiCall> {
        std::mem::take(&mut self.lock().calls)
    }

    async fn half_evenly(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.spec.window * 2 / self.spec.calls);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut not_before_us = 0;
        loop {
            ticks.tick().await;
            if clock::now_us() < not_before_us {
                continue;
            }
            let quota = self.count(Caller::Other);
            if quota.exceeded {
                not_before_us = clock::now_us() + quota.seconds_left() * 1_000_000;
            }
        }
    }

    async fn spend_the_rest(self: Arc<Self>) {
        let window_us = self.spec.window.as_micros();
        let mut spent_us = 0;
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let mut state = self.lock();
            let past = u128::from(clock::now_us() - state.opened_us);
            if state.opened_us == spent_us || past < window_us / 2 || past >= window_us {
                continue;
            }
            spent_us = state.opened_us;
            while self.count_in(&mut state, Caller::Other).remaining > 0 {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
