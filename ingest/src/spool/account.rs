//! Counts in memory how much the spool holds, so that no webhook waits for a query of the file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookline_broker::embedded::Held;
use hookline_common::event::Event;
use hookline_common::service::telemetry::metrics::Metrics;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, RwLock, RwLockReadGuard};

/// Bytes that an event takes in the file besides its body: its head, its queue row, their indexes and its remembered
/// id.
const ROW_BYTES: u64 = 1 << 10;

/// Returns the bytes in use, as `spool_max_bytes` counts them.
#[must_use]
pub fn used_bytes(held: Held) -> u64 {
    held.bytes + held.events * ROW_BYTES
}

pub(super) struct Account {
    count: Mutex<Count>,
    limit: u64,
    /// Set when an event finds no room, and cleared as soon as room becomes free.
    full: AtomicBool,
    changed: Notify,
    /// Held for reading while an event is being stored, so that a recount never sees a half-stored event.
    storing: RwLock<()>,
    metrics: Arc<Metrics>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    events: u64,
    bytes: u64,
}

/// Room for one event; given back when dropped, unless `keep` was called.
pub(super) struct Reservation<'a> {
    account: &'a Account,
    size: u64,
    kept: bool,
    _storing: RwLockReadGuard<'a, ()>,
}

impl Account {
    pub(super) fn new(held: Held, limit: u64, metrics: Arc<Metrics>) -> Self {
        let count = Count { events: held.events, bytes: used_bytes(held) };
        let this = Self {
            count: Mutex::new(count),
            limit,
            full: AtomicBool::new(count.bytes.saturating_add(ROW_BYTES) > limit),
            changed: Notify::new(),
            storing: RwLock::new(()),
            metrics,
        };
        this.report(count);
        this
    }

    pub(super) fn events(&self) -> u64 {
        self.count().events
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Describes why nothing more fits.
    pub(super) fn full(&self) -> String {
        format!("it is full (spool_max_bytes = {} bytes)", self.limit)
    }

    /// Reserves room for this event; returns `None` if there is not enough.
    pub(super) async fn reserve(&self, event: &Event) -> Option<Reservation<'_>> {
        let storing = self.storing.read().await;
        let size = size(event);
        let fits = {
            let mut count = self.count();
            let after = count.bytes.saturating_add(size);
            let fits = after <= self.limit;
            if fits {
                count.bytes = after;
                count.events += 1;
            }
            fits
        };
        if !fits {
            if !self.full.swap(true, Ordering::Relaxed) {
                self.changed.notify_one();
            }
            return None;
        }
        Some(Reservation { account: self, size, kept: false, _storing: storing })
    }

    /// Gives back the room of an event that has left the spool.
    pub(super) fn left(&self, event: &Event) {
        self.give_back(size(event));
    }

    /// Replaces the count with that of the file, because another process (`hookline erase`) may have removed events.
    /// Call this only while nothing is being forwarded.
    pub(super) async fn recount(&self, look: impl AsyncFnOnce() -> Option<Held>) {
        let _nothing_is_stored = self.storing.write().await;
        if let Some(held) = look().await {
            let mut count = self.count();
            *count = Count { events: held.events, bytes: used_bytes(held) };
            self.report(*count);
        }
    }

    /// Waits until the spool becomes full or stops being full.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn report_oldest(&self, age: Option<Duration>) {
        let seconds = age.unwrap_or_default().as_secs();
        self.metrics.ingest.spool_oldest_seconds.set(gauge(seconds));
    }

    fn give_back(&self, size: u64) {
        let mut count = self.count();
        count.events = count.events.saturating_sub(1);
        count.bytes = count.bytes.saturating_sub(size);
        self.report(*count);
        drop(count);
        if self.full.swap(false, Ordering::Relaxed) {
            self.changed.notify_one();
        }
    }

    fn report(&self, count: Count) {
        self.metrics.ingest.spool_events.set(gauge(count.events));
        self.metrics.ingest.spool_bytes.set(gauge(count.bytes));
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        // No code panics while it holds this lock, so the data is consistent even if the lock is poisoned.
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation<'_> {
    pub(super) fn keep(mut self) {
        self.kept = true;
        self.account.report(*self.account.count());
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.account.give_back(self.size);
        }
    }
}

fn size(event: &Event) -> u64 {
    ROW_BYTES + event.body.len() as u64
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
