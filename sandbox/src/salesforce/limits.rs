//! The daily allocation of calls, over rolling 24 hours.
//! <https://developer.salesforce.com/docs/platform/salesforce-app-limits-cheatsheet/guide/salesforce-app-limits-platform-api.html>

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, Default)]
pub(crate) struct Limits {
    calls: VecDeque<Instant>,
    /// Calls of the customer's other apps.
    others: u64,
}

impl Limits {
    /// Counts a call and returns whether it is within the allocation. A refused call doesn't count.
    pub(crate) fn count(&mut self, limit: u64) -> bool {
        let now = Instant::now();
        while self.calls.front().is_some_and(|at| now.saturating_duration_since(*at) >= DAY) {
            self.calls.pop_front();
        }
        let is_within = self.used() < limit;
        if is_within {
            self.calls.push_back(now);
        }
        is_within
    }

    pub(crate) fn used(&self) -> u64 {
        self.calls.len() as u64 + self.others
    }

    /// Sets the number of calls of the last 24 hours.
    pub(crate) fn set(&mut self, used: u64) {
        self.calls.clear();
        self.others = used;
    }
}
