//! Decides whether a call to a destination may be made now. It checks the pause, `Retry-After`, the breaker and the
//! quota, in this order. All workers share one policy for each destination and credential. [`Policy::decide`] answers
//! `Go` or `Wait`, and [`Policy::record`] takes in answers. Pure except for the jitter of one back-off: the caller
//! passes the time, in milliseconds of one clock.

use std::collections::BTreeMap;

use hookline_common::names::{Operation, OperationClass};
use serde::{Deserialize, Serialize};

use super::breaker::Breaker;
use super::pause::Pause;
use super::rate_limit::RateLimit;
use super::search_limit::{Search, SearchLimit};
use super::{GateRules, Meaning, Priority};
use crate::destinations::limits::WindowSeen;
use crate::destinations::standing::Standing;

/// A process silent for this long counts as dead, with no calls in flight.
const SILENT_MS: i64 = 30_000;
/// When contacts and notes both wait, one call in this many is a note's.
const NOTES_TURN: u32 = 4;
/// Milliseconds within which a call that waits for quota asks again. A call that doesn't has stopped waiting.
const TURN_MS: i64 = 250;
/// First and longest wait in milliseconds if `Retry-After` is absent. The vendor advises 1, 2, 4, 8 s and so on
/// (<https://apidocs.next.textus.com/overview/rate_limiting>).
const BACKOFF_FIRST_MS: i64 = 1_000;
const BACKOFF_MAX_MS: i64 = 60_000;
/// Largest fraction of a back-off that is added at random, so that several processes don't come back together.
const JITTER: f64 = 0.25;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Policy {
    pub(super) pause: Pause,
    /// Set by `Retry-After`.
    pub(super) closed_until_ms: i64,
    breakers: [Breaker; 3],
    pub(super) rate_limit: RateLimit,
    pub(super) searches: SearchLimit,
    /// When the last 429 that counts arrived. A 429 to a call that was sent before then doesn't count.
    pub(super) refused_ms: i64,
    /// 429s that count since the last call that went through.
    refusals_in_a_row: u32,
    pub(super) last_success_ms: Option<i64>,
    /// Each process's calls in flight, and when the process reported them.
    out: BTreeMap<String, (i64, i64)>,
    /// Until when a call of each priority is known to wait for quota. Nobody waits behind a back-fill, so it has no place
    /// here.
    waits_until_ms: [i64; 3],
    contacts_since_note: u32,
    /// When this state was written. If that is in the future, a clock was set back and the whole state is worthless.
    pub(super) written_ms: i64,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) priority: Priority,
    pub(super) class: OperationClass,
    /// `None` for any other call.
    pub(super) search: Option<Search>,
    /// Whether this is the call that tells if the credentials are valid.
    pub(super) checks_credentials: bool,
    /// The outcome of such a call says nothing about other calls, and theirs say nothing about it.
    pub(super) stands_alone: bool,
}

/// The call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Go {
    /// Whether the call tests if the destination works again.
    pub(super) is_probe: bool,
}

/// The call may not be made yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// `None` if the end isn't known; the caller looks again.
    pub(super) until_ms: Option<i64>,
    pub(super) why: Why,
}

/// Why calls are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    Paused(String),
    RateLimit,
    Failing(OperationClass),
    Turn,
}

/// What one process reports to all others and asks of the policy.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// Names the process.
    pub(super) process: String,
    pub(super) rules: GateRules,
    pub(super) reports: Vec<Report>,
    /// The process's calls that were let through and have not ended.
    pub(super) out: i64,
    pub(super) waiting: Vec<Call>,
}

/// Something that a process reports.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    Answer(Answer),
    /// The result of the credential check.
    Check {
        at_ms: i64,
        result: CheckResult,
    },
    /// An opt-out waits for calls of this class, which fail. The next probe is kept for it.
    OptOutWaits(OperationClass),
    /// Why no call may be made until a person has looked, by the answer to a call that was sent at that time.
    Stop(i64, &'static str),
    /// A process saw by this time that a pause had ended.
    Resumed(i64),
}

