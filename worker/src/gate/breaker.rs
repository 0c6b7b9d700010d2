//! Open while a destination fails: calls are held, one probe at a time is let through, and its success closes the
//! breaker at once. Pure: the caller brings the clock, in milliseconds of one clock.

use serde::{Deserialize, Serialize};

/// Failures running that open it, for whoever has ten events a day.
const RUNNING: u32 = 5;
/// Calls within [`SPAN_S`] from which their share of failures counts.
const CALLS: u32 = 20;
const SPAN_S: i64 = 30;
/// An outage that is younger than this many `open_min` is probed every `open_min`: 2 minutes, as the defaults are, so
/// that calls flow 5 s after a short outage is over. A longer one is probed at doubling distances.
const YOUNG: i64 = 24;

/// `[textus] breaker`.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFor {
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
}

/// Kept in the store, where several processes share a destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Breaker {
    running: u32,
    /// Calls and failures per second, the newest last.
    seconds: Vec<(i64, u32, u32)>,
    open: Option<Open>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    since_ms: i64,
    for_ms: i64,
    /// When it opened, or the last probe was sent. One that hangs is not waited for: the next is due all the same.
    last_ms: i64,
    /// That probe has not failed yet.
    is_probed: bool,
}

impl Open {
    fn due_ms(&self) -> i64 {
        self.last_ms + self.for_ms
    }
}

/// What calls may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Free,
    /// One call, to see whether it is over.
    Probe,
    Held {
        until_ms: i64,
    },
}

impl Breaker {
    /// Asks to make a call now; takes the probe where one is due.
    pub(super) fn way(&mut self, now_ms: i64) -> Way {
        let Some(open) = &mut self.open else { return Way::Free };
        if now_ms < open.due_ms() {
            return Way::Held { until_ms: open.due_ms() };
        }
        open.last_ms = now_ms;
        open.is_probed = true;
        Way::Probe
    }

    /// When a call may be made; `None`: now.
    pub(super) fn held_until(&self, now_ms: i64) -> Option<i64> {
        self.open.as_ref().map(Open::due_ms).filter(|due| *due > now_ms)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A call was answered by something that works.
    pub(super) fn worked(&mut self, now_ms: i64) {
        self.running = 0;
        if self.open.take().is_some() {
            self.seconds.clear();
        }
        self.count(now_ms, 0);
    }

    /// A call failed: 5xx, time-out, no connection.
    pub(super) fn failed(&mut self, now_ms: i64, is_probe: bool, open_for: OpenFor) {
        self.running = self.running.saturating_add(1);
        if let Some(open) = &mut self.open {
            if is_probe && open.is_probed {
                open.is_probed = false;
                let is_young = now_ms - open.since_ms < open_for.min_ms.saturating_mul(YOUNG);
                open.for_ms = if is_young { open_for.min_ms } else { (open.for_ms * 2).min(open_for.max_ms) };
            }
            return;
        }
        self.count(now_ms, 1);
        let (calls, failures) = self.recent(now_ms);
        if self.running < RUNNING && (calls < CALLS || failures * 2 < calls) {
            return;
        }
        self.seconds.clear();
        self.open = Some(Open { since_ms: now_ms, for_ms: open_for.min_ms, last_ms: now_ms, is_probed: false });
    }

    fn count(&mut self, now_ms: i64, failures: u32) {
        let second = now_ms.div_euclid(1000);
        self.seconds.retain(|(at, ..)| *at > second - SPAN_S);
        match self.seconds.last_mut() {
            Some((at, calls, failed)) if *at == second => {
                *calls += 1;
                *failed += failures;
            }
            _ => self.seconds.push((second, 1, failures)),
        }
    }

    fn recent(&self, now_ms: i64) -> (u32, u32) {
        let second = now_ms.div_euclid(1000);
        let recent = self.seconds.iter().filter(|(at, ..)| *at > second - SPAN_S);
        recent.fold((0, 0), |(calls, failures), (_, more, failed)| (calls + more, failures + failed))
    }
}
