//! Tracks how many calls a destination still takes in its window and how fast to make them. It reads what answers say
//! about the rate limit as one quota that all workers share. Pure: the caller passes the time, in milliseconds of one
//! clock.
//!
//! The quota left is never guessed. It is the smallest `remaining` reported in this window minus the calls in flight,
//! so it includes the calls of other programs on the same credential. It is spread over the rest of the window. If no
//! answer reports a limit, the calls in flight double with each round of answers until the first 429. Each 429 halves
//! them, and from there they grow by one a second. `rolling` has the limits without such windows.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::policy::Answer;
use super::rolling::RollingWindow;
use super::{GateRules, Meaning, Priority};
use crate::destinations::limits::WindowSeen;

/// Fraction of the limit that may be called at once after a quiet time. A user with half a window's calls to make
/// should not wait for them. A larger backlog is spread evenly after that.
const BURST: f64 = 0.5;
/// Fraction of the window, at its end, over which the reserve for opt-outs shrinks to zero.
const RESERVE_SHRINKS_OVER: f64 = 0.2;
/// Fraction of the calls that may be made at once that a back-fill leaves to calls that somebody waits for.
const LEFT_BY_BACK_FILL: f64 = 0.2;
/// Milliseconds' worth of other programs' calls, at their pace, that may come between an answer and our next call.
const FOREIGN_AHEAD_MS: f64 = 100.0;
/// From this limit on, one call of each window stays unused, in case the window ends later than we think.
const SLACK_FROM: i64 = 20;
/// Divisor of the limit: `remaining` must rise by more than a tenth of it before we treat the answer as a new window. A
/// smaller rise comes from an answer that was overtaken.
const NEW_WINDOW_RISE: i64 = 10;
/// Milliseconds to wait for the one call that shows whether a new window has begun, before we make another.
const PROBE_WAIT_MS: i64 = 2_000;
/// 429s within this many milliseconds belong to one burst.
const ONE_REFUSAL_MS: i64 = 1_000;
/// Divisor of the calls a second that the configuration allows: that many may be made at once.
const PACED_AT_ONCE: u32 = 20;
/// How far the clocks of two processes, or of a process and the store, are apart at most, the time of an exchange included.
pub(super) const CLOCKS_DIFFER_MS: i64 = 2_000;
/// Milliseconds until a call that waits for others' answers asks again.
pub(super) const ASK_AGAIN_MS: i64 = 50;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RateLimit {
    window: Option<Window>,
    rolling: Option<RollingWindow>,
    /// Calls that may be made at once, as of `tokens_at_ms`.
    tokens: f64,
    tokens_at_ms: Option<i64>,
    /// When the first call of a window that isn't known yet was let through.
    probed_ms: Option<i64>,
    /// If no answer reports a limit: how many calls besides one may be in flight, and when a 429 last halved them.
    in_flight: f64,
    halved_ms: Option<i64>,
    grown_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Window {
    limit: i64,
    /// The smallest value reported.
    remaining: i64,
    /// The reported end on the server's clock. The end alone doesn't tell two windows apart: some servers count it from
    /// each answer, and at others it wavers by a second.
    reset_ms: i64,
    /// When the window is surely over, on our clock.
    ends_ms: i64,
    /// When the window's first answer came, and the `remaining` it reported.
    first_ms: i64,
    first_remaining: i64,
    /// Our calls that were answered after the first.
    ours: i64,
}

impl RateLimit {
    /// Takes quota for one call. `out` is the number of calls that any process has in flight.
    ///
    /// # Errors
    /// When to ask again.
    pub(super) fn take(&mut self, now_ms: i64, out: i64, priority: Priority, rules: &GateRules) -> Result<(), i64> {
        let is_opt_out = priority == Priority::OptOut;
        self.may(now_ms, out, priority, rules)?;
        if let Some(rolling) = &mut self.rolling {
            rolling.count(now_ms);
            // Opt-outs do not wait for the pace, but the others make up for them: there is no window's end that would.
            self.tokens = (self.tokens - 1.0).max(-float(rolling.limit));
            return Ok(());
        }
        let is_in_window = self.window.as_ref().is_some_and(|window| now_ms < window.ends_ms);
        if !is_in_window {
            self.probed_ms = Some(now_ms);
        }
        let is_paced = self.window.is_none() && rules.per_second > 0;
        if is_paced || (is_in_window && !is_opt_out) {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
        Ok(())
    }

    fn may(&mut self, now_ms: i64, out: i64, priority: Priority, rules: &GateRules) -> Result<(), i64> {
        if let Some(rolling) = &self.rolling {
            let (most, per_ms) = (rolling.at_once(), rolling.per_ms(rules));
            if let Err(again_ms) = rolling.has_room(now_ms, out, priority, rules) {
                // Time without room earns nothing: what was made at once would hold everything up again a window later.
                (self.tokens, self.tokens_at_ms) = (self.tokens.min(needed(priority, most)), Some(self.latest(now_ms)));
                return Err(again_ms);
            }
            return self.has_token(now_ms, priority, most, per_ms);
        }
        // A call that hangs must not hold all others.
        let is_probed = self.probed_ms.is_some_and(|probed| now_ms - probed < PROBE_WAIT_MS);
        let Some(window) = &self.window else {
            let has_room = float(out) < 1.0 + self.in_flight.floor();
            let may = if has_room || !is_probed { Ok(()) } else { Err(now_ms + ASK_AGAIN_MS) };
            return may.and_then(|()| self.keeps_pace(now_ms, rules.per_second, priority));
        };
        if now_ms >= window.ends_ms {
            return if is_probed { Err(now_ms + ASK_AGAIN_MS) } else { Ok(()) };
        }
        let reserve = if priority == Priority::OptOut { 0.0 } else { window.reserve(now_ms, rules) };
        let left = float(window.remaining - out) - window.slack(now_ms, out) - reserve;
        if left < 1.0 {
            return Err(window.asks_again_ms(now_ms, out, reserve, rules));
        }
        // Leave other programs the share that they use.
        let lasts_ms = float((window.ends_ms - now_ms).max(10));
        let per_ms = (left / lasts_ms - window.foreign_per_ms(now_ms, out)).max(1e-6);
        let most = (float(window.limit) * BURST).max(1.0);
        self.has_token(now_ms, priority, most, per_ms)
    }

    /// Returns whether a call keeps to this pace. Quiet time earns calls, at most as many as may be made at once.
    fn has_token(&mut self, now_ms: i64, priority: Priority, most: f64, per_ms: f64) -> Result<(), i64> {
        let filled = self.tokens_at_ms.map_or(most, |at| self.tokens + float((now_ms - at).max(0)) * per_ms);
        (self.tokens, self.tokens_at_ms) = (filled.min(most), Some(self.latest(now_ms)));
        let needed = needed(priority, most);
        if priority == Priority::OptOut || self.tokens >= needed {
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, reason = "clamped to a second")]
        Err(now_ms + ((needed - self.tokens) / per_ms).ceil().clamp(5.0, 1000.0) as i64)
    }

    /// Returns up to when calls are earned. Clocks of processes differ a little, and no time may be earned twice. A time
    /// further ahead is of a clock that was set back since.
    fn latest(&self, now_ms: i64) -> i64 {
        self.tokens_at_ms.filter(|at| *at <= now_ms + CLOCKS_DIFFER_MS).map_or(now_ms, |at| at.max(now_ms))
    }

    /// Keeps to the pace that the configuration sets. A twentieth of a second's calls may be made at once, and only the
    /// others are earned with time, so that no second has more calls than it may.
    fn keeps_pace(&mut self, now_ms: i64, per_second: u32, priority: Priority) -> Result<(), i64> {
        if per_second == 0 {
            return Ok(());
        }
        let at_once = f64::from((per_second / PACED_AT_ONCE).max(1));
        let per_ms = (f64::from(per_second) - at_once + 1.0) / 1_000.0;
        let filled = self.tokens_at_ms.map_or(at_once, |at| self.tokens + float((now_ms - at).max(0)) * per_ms);
        (self.tokens, self.tokens_at_ms) = (filled.min(at_once), Some(self.latest(now_ms)));
        let needed = needed(priority, at_once);
        // What time has earned is a sum of fractions, which may be a hair below the whole.
        if self.tokens > needed - 1e-6 {
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, reason = "clamped to a second")]
        Err(now_ms + ((needed - self.tokens) / per_ms).ceil().clamp(1.0, 1000.0) as i64)
    }

    /// Takes one answer in.
    pub(super) fn answered(&mut self, answer: &Answer, rules: &GateRules) {
        let Answer { at_ms, sent_ms, .. } = *answer;
        let Some(seen) = answer.window else {
            if self.window.as_ref().is_some_and(|window| at_ms >= window.ends_ms) {
                self.window = None;
            }
            return self.answered_without_limit(at_ms, answer.meaning == Meaning::TooMany);
        };
        self.probed_ms = None;
        if rules.is_rolling {
            self.window = None;
            self.rolling = Some(RollingWindow::with(self.rolling.take(), answer, seen, rules));
            return;
        }
        self.rolling = None;
        let window = self.window.take().filter(|window| !window.is_followed_by(at_ms, seen));
        self.window = Some(match window {
            Some(window) => window.with(at_ms, sent_ms, seen),
            None => Window {
                limit: seen.limit,
                remaining: seen.remaining,
                reset_ms: seen.reset_ms,
                // The window opened before its first answer came.
                ends_ms: at_ms + seen.lasts_ms.min(rules.window_ms),
                first_ms: at_ms,
                first_remaining: seen.remaining,
                ours: 0,
            },
        });
    }

    fn answered_without_limit(&mut self, at_ms: i64, is_too_many: bool) {
        match self.halved_ms {
            None if !is_too_many => self.in_flight = (self.in_flight + 1.0).min(10_000.0),
            Some(_) if !is_too_many => {
                self.in_flight += float((at_ms - self.grown_ms).clamp(0, 1_000)) / 1_000.0;
                self.grown_ms = at_ms;
            }
            // Calls in flight when the first 429 came all get one. Together they count as one refusal.
            Some(halved_ms) if at_ms - halved_ms < ONE_REFUSAL_MS => {}
            Some(_) | None => {
                self.in_flight /= 2.0;
                (self.halved_ms, self.grown_ms) = (Some(at_ms), at_ms);
            }
        }
    }

    /// Returns whether no answer has reported a limit and none was a 429. Processes then have nothing to share.
    pub(super) fn is_unlimited(&self) -> bool {
        self.window.is_none() && self.rolling.is_none() && self.halved_ms.is_none()
    }

    /// Returns the limit and the latest known `remaining`.
    pub(super) fn quota(&self) -> Option<(i64, i64)> {
        let rolling = self.rolling.as_ref().map(|window| (window.limit, window.remaining));
        rolling.or(self.window.as_ref().map(|window| (window.limit, window.remaining)))
    }
}