/// The result of the credential check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    Accepted,
    /// By this status.
    Refused(u16),
    Nothing,
    /// There are other credentials, which must be checked.
    Changed,
}

/// How one call ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) call: Call,
    pub(super) at_ms: i64,
    pub(super) sent_ms: i64,
    pub(super) meaning: Meaning,
    pub(super) window: Option<WindowSeen>,
    /// The wait that `Retry-After` asks for.
    pub(super) wait_ms: Option<i64>,
    pub(super) is_probe: bool,
}

impl Call {
    pub(super) const OPT_OUT_WRITE: Self = Self::new(Priority::OptOut, OperationClass::OptOutWrites);

    pub(super) const fn new(priority: Priority, class: OperationClass) -> Self {
        Self { priority, class, search: None, checks_credentials: false, stands_alone: false }
    }

    pub(super) fn of(priority: Priority, operation: Operation, class: OperationClass) -> Self {
        // A token that is asked for tells the same, and no other call can be made without it.
        let checks_credentials = matches!(operation, Operation::CheckToken | Operation::GetToken);
        let priority = if checks_credentials { Priority::OptOut } else { priority };
        Self { checks_credentials, stands_alone: operation.stands_alone(), ..Self::new(priority, class) }
    }
}

impl Policy {
    /// Takes in a process's reports and returns those of its waiting calls that may be made.
    pub(super) fn exchange(&mut self, now_ms: i64, asked: &Exchange) -> Vec<(Call, Go)> {
        let Exchange { process, rules, reports, mut out, mut waiting } = asked.clone();
        reports.iter().for_each(|report| self.record(report, &rules));
        self.out.retain(|_, (_, said_ms)| now_ms - *said_ms < SILENT_MS);
        self.set_out(now_ms, &process, out);
        let mut granted = Vec::new();
        self.searches.line_up(now_ms, &process, &waiting);
        for call in &waiting {
            if self.searches.has_room(now_ms, &process, *call, rules.searches).is_ok()
                && let Some(waits_until_ms) = self.waits_until_ms.get_mut(call.priority as usize)
            {
                *waits_until_ms = (*waits_until_ms).max(now_ms + TURN_MS * 2);
            }
        }
        // Contacts and notes take turns: a call let through in one round may free the turn for another, so repeat until
        // none goes.
        loop {
            let before = waiting.len();
            waiting.retain(|call| {
                let Ok(go) = self.decide_of(&process, now_ms, *call, &rules) else { return true };
                out += 1;
                self.set_out(now_ms, &process, out);
                granted.push((*call, go));
                false
            });
            if waiting.len() == before {
                self.searches.line_up(now_ms, &process, &waiting);
                return granted;
            }
        }
    }

    /// Returns whether one call that is no search may be made now, whatever process makes it. See [`Self::decide_of`].
    pub(super) fn decide(&mut self, now_ms: i64, call: Call, rules: &GateRules) -> Result<Go, Wait> {
        self.decide_of("", now_ms, call, rules)
    }

