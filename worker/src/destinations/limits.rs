//! How often a destination may be called: what the configuration sets, and what answers report. Each destination reads
//! its own headers (`textus/limits.rs`).

use std::time::Duration;

use hookline_common::time::{Timestamp, millis};

/// Longest wait that a header can cause. A wrong header must not stop opt-outs for a day.
pub const MAX_WAIT: Duration = Duration::from_secs(15 * 60);

/// Longest time that a call waits in hand for its turn, whatever the call's time-out. Longer waits happen in the queue.
pub(crate) const IN_HAND_MAX: Duration = Duration::from_secs(8);

/// The rules of a gate, set by the configuration and the destination.
#[derive(Clone, Copy, Debug)]
pub struct GateRules {
    /// Fraction of the quota kept for opt-outs.
    pub reserve: f64,
    /// Calls a second that the configuration allows, whatever the destination would take. 0 sets no limit.
    pub per_second: u32,
    /// Searches a second that the destination takes of all processes, which no answer reports. 0 where searches are calls
    /// like others.
    pub searches: u32,
    /// Length of the rate limit's window. Answers report where it ends.
    pub window_ms: i64,
    /// Whether the limit is of the calls within any time of that length, so that no window begins or ends.
    pub is_rolling: bool,
    /// How long a breaker is open at first, and at most.
    pub open_min_ms: i64,
    pub open_max_ms: i64,
    /// How often a destination that refused our credentials is probed.
    pub probe_every_ms: i64,
    /// How long a call waits in hand for its turn. It must not exceed a call's time-out: a claim's lease, which is more
    /// than three time-outs, has to outlast two waits and the call.
    pub in_hand_ms: i64,
}

/// What an answer says about the destination's rate limit. Each field is `None` if the answer doesn't say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls for each window.
    pub limit: Option<i64>,
    /// Calls left in this window.
    pub remaining: Option<i64>,
    /// When the window ends on the destination's clock, and how long it still lasts.
    pub window_end: Option<(Timestamp, Duration)>,
    pub retry_after: Option<Duration>,
}

/// What one answer says about its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowSeen {
    pub(crate) limit: i64,
    pub(crate) remaining: i64,
    /// The window's end as sent, on the server's clock.
    pub(crate) reset_ms: i64,
    /// How long the window still lasts by the answer's own `Date`; never too short.
    pub(crate) lasts_ms: i64,
}

impl Limits {
    /// Returns the window; `None` if the answer reports only part of it.
    pub(crate) fn window(&self) -> Option<WindowSeen> {
        let (reset, lasts) = self.window_end?;
        let (reset_ms, lasts_ms) = (reset.as_millis(), millis(lasts));
        Some(WindowSeen { limit: self.limit?, remaining: self.remaining?, reset_ms, lasts_ms })
    }
}
