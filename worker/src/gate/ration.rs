//! What all workers know of one destination: its budget, its breaker, and who has calls out. Kept in memory where one
//! process does all, otherwise in the store, changed under its row's lock (design.md section 6). Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use hookline_common::settings::TextUsSettings;
use serde::{Deserialize, Serialize};

use super::Priority;
use super::breaker::{Breaker, OpenFor, Way};
use super::budget::{Budget, Given, Told};

/// A process that says nothing for so long has no calls out any more: it died.
const SILENT_MS: i64 = 30_000;

/// Limits and shares that the configuration sets.
#[derive(Clone, Copy, Debug)]
pub struct Pacing {
    reserve: f64,
    open_for: OpenFor,
    /// How long a call's turn is waited for in hand. No longer than a call may take: a claim's lease, of three such
    /// times and more, has to outlast two waits and the call.
    pub(super) in_hand: Duration,
}

/// Longer waits are for the queue, whatever a call may take.
const IN_HAND_MAX: Duration = Duration::from_secs(8);

impl Pacing {
    #[must_use]
    pub fn of(settings: &TextUsSettings) -> Self {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let open_for = OpenFor { min_ms: ms(settings.breaker.open_min), max_ms: ms(settings.breaker.open_max) };
        Self { reserve: settings.opt_out_reserve, open_for, in_hand: settings.timeout.min(IN_HAND_MAX) }
    }

    pub(super) fn open_min(self) -> Duration {
        Duration::from_millis(u64::try_from(self.open_for.min_ms).unwrap_or(0))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ration {
    budget: Budget,
    breaker: Breaker,
    out: BTreeMap<String, Out>,
    /// Contacts that were given a call since a note was.
    contacts_since_note: u32,
}

/// Of so many calls that contacts and notes both wait for, one is a note's.
const NOTES_TURN: u32 = 4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Out {
    calls: i64,
    seen_ms: i64,
}

/// How one call ended, as the ration counts it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// An answer of something that works.
    Worked(Told),
    /// An answer that says that it does not work: 5xx.
    Failed { told: Told, is_probe: bool },
    /// None at all.
    Silent { at_ms: i64, is_probe: bool },
}

impl End {
    /// On another clock, which is `by` ahead of this one.
    pub(super) fn shifted(self, by: i64) -> Self {
        let told = |told: Told| Told { at_ms: told.at_ms + by, sent_ms: told.sent_ms + by, ..told };
        match self {
            Self::Worked(of) => Self::Worked(told(of)),
            Self::Failed { told: of, is_probe } => Self::Failed { told: told(of), is_probe },
            Self::Silent { at_ms, is_probe } => Self::Silent { at_ms: at_ms + by, is_probe },
        }
    }
}

/// What one process tells and asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Ask {
    pub(super) ended: Vec<End>,
    /// Calls that it was given and that have not ended, before what it asks for now.
    pub(super) out: i64,
    /// Opt-outs, contacts, notes.
    pub(super) wants: [i64; 3],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reply {
    pub(super) calls: [i64; 3],
    /// The one call given is a probe of the breaker.
    pub(super) is_probe: bool,
    /// When to ask again for what was not given.
    pub(super) again_ms: i64,
    pub(super) view: View,
}

/// What everybody may know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct View {
    /// The breaker is open.
    pub(super) is_open: bool,
    /// When it is probed next; `None`: now.
    pub(super) probed_ms: Option<i64>,
    pub(super) knows_length: bool,
    pub(super) per_second: Option<f64>,
    /// Calls that may be held in advance.
    pub(super) spare: i64,
    /// Processes with calls out.
    pub(super) askers: usize,
}

impl Ration {
    pub(super) fn exchange(&mut self, now_ms: i64, who: &str, ask: &Ask, pacing: Pacing) -> Reply {
        let mut reply = Reply { again_ms: now_ms + 1000, ..Reply::default() };
        for end in &ask.ended {
            self.ended(*end, pacing);
        }
        self.out.retain(|_, out| now_ms - out.seen_ms < SILENT_MS);
        self.set_out(now_ms, who, ask.out);
        self.give(now_ms, ask, pacing, &mut reply);
        self.set_out(now_ms, who, ask.out + reply.calls.iter().sum::<i64>());
        reply.view = self.view(now_ms);
        reply
    }