    /// Returns whether a process may make one call now. If so, it takes the quota and the probe that the call needs.
    pub(super) fn decide_of(&mut self, process: &str, now_ms: i64, call: Call, rules: &GateRules) -> Result<Go, Wait> {
        let go = self.passes(now_ms, call).inspect_err(|wait| {
            let is_failing = matches!(wait.why, Why::Failing(_));
            if is_failing && call.priority == Priority::OptOut {
                self.breakers[call.class.index()].opt_out_waits();
            }
            if is_failing && call.checks_credentials {
                self.pause.check_found_nothing(now_ms, rules.probe_every_ms);
            }
        })?;
        // A search that waits for other searches holds no other call up.
        let room = self.searches.has_room(now_ms, process, call, rules.searches);
        room.map_err(|again_ms| Wait { until_ms: Some(again_ms), why: Why::Turn })?;
        let out = self.out.values().map(|(calls, _)| calls).sum();
        let taken = match self.is_anothers_turn(now_ms, call.priority) {
            true => Err(now_ms + TURN_MS),
            false => self.rate_limit.take(now_ms, out, call.priority, rules),
        };
        if let Err(again_ms) = taken {
            if let Some(waits_until_ms) = self.waits_until_ms.get_mut(call.priority as usize) {
                *waits_until_ms = again_ms.max(now_ms) + TURN_MS * 2;
            }
            return Err(Wait { until_ms: Some(again_ms), why: Why::Turn });
        }
        if call.search.is_some() {
            self.searches.count(now_ms, process);
        }
        match call.priority {
            Priority::Note => self.contacts_since_note = 0,
            Priority::Contact => self.contacts_since_note = self.contacts_since_note.saturating_add(1),
            Priority::OptOut | Priority::BackFill => {}
        }
        if let Some(waits_until_ms) = self.waits_until_ms.get_mut(call.priority as usize) {
            *waits_until_ms = 0;
        }
        if !call.stands_alone {
            self.breakers[call.class.index()].probe(now_ms);
            self.pause.probe(now_ms, call, rules.probe_every_ms);
        }
        Ok(go)
    }

    /// While an opt-out waits for quota, no other call is made. Waiting contacts go before notes, except every fourth
    /// call. A back-fill goes when nothing else waits.
    fn is_anothers_turn(&self, now_ms: i64, priority: Priority) -> bool {
        let waits = |priority: Priority| self.waits_until_ms[priority as usize] > now_ms;
        let is_notes_turn = self.contacts_since_note + 1 >= NOTES_TURN;
        match priority {
            Priority::OptOut => false,
            Priority::Contact => waits(Priority::OptOut) || (is_notes_turn && waits(Priority::Note)),
            Priority::Note => waits(Priority::OptOut) || (!is_notes_turn && waits(Priority::Contact)),
            Priority::BackFill => waits(Priority::OptOut) || waits(Priority::Contact) || waits(Priority::Note),
        }
    }

    pub(super) fn set_out(&mut self, now_ms: i64, process: &str, out: i64) {
        self.out.insert(process.to_owned(), (out, now_ms));
    }

    pub(super) fn out_of_others(&self, process: &str) -> i64 {
        self.out.iter().filter(|(name, _)| *name != process).map(|(_, (calls, _))| calls).sum()
    }

    /// Returns whether a call may be made now, apart from the quota. Changes nothing.
    pub(super) fn passes(&self, now_ms: i64, call: Call) -> Result<Go, Wait> {
        self.pause.passes(now_ms, call)?;
        if now_ms < self.closed_until_ms {
            return Err(Wait { until_ms: Some(self.closed_until_ms), why: Why::RateLimit });
        }
        if call.stands_alone {
            return Ok(Go { is_probe: false });
        }
        let go = self.breakers[call.class.index()]
            .look(now_ms, call.priority)
            .map_err(|until_ms| Wait { until_ms: Some(until_ms), why: Why::Failing(call.class) })?;
        Ok(Go { is_probe: go.is_probe || !self.pause.is_flowing() })
    }

    pub(super) fn record(&mut self, report: &Report, rules: &GateRules) {
        let every_ms = rules.probe_every_ms;
        match *report {
            Report::Answer(answer) => self.answered(&answer, rules),
            Report::OptOutWaits(class) => self.breakers[class.index()].opt_out_waits(),
            Report::Stop(sent_ms, reason) => self.pause.stop(sent_ms, reason),
            Report::Resumed(at_ms) => self.pause.resumed_ms = self.pause.resumed_ms.min(at_ms),
            Report::Check { at_ms, result: CheckResult::Accepted } => self.pause.accepted(at_ms),
            Report::Check { at_ms, result: CheckResult::Refused(status) } => {
                self.pause.refused(at_ms, at_ms, every_ms, status)
            }
            Report::Check { at_ms, result: CheckResult::Nothing } => self.pause.check_found_nothing(at_ms, every_ms),
            Report::Check { at_ms, result: CheckResult::Changed } => {
                self.last_success_ms = None;
                self.pause.check_now(at_ms);
            }
        }
    }

