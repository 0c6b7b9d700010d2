//! Holds the calls of one process that wait for their turn, those that were let through, and the reports that the store
//! hasn't received yet.

use std::time::Duration;

use hookline_common::names::OperationClass;
use hookline_common::time::duration;

use super::policy::{Call, Exchange, Go, Policy, Report, Wait, Why};
use super::search_limit::{Search, SentBack, most_in_hand};
use super::{GateRules, PAUSED_LOOK, Priority};

/// Milliseconds until a call looks again while the store hasn't decided about it.
const LOOK_MS: i64 = 100;
/// How soon a consumer checks again for room.
const NO_ROOM: Duration = Duration::from_millis(20);
/// Divisor of the time in hand: a consumer takes deliveries whose turns come within a quarter of it.
const TAKEN_AHEAD: i64 = 4;
/// Most reports kept. Older ones no longer matter.
const REPORTS_KEPT: usize = 10_000;

#[derive(Debug)]
pub(super) struct Queue {
    /// Names this process among those that share the destination.
    process: String,
    pub(super) rules: GateRules,
    /// Whether to ask the store about calls when processes have something to agree on. Otherwise this process decides
    /// alone.
    pub(super) asks_store: bool,
    /// The store's policy as this process last saw it, plus what happened here since.
    pub(super) policy: Policy,
    waiting: Vec<Call>,
    sent_back: SentBack,
    /// Calls that the store let through and that have not begun.
    granted: Vec<(Call, Go)>,
    /// Calls that have begun and not ended.
    out: i64,
    /// Reports that the store hasn't received yet.
    reports: Vec<Report>,
}

impl Queue {
    pub(super) fn new(process: String, rules: GateRules) -> Self {
        Self {
            process,
            rules,
            asks_store: false,
            policy: Policy::default(),
            waiting: Vec::new(),
            sent_back: SentBack::default(),
            granted: Vec::new(),
            out: 0,
            reports: Vec::new(),
        }
    }

    /// Returns how long a search has to wait elsewhere, if there is no room for searches and as many as may wait in hand
    /// do so already.
    pub(super) fn sends_back(&mut self, now_ms: i64, call: Call) -> Option<Wait> {
        let is_first = |other: &Call| other.search == Some(Search::First) && other.priority == call.priority;
        let has_room = |call| self.policy.searches.has_room(now_ms, &self.process, call, self.rules.searches).is_ok();
        if !is_first(&call) || call.priority == Priority::OptOut || has_room(call) {
            return None;
        }
        let waiting = count(self.waiting.iter().filter(|call| is_first(call)).count());
        let processes = self.policy.processes();
        let is_full = waiting >= most_in_hand(processes, &self.rules);
        let returns_ms = is_full.then(|| self.sent_back.returns_ms(now_ms, waiting, processes, &self.rules));
        returns_ms.map(|at_ms| Wait { until_ms: Some(at_ms), why: Why::Turn })
    }

    /// Lets the call wait until [`Queue::leaves`].
    pub(super) fn waits(&mut self, call: Call) {
        self.waiting.push(call);
    }

    /// Ends the call's wait, whether or not the call was made.
    pub(super) fn leaves(&mut self, call: Call) {
        take_one(&mut self.waiting, |waiting| *waiting == call);
        // Drop a grant whose call is no longer made.
        let waiting = self.waiting.iter().filter(|waiting| **waiting == call).count();
        if self.granted.iter().filter(|(granted, _)| *granted == call).count() > waiting {
            take_one(&mut self.granted, |(granted, _)| *granted == call);
        }
    }

    /// Begins the call if it may be made now.
    pub(super) fn take(&mut self, now_ms: i64, call: Call) -> Result<Go, Wait> {
        let go = match self.granted.iter().find(|(granted, _)| *granted == call) {
            Some((_, go)) => self.still_goes(now_ms, call, *go)?,
            None => self.decide(now_ms, call)?,
        };
        take_one(&mut self.granted, |(granted, _)| *granted == call);
        self.out += 1;
        Ok(go)
    }

    /// Applies what happened since the store let a call through. A probe goes even where the breaker or a pause holds
    /// all other calls.
    fn still_goes(&self, now_ms: i64, call: Call, go: Go) -> Result<Go, Wait> {
        match self.policy.passes(now_ms, call) {
            Err(wait) if !go.is_probe || wait.why == Why::RateLimit => Err(wait),
            Ok(_) | Err(_) => Ok(go),
        }
    }

