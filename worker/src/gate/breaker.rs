//! Holds the calls of one class of operation while they fail. It lets one probe through at a time, and a probe's
//! success lets all calls through at once. Pure: the caller passes the time, in milliseconds of one clock.

use serde::{Deserialize, Serialize};

use super::policy::Go;
use super::{GateRules, Priority};

/// Failures in a row that open the breaker, for users who have only ten events a day.
const FAILURES_IN_A_ROW: u32 = 5;
/// Fewest calls within the last 15 to 30 s for their share of failures to open the breaker.
const CALLS: u32 = 20;
const HALF_SPAN_MS: i64 = 15_000;
/// An outage younger than this many `open_min` (2 minutes by default) is probed every `open_min`, so that calls flow
/// five seconds after a short outage ends. For a longer outage, the time between probes doubles.
const YOUNG_OUTAGE: i64 = 24;
/// How long, in milliseconds, a due probe is kept for a waiting opt-out: a parked opt-out comes back through a delay
/// queue of up to 15 s.
const KEPT_FOR_OPT_OUT_MS: i64 = 20_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Breaker {
    failures_in_a_row: u32,
    /// Calls and failures of the current half of the span and of the half before.
    halves: [(u32, u32); 2],
    half: i64,
    open: Option<Open>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    since_ms: i64,
    for_ms: i64,
    /// When the breaker opened or the last probe was sent. The next probe is due even if that one hangs.
    last_ms: i64,
    /// The next probe is kept for an opt-out until then, because one waits.
    opt_out_until_ms: i64,
}

impl Open {
    fn due_ms(&self) -> i64 {
        self.last_ms + self.for_ms
    }
}

impl Breaker {
    /// Returns whether a call of this priority may be made now, without changing anything. While the breaker is open,
    /// such a call is a probe.
    ///
    /// # Errors
    /// The time until which the call is held.
    pub(super) fn look(&self, now_ms: i64, priority: Priority) -> Result<Go, i64> {
        let Some(open) = &self.open else { return Ok(Go { is_probe: false }) };
        let until_ms = match priority {
            Priority::OptOut => open.due_ms(),
            Priority::Contact | Priority::Note | Priority::BackFill => open.due_ms().max(open.opt_out_until_ms),
        };
        if now_ms < until_ms { Err(until_ms) } else { Ok(Go { is_probe: true }) }
    }

    /// Records that a probe is sent.
    pub(super) fn probe(&mut self, now_ms: i64) {
        if let Some(open) = &mut self.open {
            (open.last_ms, open.opt_out_until_ms) = (now_ms, 0);
        }
    }

    /// Records that an opt-out has to wait, and keeps the next probe for it.
    pub(super) fn opt_out_waits(&mut self) {
        if let Some(open) = &mut self.open {
            open.opt_out_until_ms = open.due_ms() + KEPT_FOR_OPT_OUT_MS;
        }
    }

    /// Returns when the next probe is due; `None` while all calls are let through.
    pub(super) fn probe_due_ms(&self) -> Option<i64> {
        self.open.as_ref().map(Open::due_ms)
    }

    /// Records an answer which shows that the destination works.
    pub(super) fn worked(&mut self, now_ms: i64) {
        self.failures_in_a_row = 0;
        if self.open.take().is_some() {
            self.halves = Default::default();
        }
        self.count(now_ms, 0);
    }

    /// Records a failed call: a status that is retried, a time-out or no connection.
    pub(super) fn failed(&mut self, now_ms: i64, is_probe: bool, rules: &GateRules) {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if let Some(open) = &mut self.open {
            if is_probe {
                let is_young = now_ms - open.since_ms < rules.open_min_ms.saturating_mul(YOUNG_OUTAGE);
                open.for_ms = if is_young { rules.open_min_ms } else { (open.for_ms * 2).min(rules.open_max_ms) };
            }
            return;
        }
        self.count(now_ms, 1);
        let [(calls, failures), (calls_before, failures_before)] = self.halves;
        let (calls, failures) = (calls + calls_before, failures + failures_before);
        if self.failures_in_a_row >= FAILURES_IN_A_ROW || (calls >= CALLS && failures * 2 >= calls) {
            self.halves = Default::default();
            let (for_ms, last_ms) = (rules.open_min_ms, now_ms);
            self.open = Some(Open { since_ms: now_ms, for_ms, last_ms, opt_out_until_ms: 0 });
        }
    }

