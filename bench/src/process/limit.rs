//! A token's quota at the benchmark's API: fixed windows as the sandbox has them, each opened by the first call after
//! the last one's end; every call is noted. And another program that uses the same token.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hookline_sandbox::rate_limit::{Quota, RateLimiter};
use serde::{Deserialize, Serialize};

use crate::clock;

const TOKEN: &str = "the only token";
/// How closely the program that spends the rest looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LimitSpec {
    /// In a window.
    pub(crate) calls: u32,
    pub(crate) window: Duration,
    pub(crate) other: Option<Other>,
}

/// What another program on the token does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Other {
    /// It makes half of the calls that the quota allows, evenly.
    HalfEvenly,
    /// It makes all calls that are left when half of a window has passed.
    SpendsTheRest,
}

/// One call on the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ApiCall {
    /// When it arrived, on the clock that the processes share.
    pub(crate) at_us: u64,
    pub(crate) caller: Caller,
    /// It was answered 429, with this `Retry-After`.
    pub(crate) retry_after_s: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Caller {
    Other,
    /// We PUT an opt-out of this phone: ten digits.
    OptOut(String),
    /// Ours, and something else.
    Ours,
}

pub(super) struct Limited {
    spec: LimitSpec,
    /// One moment, on both clocks: the window's end goes by the wall clock, which may be set meanwhile.
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
        // Under the lock, so that calls are noted in their order.
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

    /// The calls since they were taken last.
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