    fn decide(&mut self, now_ms: i64, call: Call) -> Result<Go, Wait> {
        self.policy.set_out(now_ms, &self.process, self.out);
        if !self.asks_store || self.policy.is_free(&self.rules) {
            return self.policy.decide_of(&self.process, now_ms, call, &self.rules);
        }
        // The store decides. This process only estimates how long the wait is.
        self.policy.clone().decide_of(&self.process, now_ms, call, &self.rules)?;
        Err(Wait { until_ms: Some(now_ms + LOOK_MS), why: Why::Turn })
    }

    /// Returns the reports and requests for the store; `None` if there are none. The reports stay until
    /// [`Queue::exchanged`].
    pub(super) fn exchange(&self) -> Option<Exchange> {
        let mut waiting = if self.policy.is_free(&self.rules) { Vec::new() } else { self.waiting.clone() };
        for (granted, _) in &self.granted {
            take_one(&mut waiting, |call| call == granted);
        }
        waiting.sort_by_key(|call| (call.priority as usize, call.search != Some(Search::Further)));
        // A place in the line of searches for which nobody waits any more holds others up.
        let is_in_line = self.policy.searches.has_in_line(&self.process);
        if self.reports.is_empty() && waiting.is_empty() && !is_in_line {
            return None;
        }
        let out = self.out + count(self.granted.len());
        Some(Exchange { process: self.process.clone(), rules: self.rules, reports: self.reports.clone(), out, waiting })
    }

    /// Drops the `told` reports that the store received, and adds the calls that it let through.
    pub(super) fn exchanged(&mut self, told: usize, policy: Policy, granted: Vec<(Call, Go)>) {
        self.reports.drain(..told.min(self.reports.len()));
        for (call, go) in granted {
            // A call that is no longer waited for must not be counted now and made by another one later.
            let of_kind = |calls: &mut dyn Iterator<Item = Call>| calls.filter(|other| *other == call).count();
            let begins = of_kind(&mut self.granted.iter().map(|(call, _)| *call));
            if begins < of_kind(&mut self.waiting.iter().copied()) {
                self.granted.push((call, go));
            }
        }
        self.follow(policy);
    }

    /// Takes over the store's policy. Reports that the store hasn't received still count.
    pub(super) fn follow(&mut self, policy: Policy) {
        // Each look takes the end of a pause for now until it is written down: what was sent since the first is not late.
        if policy.pause.is_flowing() && !self.policy.pause.is_flowing() {
            self.reports.push(Report::Resumed(policy.pause.resumed_ms));
        }
        self.policy = policy;
        self.reports.iter().for_each(|report| self.policy.record(report, &self.rules));
    }

    pub(super) fn record(&mut self, report: Report) {
        self.reports.push(report);
        let surplus = self.reports.len().saturating_sub(REPORTS_KEPT);
        self.reports.drain(..surplus);
        self.policy.record(&report, &self.rules);
    }

    pub(super) fn in_flight(&self) -> i64 {
        self.out + self.policy.out_of_others(&self.process)
    }

    pub(super) fn ended(&mut self) {
        self.out -= 1;
    }

    /// Returns how long a consumer should not take deliveries with these calls.
    pub(super) fn no_room_for(&self, now_ms: i64, priority: Priority, classes: &[OperationClass]) -> Option<Duration> {
        let mut policy = self.policy.clone();
        for class in classes {
            let Err(wait) = policy.decide(now_ms, Call::new(priority, *class), &self.rules) else { continue };
            let is_long = wait.until_ms.is_none_or(|until| until > now_ms + self.rules.in_hand_ms);
            if wait.why != Why::Turn || is_long {
                return Some(wait.until_ms.map_or(PAUSED_LOOK, |until| duration(until - now_ms)));
            }
        }
        let is_probing = classes.iter().any(|class| self.policy.probe_due_ms(*class).is_some());
        let per_second = i64::from(self.rules.per_second);
        let in_hand = match self.policy.rate_limit.quota() {
            Some((limit, _)) => limit * self.rules.in_hand_ms / self.rules.window_ms.max(1),
            None if per_second > 0 || is_probing => per_second * self.rules.in_hand_ms / 1_000,
            None => return None,
        };
        // A probe is one call.
        let room = if is_probing { 1 } else { in_hand / self.policy.processes() / TAKEN_AHEAD };
        let waiting = self.waiting.iter().filter(|call| call.priority == priority).count();
        (count(waiting) >= room.max(1)).then_some(NO_ROOM)
    }
}

/// Removes one matching item; equal items are interchangeable.
fn take_one<T>(all: &mut Vec<T>, is_it: impl Fn(&T) -> bool) {
    if let Some(place) = all.iter().position(is_it) {
        all.swap_remove(place);
    }
}

fn count(calls: usize) -> i64 {
    i64::try_from(calls).unwrap_or(i64::MAX)
}
