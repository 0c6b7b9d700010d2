//! The calls of one process that wait for their turn, what was decided about each, and what this process has not told the
//! others yet.

use std::time::Duration;

use hookline_common::names::OperationClass;

use super::policy::{Call, Decision, Policy, Report, Wait, Why};
use super::{Gate, GateRules, PAUSED_LOOK, Priority, duration};

/// How soon a call asks again about which nothing was decided.
const LOOK_MS: i64 = 100;
/// How soon a consumer looks again whether there is room.
const NO_ROOM: Duration = Duration::from_millis(20);
/// Share of the time in hand within which deliveries that are taken have their turns.
const TAKEN_AHEAD: f64 = 0.25;
/// Older reports than so many say nothing any more.
const REPORTS_KEPT: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The policy or, where it is shared, the last copy with what happened here since.
    pub(super) policy: Policy,
    waiting: Vec<Waiting>,
    drawn: u64,
    /// Calls let through that have not ended.
    out: i64,
    /// Not told to the store yet.
    reports: Vec<Report>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    call: Call,
    decision: Option<Decision>,
}

impl Waiting {
    /// Whether its call is to be decided about (again).
    fn is_open(&self, now_ms: i64) -> bool {
        match &self.decision {
            None => true,
            Some(Decision::Go { .. }) => false,
            Some(Decision::Wait(wait)) => wait.until_ms.is_none_or(|until| until <= now_ms),
        }
    }
}

/// What a process tells the store and asks of it.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) reports: Vec<Report>,
    pub(super) out: i64,
    pub(super) waiting: Vec<(u64, Call)>,
}

impl Queue {
    /// Takes the call where it may be made now; `Ok(is_probe)`.
    pub(super) fn take(&mut self, now_ms: i64, ticket: &Ticket<'_>) -> Result<bool, Wait> {
        let look = || Wait { until_ms: Some(now_ms + LOOK_MS), why: Why::Turn };
        let place = self.waiting.iter().position(|waiting| waiting.number == ticket.number);
        let Some((place, waiting)) = place.map(|place| (place, &self.waiting[place])) else { return Err(look()) };
        match &waiting.decision {
            // A probe is what the breaker or the pause was opened for.
            Some(Decision::Go { is_probe }) if *is_probe && now_ms >= self.policy.closed_until_ms => {}
            Some(Decision::Wait(wait)) if !waiting.is_open(now_ms) => return Err(wait.clone()),
            decision => {
                if let Some(wait) = self.policy.holds(now_ms, ticket.call) {
                    return Err(wait);
                }
                if !matches!(decision, Some(Decision::Go { .. })) {
                    return Err(look());
                }
            }
        }
        let taken = self.waiting.remove(place);
        self.out += 1;
        Ok(matches!(taken.decision, Some(Decision::Go { is_probe: true })))
    }

    /// Decides about the calls that wait, where this process decides by itself. Returns how many it let through.
    pub(super) fn decide(&mut self, now_ms: i64, process: &str, rules: &GateRules) -> usize {
        let Exchange { out, waiting, .. } = self.exchange(now_ms);
        let decisions = self.policy.decide_all(now_ms, process, out, waiting, rules);
        let granted = decisions.iter().filter(|(_, decision)| matches!(decision, Decision::Go { .. })).count();
        self.decided(decisions);
        granted
    }

    /// What there is to tell and to ask. The reports stay until [`Queue::exchanged`].
    pub(super) fn exchange(&self, now_ms: i64) -> Exchange {
        let granted = self.waiting.iter().filter(|waiting| matches!(waiting.decision, Some(Decision::Go { .. })));
        let open = self.waiting.iter().filter(|waiting| waiting.is_open(now_ms));
        Exchange {
            reports: self.reports.clone(),
            out: self.out + i64::try_from(granted.count()).unwrap_or(i64::MAX),
            waiting: open.map(|waiting| (waiting.number, waiting.call)).collect(),
        }
    }

