//! A limit of the searches within a second that no answer reports, such as HubSpot's. All processes share one count.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rate_limit::CLOCKS_DIFFER_MS;
use super::{GateRules, Priority};

/// Milliseconds that a search counts: a little more than a second, since searches take differently long on their way.
const COUNTS_MS: i64 = 1_100;
/// How long after its turn a search for an opt-out goes before all others, in milliseconds.
const KEPT_MS: i64 = 500;
/// Divisor of the searches that have their turn within the time in hand: so many of a process wait in hand. Each takes up
/// one of its handler's places for a call.
const WAIT_IN_HAND: i64 = 4;
/// Searches that were sent back come again over this time at most.
const SPREAD_MS: i64 = 30_000;

/// A call that is a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    First,
    /// The attempt has made a search already, and would have to begin anew. Such a search goes before first ones.
    Further,
}

/// The newest searches of all processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SearchLimit {
    made_ms: Vec<i64>,
    /// Until when others leave their turn to a search for an opt-out that waits.
    kept_until_ms: i64,
}

/// The searches that this process has sent back to their queue.
#[derive(Debug, Default)]
pub(super) struct SentBack {
    /// When the next one has a turn that nobody waits for.
    next_ms: i64,
}

impl SearchLimit {
    /// Returns whether a search has room now.
    ///
    /// # Errors
    /// When to ask again.
    pub(super) fn has_room(&self, now_ms: i64, priority: Priority, rules: &GateRules) -> Result<(), i64> {
        let is_opt_out = priority == Priority::OptOut;
        if !is_opt_out && now_ms < self.kept_until_ms && self.kept_until_ms <= now_ms + COUNTS_MS + KEPT_MS {
            return Err(self.kept_until_ms);
        }
        let counted: Vec<i64> = self.counted(now_ms).collect();
        let most = usize::try_from(most(priority, rules.searches)).unwrap_or(usize::MAX);
        match counted.len().checked_sub(most) {
            Some(over) => Err(counted.get(over).map_or(now_ms, |at| at + COUNTS_MS)),
            None => Ok(()),
        }
    }

    /// Counts a search that is let through.
    pub(super) fn count(&mut self, now_ms: i64, priority: Priority) {
        let mut made_ms: Vec<i64> = self.counted(now_ms).collect();
        // Clocks of processes differ a little.
        made_ms.push(made_ms.last().map_or(now_ms, |last| now_ms.max(*last)));
        self.made_ms = made_ms;
        if priority == Priority::OptOut {
            self.kept_until_ms = 0;
        }
    }

    /// Keeps the turn at `again_ms` for a search of this priority that waits, if it is for an opt-out.
    pub(super) fn waits(&mut self, again_ms: i64, priority: Priority) {
        if priority == Priority::OptOut {
            self.kept_until_ms = again_ms + KEPT_MS;
        }
    }

    /// Those further in the future are of a clock that was set back since.
    fn counted(&self, now_ms: i64) -> impl Iterator<Item = i64> + '_ {
        self.made_ms.iter().copied().filter(move |at| *at > now_ms - COUNTS_MS && *at <= now_ms + CLOCKS_DIFFER_MS)
    }
}

impl SentBack {
    /// Returns when a search comes back for which there is no room in hand, each at another time. `waiting` searches of
    /// this process wait in hand.
    pub(super) fn returns_ms(&mut self, now_ms: i64, waiting: i64, processes: i64, rules: &GateRules) -> i64 {
        let each_ms = COUNTS_MS * processes / most(Priority::Note, rules.searches);
        let returns_ms = self.next_ms.max(now_ms + waiting * each_ms).min(now_ms + SPREAD_MS);
        self.next_ms = returns_ms + each_ms;
        returns_ms
    }
}

/// Returns how many first searches of this process may wait in hand.
pub(super) fn most_in_hand(processes: i64, rules: &GateRules) -> i64 {
    let turns = most(Priority::Note, rules.searches) * rules.in_hand_ms / COUNTS_MS;
    (turns / processes / WAIT_IN_HAND).max(1)
}

/// Returns how many searches of a back-fill are made in which time, where the destination takes so many a second.
pub(crate) fn of_back_fill(searches: u32) -> (u64, Duration) {
    let most = u64::try_from(most(Priority::BackFill, searches)).unwrap_or(1);
    (most, Duration::from_millis(COUNTS_MS.unsigned_abs()))
}

/// One search is left to opt-outs, and a back-fill leaves one more.
fn most(priority: Priority, searches: u32) -> i64 {
    let left = match priority {
        Priority::OptOut => 0,
        Priority::Contact | Priority::Note => 1,
        Priority::BackFill => 2,
    };
    (i64::from(searches) - left).max(1)
}
