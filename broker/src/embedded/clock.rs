//! A clock for due times that does not step: a delay keeps its length when somebody sets the wall clock.

use std::time::Duration;

use tokio::time::Instant;

use hookline_common::time::Timestamp;

/// The wall time when the broker was opened, and the monotonic time since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    opened_at: Timestamp,
    opened: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { opened_at: Timestamp::now(), opened: Instant::now() }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.opened_at.plus(self.opened.elapsed()).as_millis()
    }

    /// Converts a wall time to this clock's milliseconds.
    pub(super) fn due_ms(&self, until: Timestamp) -> i64 {
        let delay = until.since(Timestamp::now());
        self.now_ms() + i64::try_from(delay.as_millis()).unwrap_or(i64::MAX >> 1)
    }

    pub(super) fn until(&self, due_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(due_ms.saturating_sub(self.now_ms())).unwrap_or(0))
    }
}
