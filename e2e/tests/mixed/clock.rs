//! The wall clock of a machine that was off for a while: minutes that a run does not have to wait for.

use std::sync::atomic::{AtomicI64, Ordering};

use hookline_e2e::{AllInOne, preload};
use jiff::Timestamp;

/// Milliseconds of the clock that Hookline's processes see.
pub(crate) type Ms = i64;

/// How far that clock is ahead of the test's own.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    ahead: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> Ms {
        Timestamp::now().as_millisecond() + self.ahead.load(Ordering::Relaxed)
    }

    /// The stand-in's record is kept by the test's clock. What was recorded before a leap becomes later by it, and the
    /// oracle only ever asks whether something came late enough, or after something else that was recorded.
    pub(crate) fn of(&self, recorded: Timestamp, leaps: &[(Timestamp, Ms)]) -> Ms {
        let ahead = leaps.iter().rev().find(|(since, _)| *since <= recorded).map_or(0, |(_, ahead)| *ahead);
        recorded.as_millisecond() + ahead
    }

    /// Every process that starts from now on sees a clock that is so much further ahead.
    pub(crate) fn leap(&self, all_in_one: &mut AllInOne, seconds: i64) -> Ms {
        let ahead = self.ahead.fetch_add(seconds * 1_000, Ordering::Relaxed) + seconds * 1_000;
        all_in_one.set("LD_PRELOAD", &preload("clock"));
        all_in_one.set("MIXED_CLOCK_AHEAD", &(ahead / 1_000).to_string());
        ahead
    }
}