    pub(super) fn view(&self, now_ms: i64) -> View {
        View {
            is_open: self.breaker.is_open(),
            probed_ms: self.breaker.held_until(now_ms),
            knows_length: self.budget.knows_length(),
            per_second: self.budget.per_second(),
            spare: self.budget.spare(self.all_out()) / i64::try_from(self.out.len().max(1)).unwrap_or(1),
            askers: self.out.len(),
        }
    }

    /// When a call may be made, where it may not be made now.
    pub(super) fn held_until(&self, now_ms: i64, priority: Priority, pacing: Pacing) -> Option<i64> {
        if let Some(until) = self.breaker.held_until(now_ms) {
            return Some(until);
        }
        let given = self.budget.look(now_ms, self.all_out(), priority, pacing.reserve);
        (given.calls == 0).then_some(given.again_ms)
    }

    fn all_out(&self) -> i64 {
        self.out.values().map(|out| out.calls).sum()
    }

    fn give(&mut self, now_ms: i64, ask: &Ask, pacing: Pacing, reply: &mut Reply) {
        let Some(first) = ask.wants.iter().position(|want| *want > 0) else { return };
        match self.breaker.way(now_ms) {
            Way::Free => {}
            Way::Held { until_ms } => {
                reply.again_ms = until_ms;
                return;
            }
            Way::Probe => {
                // Whatever the budget says: it is one call.
                reply.calls[first] = 1;
                reply.is_probe = true;
                reply.again_ms = now_ms + 20;
                return;
            }
        }
        let mut wants = ask.wants;
        while let Some((priority, want)) = self.next(wants) {
            let out = self.all_out() + reply.calls.iter().sum::<i64>();
            let Given { calls, again_ms } = self.budget.take(now_ms, out, priority, want, pacing.reserve);
            reply.calls[priority.index()] += calls;
            wants[priority.index()] -= calls;
            self.count(priority, calls);
            if calls < want {
                // What is left is for nobody who comes after it either.
                reply.again_ms = again_ms;
                return;
            }
        }
    }

    /// Whose turn it is, and how many calls that is for.
    pub(super) fn next(&self, wants: [i64; 3]) -> Option<(Priority, i64)> {
        let [opt_outs, contacts, notes] = wants;
        match (opt_outs, contacts, notes) {
            (1.., _, _) => Some((Priority::OptOut, opt_outs)),
            (_, 1.., 1..) if self.contacts_since_note + 1 >= NOTES_TURN => Some((Priority::Note, 1)),
            (_, 1.., 1..) => Some((Priority::Contact, 1)),
            (_, 1.., _) => Some((Priority::Contact, contacts)),
            (_, _, 1..) => Some((Priority::Note, notes)),
            _ => None,
        }
    }

    fn count(&mut self, priority: Priority, calls: i64) {
        match priority {
            Priority::Note if calls > 0 => self.contacts_since_note = 0,
            Priority::Contact => {
                self.contacts_since_note = self.contacts_since_note.saturating_add(u32::try_from(calls).unwrap_or(0));
            }
            Priority::OptOut | Priority::Note => {}
        }
    }

    fn ended(&mut self, end: End, pacing: Pacing) {
        match end {
            End::Worked(told) => {
                self.budget.told(told);
                self.breaker.worked(told.at_ms);
            }
            End::Failed { told, is_probe } => {
                self.budget.told(told);
                self.breaker.failed(told.at_ms, is_probe, pacing.open_for);
            }
            End::Silent { at_ms, is_probe } => self.breaker.failed(at_ms, is_probe, pacing.open_for),
        }
    }

    fn set_out(&mut self, now_ms: i64, who: &str, calls: i64) {
        if calls == 0 {
            self.out.remove(who);
        } else {
            self.out.insert(who.to_owned(), Out { calls, seen_ms: now_ms });
        }
    }
}

#[cfg(test)]
mod tests;