    fn count(&mut self, now_ms: i64, failures: u32) {
        let half = now_ms.div_euclid(HALF_SPAN_MS);
        match half - self.half {
            0 => {}
            1 => self.halves = [(0, 0), self.halves[0]],
            _ => self.halves = Default::default(),
        }
        self.half = half;
        self.halves[0] = (self.halves[0].0 + 1, self.halves[0].1 + failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: GateRules = GateRules {
        open_min_ms: 5_000,
        open_max_ms: 300_000,
        reserve: 0.1,
        per_second: 0,
        searches: 0,
        window_ms: 300_000,
        is_rolling: false,
        probe_every_ms: 60_000,
        in_hand_ms: 8_000,
    };

    const FREE: Result<Go, i64> = Ok(Go { is_probe: false });
    const PROBE: Result<Go, i64> = Ok(Go { is_probe: true });

    fn opened_at(now_ms: i64) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_IN_A_ROW {
            assert_eq!(breaker.look(now_ms, Priority::Note), FREE);
            breaker.failed(now_ms, false, &RULES);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_or_half_of_twenty_calls_open_it() {
        assert_eq!(opened_at(1_000).look(1_000, Priority::OptOut), Err(6_000));

        let mut breaker = Breaker::default();
        for _ in 0..10 {
            breaker.worked(1_000);
            assert_eq!(breaker.look(1_000, Priority::Note), FREE);
            breaker.failed(1_000, false, &RULES);
        }
        assert_eq!(breaker.look(1_000, Priority::Note), Err(6_000));
    }

    #[test]
    fn one_probe_is_let_through_for_each_interval_and_its_success_closes_at_once() {
        let mut breaker = opened_at(0);
        assert_eq!(breaker.look(5_000, Priority::Note), PROBE);
        breaker.probe(5_000);
        assert_eq!(breaker.look(5_001, Priority::OptOut), Err(10_000));
        breaker.failed(5_100, true, &RULES);
        assert_eq!(breaker.look(9_999, Priority::Note), Err(10_000));

        breaker.probe(10_000);
        breaker.worked(10_050);
        assert_eq!(breaker.look(10_050, Priority::Note), FREE);
    }

    #[test]
    fn the_distance_of_probes_doubles_in_a_long_outage_up_to_its_bound() {
        let mut breaker = opened_at(0);
        let mut distances = Vec::new();
        let mut now_ms = 0;
        for _ in 0..40 {
            let until_ms = breaker.look(now_ms, Priority::Note).expect_err("open");
            distances.push(until_ms - now_ms);
            now_ms = until_ms;
            breaker.probe(now_ms);
            breaker.failed(now_ms, true, &RULES);
        }
        assert!(distances[..24].iter().all(|distance| *distance == 5_000), "{distances:?}");
        assert_eq!(&distances[24..30], [10_000, 20_000, 40_000, 80_000, 160_000, 300_000], "{distances:?}");
        assert_eq!(distances.last(), Some(&300_000));
    }

    #[test]
    fn a_waiting_opt_out_has_the_next_probe() {
        let mut breaker = opened_at(0);
        breaker.opt_out_waits();

        assert_eq!(breaker.look(5_000, Priority::Note), Err(25_000));
        assert_eq!(breaker.look(5_000, Priority::OptOut), PROBE);
        // The process that held the opt-out may have died.
        assert_eq!(breaker.look(25_000, Priority::Note), PROBE);
        breaker.probe(5_000);
        assert_eq!(breaker.look(10_000, Priority::Note), PROBE);
    }
}