impl Window {
    /// Returns whether an answer belongs to a later window: its end is later and `remaining` rose. Once this window is
    /// over, any different end counts, whatever the server's clock was set to.
    fn is_followed_by(&self, at_ms: i64, seen: WindowSeen) -> bool {
        let is_over = at_ms >= self.ends_ms;
        match seen.reset_ms.cmp(&self.reset_ms) {
            Ordering::Greater => is_over || seen.remaining - self.remaining > seen.limit / NEW_WINDOW_RISE,
            Ordering::Equal => false,
            Ordering::Less => is_over,
        }
    }

    fn with(mut self, at_ms: i64, sent_ms: i64, seen: WindowSeen) -> Self {
        let told_ms = at_ms + seen.lasts_ms;
        match seen.reset_ms.cmp(&self.reset_ms) {
            // This answer was overtaken.
            Ordering::Less => return self,
            // The window lasts longer than `rate_limit_window` says, so only its reported end counts.
            _ if sent_ms >= self.ends_ms => self.ends_ms = told_ms,
            Ordering::Equal => self.ends_ms = self.ends_ms.min(told_ms),
            Ordering::Greater => {}
        }
        (self.reset_ms, self.limit) = (seen.reset_ms, seen.limit);
        self.remaining = self.remaining.min(seen.remaining);
        self.ours += 1;
        self
    }

