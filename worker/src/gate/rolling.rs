//! A limit of the calls within any time of some length, such as HubSpot's: each call counts for that long. The newest
//! answer tells what is left. While no answer comes, calls of ours that no longer count are added.

use serde::{Deserialize, Serialize};

use super::policy::Answer;
use super::rate_limit::{ASK_AGAIN_MS, float};
use super::{GateRules, Priority};
use crate::destinations::limits::WindowSeen;

/// Fraction of the limit that may be called at once after a quiet time. What is called at once comes back at once, so
/// that after many an opt-out would find nothing for long.
const BURST: f64 = 0.1;
/// Fraction of the limit that opt-outs leave too: a call that was sent before that of the newest answer may have arrived
/// after it, and a refusal would close the gate for all.
const OPT_OUT_RESERVE: f64 = 0.01;
/// Fraction of the limit that a back-fill leaves to calls that somebody waits for.
const BACK_FILL_RESERVE: f64 = 0.1;
/// Our calls are counted by spans of so many milliseconds.
const SPAN_MS: i64 = 250;
/// Milliseconds after which a call that was let through has surely reached the destination.
const ARRIVES_MS: i64 = 250;
/// Divisor of the limit: so few calls are not told from our own.
const FEW: i64 = 50;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RollingWindow {
    pub(super) limit: i64,
    /// The value that the newest answer reported.
    pub(super) remaining: i64,
    /// How long a call counts.
    lasts_ms: i64,
    /// When the call of the newest answer was sent, and when its answer came.
    sent_ms: i64,
    seen_ms: i64,
    /// Our calls: the beginning of each span that has some, and how many.
    ours: Vec<(i64, i64)>,
}

impl RollingWindow {
    /// Takes in what an answer reports. An answer that was overtaken tells nothing.
    pub(super) fn with(before: Option<Self>, answer: &Answer, seen: WindowSeen, rules: &GateRules) -> Self {
        let Answer { sent_ms, at_ms: seen_ms, .. } = *answer;
        // A wrong interval would hold everything for as long.
        let lasts_ms = seen.lasts_ms.clamp(1, rules.window_ms);
        let ours = match before {
            // One from the future is of a clock that was set back since.
            Some(newer) if newer.sent_ms > sent_ms && newer.sent_ms <= seen_ms => return newer,
            Some(before) => before.ours,
            None => Vec::new(),
        };
        Self { limit: seen.limit, remaining: seen.remaining, lasts_ms, sent_ms, seen_ms, ours }
    }

    /// Counts a call that is let through.
    pub(super) fn count(&mut self, now_ms: i64) {
        match self.ours.last_mut() {
            Some((from_ms, calls)) if now_ms < *from_ms + SPAN_MS => *calls += 1,
            Some(_) | None => {
                // Those before told nothing even if the newest answer came one length ago.
                let told_ms = 2 * (self.lasts_ms + SPAN_MS + ARRIVES_MS);
                self.ours.retain(|(from_ms, _)| now_ms < from_ms + told_ms);
                self.ours.push((now_ms, 1));
            }
        }
    }

    /// Returns whether a call is left while `out` calls are in flight.
    ///
    /// # Errors
    /// When to ask again.
    pub(super) fn has_room(&self, now_ms: i64, out: i64, priority: Priority, rules: &GateRules) -> Result<(), i64> {
        let reserve = match priority {
            Priority::OptOut => OPT_OUT_RESERVE,
            Priority::Contact | Priority::Note => rules.reserve,
            Priority::BackFill => rules.reserve + BACK_FILL_RESERVE,
        };
        // Others go on while no answer tells of them, until as many of their calls no longer count.
        let untold_ms = (now_ms - self.seen_ms).clamp(0, SPAN_MS + ARRIVES_MS);
        let others = float(self.others()) / float(self.lasts_ms) * float(untold_ms);
        let left = float(self.remaining_at(now_ms) - out) - others.ceil() - float(self.limit) * reserve;
        if left >= 1.0 { Ok(()) } else { Err(now_ms + ASK_AGAIN_MS) }
    }

    /// Returns how many calls are left, those in flight not taken off. Calls whose answers
    /// tell no limit are missed until the next answer that does.
    fn remaining_at(&self, now_ms: i64) -> i64 {
        let still_counts = |from_ms: i64| now_ms < from_ms + SPAN_MS + ARRIVES_MS + self.lasts_ms;
        if !still_counts(self.seen_ms) {
            let since: i64 = self.ours.iter().filter(|(from, _)| still_counts(*from)).map(|(_, calls)| calls).sum();
            return self.limit - since;
        }
        let counted_then = |from_ms: i64| from_ms + self.lasts_ms > self.seen_ms;
        let over = self.ours.iter().filter(|(from, _)| counted_then(*from) && !still_counts(*from));
        self.remaining + over.map(|(_, calls)| calls).sum::<i64>()
    }

    /// Returns how many calls may be made at once after a quiet time.
    pub(super) fn at_once(&self) -> f64 {
        (float(self.limit) * BURST).max(1.0)
    }

    /// Returns the pace that uses what the reserve and other programs leave of the limit, but for one call: a pace that
    /// runs into the limit makes gaps, which come back with each window.
    pub(super) fn per_ms(&self, rules: &GateRules) -> f64 {
        let left = float(self.limit) * (1.0 - rules.reserve) - float(self.others() + 1);
        left.max(1.0) / float(self.lasts_ms)
    }

    /// Returns how many calls of other programs the newest answer counted. A few are ours, which a span has dropped.
    fn others(&self) -> i64 {
        let is_counted = |from_ms: i64| from_ms <= self.sent_ms && from_ms + SPAN_MS + self.lasts_ms > self.seen_ms;
        let counted = self.ours.iter().filter(|(from_ms, _)| is_counted(*from_ms));
        let ours: i64 = counted.map(|(_, calls)| calls).sum();
        (self.limit - self.remaining - ours - self.limit / FEW).max(0)
    }
}
