//! The calls of one process that wait for their turn, those that were let through, and what this process has not told the
//! others yet.

use std::time::Duration;

use hookline_common::names::OperationClass;

use super::policy::{Call, Decision, Policy, Report, Wait, Why};
use super::{Gate, GateRules, PAUSED_LOOK, Priority, duration};

/// How soon a call looks again about which the store has not decided.
const LOOK_MS: i64 = 100;
/// How soon a consumer looks again whether there is room.
const NO_ROOM: Duration = Duration::from_millis(20);
/// Deliveries are taken whose turns are within this part of the time in hand: 4 is a quarter.
const TAKEN_AHEAD: i64 = 4;
/// Older reports than so many say nothing any more.
const REPORTS_KEPT: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The store's policy as this process saw it last, with what happened here since.
    pub(super) policy: Policy,
    waiting: Vec<Call>,
    /// Let through by the store, and whether each is a probe.
    granted: Vec<(Call, bool)>,
    /// Calls begun that have not ended.
    out: i64,
    /// Not told to the store yet.
    reports: Vec<Report>,
}

/// What a process tells the store and asks of it.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) reports: Vec<Report>,
    pub(super) out: i64,
    pub(super) waiting: Vec<Call>,
}

impl Queue {
    /// Begins the call where it may be made now; `Ok(is_probe)`. `asks_store`: where processes have something to share, the
    /// store decides, and this process only estimates how long that takes.
    pub(super) fn take(
        &mut self,
        now_ms: i64,
        process: &str,
        call: Call,
        asks_store: bool,
        rules: &GateRules,
    ) -> Result<bool, Wait> {
        let holds = self.policy.holds(now_ms, call);
        if let Some(place) = self.granted.iter().position(|(granted, _)| *granted == call) {
            // A probe goes where breaker and pause hold all others.
            let is_probe = self.granted[place].1;
            return match holds.filter(|wait| !is_probe || wait.why == Why::RateLimit) {
                Some(wait) => Err(wait),
                None => {
                    self.granted.swap_remove(place);
                    self.out += 1;
                    Ok(is_probe)
                }
            };
        }
        let is_stores = asks_store && !self.policy.is_free();
        self.policy.set_out(now_ms, process, self.out);
        let decision = match is_stores {
            true => self.policy.clone().decide(now_ms, call, rules),
            false => self.policy.decide(now_ms, call, rules),
        };
        match decision {
            Decision::Wait(wait) => Err(wait),
            Decision::Go { .. } if is_stores => Err(Wait { until_ms: Some(now_ms + LOOK_MS), why: Why::Turn }),
            Decision::Go { is_probe } => {
                self.out += 1;
                Ok(is_probe)
            }
        }
    }

    /// What there is to tell and to ask; `None`: nothing. The reports stay until [`Queue::exchanged`].
    pub(super) fn exchange(&self) -> Option<Exchange> {
        let mut waiting = if self.policy.is_free() { Vec::new() } else { self.waiting.clone() };
        for (granted, _) in &self.granted {
            waiting.iter().position(|call| call == granted).map(|place| waiting.swap_remove(place));
        }
        waiting.sort_by_key(|call| call.priority as usize);
        let out = self.out + i64::try_from(self.granted.len()).unwrap_or(i64::MAX);
        let is_something = !self.reports.is_empty() || !waiting.is_empty();
        is_something.then(|| Exchange { reports: self.reports.clone(), out, waiting })
    }

    /// The store knows `told` reports, and let calls through.
    pub(super) fn exchanged(&mut self, told: usize, policy: Policy, granted: Vec<(Call, bool)>, rules: &GateRules) {
        self.reports.drain(..told.min(self.reports.len()));
        self.granted.extend(granted);
        self.follow(policy, rules);
    }

    /// Takes over the policy that the store holds. What happened here since still counts.
    pub(super) fn follow(&mut self, policy: Policy, rules: &GateRules) {
        self.policy = policy;
        self.reports.iter().for_each(|report| self.policy.record(report, rules));
    }

    pub(super) fn tell(&mut self, report: Report, rules: &GateRules) {
        self.reports.push(report);
        let surplus = self.reports.len().saturating_sub(REPORTS_KEPT);
        self.reports.drain(..surplus);
        self.policy.record(&report, rules);
    }

    pub(super) fn ended(&mut self) {
        self.out -= 1;
    }

    /// How long not to take deliveries with these calls.
    pub(super) fn no_room_for(
        &self,
        now_ms: i64,
        priority: Priority,
        classes: &[OperationClass],
        rules: &GateRules,
    ) -> Option<Duration> {
        let mut policy = self.policy.clone();
        for class in classes {
            let Decision::Wait(wait) = policy.decide(now_ms, Call::new(priority, *class), rules) else { continue };
            let is_soon = wait.until_ms.is_some_and(|until| until <= now_ms + rules.in_hand_ms);
            if wait.why != Why::Turn || !is_soon {
                return Some(wait.until_ms.map_or(PAUSED_LOOK, |until| duration(until - now_ms)));
            }
        }
        let is_probing = classes.iter().any(|class| self.policy.probe_due_ms(*class).is_some());
        let room = match self.policy.rate_limit.quota() {
            // A probe is one call.
            _ if is_probing => 1,
            Some((limit, _)) => {
                limit * rules.in_hand_ms / rules.window_ms.max(1) / self.policy.processes() / TAKEN_AHEAD
            }
            None => return None,
        };
        let waiting = self.waiting.iter().filter(|call| call.priority == priority).count();
        (i64::try_from(waiting).unwrap_or(i64::MAX) >= room.max(1)).then_some(NO_ROOM)
    }
}

/// A place among the calls that wait; left when it is dropped.
pub(super) struct Ticket<'a> {
    gate: &'a Gate,
    pub(super) call: Call,
}

impl<'a> Ticket<'a> {
    pub(super) fn draw(gate: &'a Gate, call: Call) -> Self {
        gate.queue().waiting.push(call);
        Self { gate, call }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut queue = self.gate.queue();
        let call = self.call;
        queue.waiting.iter().position(|waiting| *waiting == call).map(|place| queue.waiting.swap_remove(place));
        // What was granted to a call that is not made any more is nobody's.
        let waiting = queue.waiting.iter().filter(|waiting| **waiting == call).count();
        let granted = queue.granted.iter().filter(|(granted, _)| *granted == call).count();
        if granted > waiting {
            queue
                .granted
                .iter()
                .position(|(granted, _)| *granted == call)
                .map(|place| queue.granted.swap_remove(place));
        }
    }
}
