//! A limit of the searches within a second that no answer reports, such as HubSpot's. All processes share one count.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::Call;
use super::rate_limit::CLOCKS_DIFFER_MS;
use super::{GateRules, Priority};

/// Milliseconds that a search counts: more than a second, since searches take differently long on their way.
const COUNTS_MS: i64 = 1_250;
/// A process that has not asked for this many milliseconds has left the line. Its clock may differ.
const IN_LINE_MS: i64 = CLOCKS_DIFFER_MS + 500;
/// Milliseconds until a search asks again before which others go.
const LOOK_MS: i64 = 100;
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

/// The newest searches of all processes, and the processes with searches that wait.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SearchLimit {
    made_ms: Vec<i64>,
    line: BTreeMap<String, InLine>,
    /// The number of the process that was the last to join the line.
    newest: u64,
}

/// A process whose searches wait. Who asks first when there is room would otherwise be chance, or the clock that is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct InLine {
    /// The rank of the searches that go first, and how many there are of them.
    rank: Rank,
    waiting: usize,
    number: u64,
    asked_ms: i64,
}

/// Which searches go first: the lowest of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Rank {
    /// Contacts and notes have one: the gate lets them take turns.
    priority: u8,
    is_first: bool,
}

/// The searches that this process has sent back to their queue.
#[derive(Debug, Default)]
pub(super) struct SentBack {
    /// When the next one has a turn that nobody waits for.
    next_ms: i64,
}

impl Rank {
    /// Returns `None` for a call that is no search.
    fn of(call: Call) -> Option<Self> {
        let is_first = call.search? == Search::First;
        let priority = match call.priority {
            Priority::OptOut => 0,
            Priority::Contact | Priority::Note => 1,
            Priority::BackFill => 2,
        };
        Some(Self { priority, is_first })
    }
}

impl SearchLimit {
    /// Returns whether a process's search has room now, besides those of others that go before it.
    ///
    /// # Errors
    /// When to ask again.
    pub(super) fn has_room(&self, now_ms: i64, process: &str, call: Call, searches: u32) -> Result<(), i64> {
        let Some(rank) = Rank::of(call).filter(|_| searches > 0) else { return Ok(()) };
        let own = self.line.get(process).filter(|own| own.rank == rank).map_or(u64::MAX, |own| own.number);
        let goes_before = |other: &InLine| other.is_in_line(now_ms) && (other.rank, other.number) < (rank, own);
        let others = self.line.iter().filter(|(name, other)| *name != process && goes_before(other));
        let before: usize = others.map(|(_, other)| other.waiting).sum();
        let counted: Vec<i64> = self.counted(now_ms).collect();
        let most = usize::try_from(most(call.priority, searches)).unwrap_or(usize::MAX);
        match (counted.len() + before).checked_sub(most) {
            Some(over) => Err(counted.get(over).map_or(now_ms + LOOK_MS, |at| at + COUNTS_MS)),
            None => Ok(()),
        }
    }

    /// Counts a search that is let through. Its process goes to the end of the line.
    pub(super) fn count(&mut self, now_ms: i64, process: &str) {
        let mut made_ms: Vec<i64> = self.counted(now_ms).collect();
        // Clocks of processes differ a little.
        made_ms.push(made_ms.last().map_or(now_ms, |last| now_ms.max(*last)));
        self.made_ms = made_ms;
        self.line.remove(process);
    }

    /// Gives a process its place in the line, for those of its waiting calls that are searches and go first.
    pub(super) fn line_up(&mut self, now_ms: i64, process: &str, waiting: &[Call]) {
        self.line.retain(|_, other| other.is_in_line(now_ms));
        let ranks = || waiting.iter().filter_map(|call| Rank::of(*call));
        let Some(rank) = ranks().min() else {
            self.line.remove(process);
            return;
        };
        let before = self.line.get(process).filter(|before| before.rank == rank);
        let number = before.map_or(self.newest + 1, |before| before.number);
        self.newest = self.newest.max(number);
        let waiting = ranks().filter(|other| *other == rank).count();
        self.line.insert(process.to_owned(), InLine { rank, waiting, number, asked_ms: now_ms });
    }

    pub(super) fn has_in_line(&self, process: &str) -> bool {
        self.line.contains_key(process)
    }

    /// Those further in the future are of a clock that was set back since.
    fn counted(&self, now_ms: i64) -> impl Iterator<Item = i64> + '_ {
        self.made_ms.iter().copied().filter(move |at| *at > now_ms - COUNTS_MS && *at <= now_ms + CLOCKS_DIFFER_MS)
    }
}

impl InLine {
    fn is_in_line(&self, now_ms: i64) -> bool {
        (now_ms - self.asked_ms).abs() < IN_LINE_MS
    }
}

impl SentBack {
    /// Returns when a search comes back for which there is no room in hand, each at another time up to the longest.
    /// `waiting` searches of this process wait in hand.
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