    fn answered(&mut self, answer: &Answer, rules: &GateRules) {
        let Answer { call, at_ms, sent_ms, meaning, is_probe, .. } = *answer;
        if meaning != Meaning::NoAnswer {
            self.rate_limit.answered(answer, rules);
        }
        let breaker = &mut self.breakers[call.class.index()];
        match meaning {
            // The breaker doesn't count a 429: `Retry-After` says when to come back.
            Meaning::TooMany => self.too_many(answer),
            _ if call.stands_alone => {}
            Meaning::Failed | Meaning::NoAnswer => breaker.failed(at_ms, is_probe, rules),
            Meaning::Forbidden => breaker.worked(at_ms),
            Meaning::Refused => {
                breaker.worked(at_ms);
                self.pause.refused(sent_ms, at_ms, rules.probe_every_ms, 401);
            }
            Meaning::Success | Meaning::Worked => {
                breaker.worked(at_ms);
                if sent_ms > self.refused_ms {
                    self.refusals_in_a_row = 0;
                }
                if is_probe {
                    // From when it was sent: what this answer itself shows about the other world still counts.
                    self.pause.accepted(sent_ms);
                }
                if meaning == Meaning::Success {
                    self.last_success_ms = self.last_success_ms.max(Some(at_ms));
                }
            }
        }
    }

    fn too_many(&mut self, answer: &Answer) {
        // Calls in flight when the first 429 came all get one. Only the first counts.
        if answer.sent_ms > self.refused_ms {
            self.refused_ms = answer.at_ms;
            self.refusals_in_a_row = self.refusals_in_a_row.saturating_add(1);
        }
        // `Retry-After` is the destination's answer to this very call; the window's end is second best.
        let spent = answer.window.filter(|window| window.remaining <= 0 && window.lasts_ms > 0);
        let asked_ms = answer.wait_ms.or(spent.map(|window| window.lasts_ms));
        let wait_ms = asked_ms.unwrap_or_else(|| backoff_ms(self.refusals_in_a_row));
        self.closed_until_ms = self.closed_until_ms.max(answer.at_ms + wait_ms);
    }

    /// Returns when the breaker of a class is probed next; `None` while it lets all calls through.
    pub(super) fn probe_due_ms(&self, class: OperationClass) -> Option<i64> {
        self.breakers[class.index()].probe_due_ms()
    }

    /// Returns the classes whose breaker is open.
    pub(super) fn failing(&self) -> Vec<OperationClass> {
        OperationClass::ALL.iter().copied().filter(|class| self.probe_due_ms(*class).is_some()).collect()
    }

    pub(super) fn standing(&self) -> Standing {
        let failing = self.failing();
        Standing {
            pause: self.pause.reason().map(str::to_owned),
            closed_until_ms: self.closed_until_ms,
            probe_due_ms: failing.iter().filter_map(|class| self.probe_due_ms(*class)).min(),
            failing,
        }
    }

    /// Returns how many processes have reported lately, at least 1.
    pub(super) fn processes(&self) -> i64 {
        i64::try_from(self.out.len()).unwrap_or(i64::MAX).max(1)
    }

    /// Returns whether nothing holds or limits calls, so that processes have nothing to agree on before a call.
    pub(super) fn is_free(&self, rules: &GateRules) -> bool {
        let has_limits = rules.per_second > 0 || rules.searches > 0;
        !has_limits && self.rate_limit.is_unlimited() && self.pause.is_flowing() && self.failing().is_empty()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a minute at most")]
fn backoff_ms(refusals_in_a_row: u32) -> i64 {
    let doublings = refusals_in_a_row.saturating_sub(1).min(16);
    let wait_ms = BACKOFF_FIRST_MS.saturating_mul(2_i64.pow(doublings)).min(BACKOFF_MAX_MS);
    ((wait_ms as f64 * (1.0 + JITTER * rand::random::<f64>())) as i64).min(BACKOFF_MAX_MS)
}

#[cfg(test)]
mod tests;
