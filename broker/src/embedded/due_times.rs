//! When each queue's next row is due, which the writer passes to the dispatcher without being asked.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

use super::round::NextDue;
use super::rows::SLOTS;

#[derive(Debug)]
pub(super) struct DueTimes {
    next_due: [AtomicI64; SLOTS],
    changed: Notify,
}

impl DueTimes {
    pub(super) fn new() -> Self {
        Self { next_due: std::array::from_fn(|_| AtomicI64::new(i64::MAX)), changed: Notify::new() }
    }

    pub(super) fn next_due(&self, slot: usize) -> i64 {
        self.next_due[slot].load(Ordering::Acquire)
    }

    /// Records that a row that is due now came into `slot`. Only the writer calls this, between its transactions.
    pub(super) fn came(&self, slot: usize, now_ms: i64) {
        self.next_due[slot].fetch_min(now_ms, Ordering::AcqRel);
    }

    pub(super) fn replace(&self, next_due: &NextDue) {
        for (mine, new) in self.next_due.iter().zip(next_due) {
            mine.store(*new, Ordering::Release);
        }
    }

    /// Wakes the dispatcher, because rows came or a consumer has room.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}