    /// The store knows `told` reports, and decided.
    pub(super) fn exchanged(
        &mut self,
        told: usize,
        policy: Policy,
        decisions: Vec<(u64, Decision)>,
        rules: &GateRules,
    ) {
        self.reports.drain(..told.min(self.reports.len()));
        self.follow(policy, rules);
        self.decided(decisions);
    }

    /// Takes over the policy that the store holds. What happened here since still counts.
    pub(super) fn follow(&mut self, policy: Policy, rules: &GateRules) {
        let (resumes, failing) = (self.policy.pause.resumes(), self.policy.failing().len());
        self.policy = policy;
        self.reports.iter().for_each(|report| self.policy.record(report, rules));
        if self.policy.pause.resumes() != resumes || self.policy.failing().len() < failing {
            self.ask_again();
        }
    }

    pub(super) fn tell(&mut self, report: Report, rules: &GateRules) {
        self.reports.push(report);
        let surplus = self.reports.len().saturating_sub(REPORTS_KEPT);
        self.reports.drain(..surplus);
        self.policy.record(&report, rules);
        // An answer may have made room, or closed the breaker.
        self.ask_again();
    }

    pub(super) fn forget_reports(&mut self) {
        self.reports.clear();
    }

    pub(super) fn ended(&mut self) {
        self.out -= 1;
    }

    fn decided(&mut self, decisions: Vec<(u64, Decision)>) {
        for (number, decision) in decisions {
            if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.number == number) {
                waiting.decision = Some(decision);
            }
        }
    }

    fn ask_again(&mut self) {
        self.waiting.retain_mut(|waiting| {
            waiting.decision.take_if(|decision| matches!(decision, Decision::Wait(_)));
            true
        });
    }

    /// How long not to take deliveries with these calls.
    pub(super) fn no_room_for(
        &self,
        now_ms: i64,
        priority: Priority,
        classes: &[OperationClass],
        rules: &GateRules,
    ) -> Option<Duration> {
        for class in classes {
            let call = Call::new(priority, *class);
            if let Some(wait) = self.policy.holds(now_ms, call) {
                return Some(wait.until_ms.map_or(PAUSED_LOOK, |until| duration(until - now_ms)));
            }
        }
        let ours = || self.waiting.iter().filter(|waiting| waiting.call.priority == priority);
        let decided = ours().filter_map(|waiting| match &waiting.decision {
            Some(Decision::Wait(wait)) if wait.why == Why::Turn => wait.until_ms,
            Some(_) | None => None,
        });
        if let Some(until_ms) = decided.max().filter(|until| *until > now_ms + rules.in_hand_ms) {
            return Some(duration(until_ms - now_ms));
        }
        let is_probing = classes.iter().any(|class| self.policy.probe_due_ms(*class).is_some());
        #[expect(clippy::cast_precision_loss, reason = "calls of a window and processes are few")]
        let room = match self.policy.rate_limit.quota() {
            // A probe is one call.
            _ if is_probing => 1.0,
            Some((limit, _)) => {
                let in_hand = rules.in_hand_ms as f64 / rules.window_ms.max(1) as f64 * TAKEN_AHEAD;
                (limit as f64 * in_hand / self.policy.processes() as f64).max(1.0)
            }
            None => return None,
        };
        #[expect(clippy::cast_precision_loss, reason = "calls that wait are few")]
        (ours().count() as f64 >= room).then_some(NO_ROOM)
    }
}

/// A place in the queue; left when it is dropped.
pub(super) struct Ticket<'a> {
    gate: &'a Gate,
    pub(super) call: Call,
    number: u64,
}

impl<'a> Ticket<'a> {
    pub(super) fn draw(gate: &'a Gate, call: Call) -> Self {
        let mut queue = gate.queue();
        queue.drawn += 1;
        let number = queue.drawn;
        queue.waiting.push(Waiting { number, call, decision: None });
        Self { gate, call, number }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut queue = self.gate.queue();
        let before = queue.waiting.len();
        queue.waiting.retain(|waiting| waiting.number != self.number);
        if queue.waiting.len() < before {
            drop(queue);
            self.gate.changed.notify_waiters();
        }
    }
}