    /// Returns the pace of other programs since the window's first answer. The server may already count our calls in
    /// flight; subtracting `out` keeps them from looking foreign.
    fn foreign_per_ms(&self, now_ms: i64, out: i64) -> f64 {
        let foreign = (self.first_remaining - self.remaining - self.ours - out).max(0);
        float(foreign) / float((now_ms - self.first_ms).max(500))
    }

    fn slack(&self, now_ms: i64, out: i64) -> f64 {
        let ahead = (self.foreign_per_ms(now_ms, out) * FOREIGN_AHEAD_MS).ceil();
        ahead + if self.limit >= SLACK_FROM { 1.0 } else { 0.0 }
    }

    fn reserve(&self, now_ms: i64, rules: &GateRules) -> f64 {
        let lasts = float(self.ends_ms - now_ms) / (float(rules.window_ms) * RESERVE_SHRINKS_OVER);
        float(self.limit) * rules.reserve * lasts.min(1.0)
    }

    /// Returns when to ask again if no call is left: calls in flight may end uncounted, and the reserve shrinks.
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a window")]
    fn asks_again_ms(&self, now_ms: i64, out: i64, reserve: f64, rules: &GateRules) -> i64 {
        let shrinks_from_ms = self.ends_ms - (float(rules.window_ms) * RESERVE_SHRINKS_OVER) as i64;
        match out {
            1.. => now_ms + ASK_AGAIN_MS,
            _ if reserve > 0.0 => shrinks_from_ms.max(now_ms + ASK_AGAIN_MS).min(self.ends_ms),
            _ => self.ends_ms,
        }
    }
}

/// Returns how many calls must be earned before one with this priority, where at most so many are.
fn needed(priority: Priority, most: f64) -> f64 {
    let left = if priority == Priority::BackFill { most * LEFT_BY_BACK_FILL } else { 0.0 };
    (1.0 + left).min(most)
}

#[expect(clippy::cast_precision_loss, reason = "calls and milliseconds of a window are far below 2^52")]
pub(super) fn float(number: i64) -> f64 {
    number as f64
}
