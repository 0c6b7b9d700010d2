//! A clock for due times that does not step: a delay keeps its length when somebody sets the wall clock, also while no
//! process has the file open.

use std::time::Duration;

use tokio::time::Instant;

use hookline_common::time::{Timestamp, duration};

/// A time that is further ahead than this was written before the wall clock was set back.
const STEP: Duration = Duration::from_secs(1);

/// The time when the broker was opened, and the monotonic time since. That time is the wall clock's, or the latest time in
/// the file if the wall clock was set back behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    opened_at: Timestamp,
    opened: Instant,
}

impl Clock {
    /// `latest_ms` is the latest time that an earlier process wrote into the file.
    pub(super) fn start(latest_ms: i64) -> Self {
        Self { opened_at: Timestamp::now().max(Timestamp::from_millis(latest_ms)), opened: Instant::now() }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.opened_at.plus(self.opened.elapsed()).as_millis()
    }

    /// Converts a wall time to this clock's milliseconds.
    pub(super) fn due_ms(&self, until: Timestamp) -> i64 {
        let delay = until.since(Timestamp::now());
        self.now_ms() + i64::try_from(delay.as_millis()).unwrap_or(i64::MAX >> 1)
    }

    /// Converts this clock's milliseconds to the wall time. Both are the same until the wall clock is set back.
    pub(super) fn wall(&self, at_ms: i64) -> Timestamp {
        self.unless_ahead(Timestamp::from_millis(at_ms), at_ms)
    }

    /// Returns `time`, a wall time of about when this clock showed `at_ms`. If that is in the future by now, because the wall
    /// clock was set back, returns the time that has the same age.
    pub(super) fn unless_ahead(&self, time: Timestamp, at_ms: i64) -> Timestamp {
        let now = Timestamp::now();
        if time <= now.plus(STEP) {
            return time;
        }
        now.minus(duration(self.now_ms().saturating_sub(at_ms)))
    }

    pub(super) fn until(&self, due_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(due_ms.saturating_sub(self.now_ms())).unwrap_or(0))
    }
}
