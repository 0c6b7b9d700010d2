//! Limits repeated log lines to one a second, so that strangers cannot fill the disk by provoking them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const INTERVAL_MILLIS: u64 = 1000;

pub(crate) struct LogThrottle {
    started: Instant,
    /// Milliseconds after `started` from which the next line may be written.
    next: AtomicU64,
    held_back: AtomicU64,
}

impl LogThrottle {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), next: AtomicU64::new(0), held_back: AtomicU64::new(0) }
    }

    /// Returns the number of lines held back so far if a line may be written now, else `None`.
    pub(crate) fn pass(&self) -> Option<u64> {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        // Of several racing threads one wins; the others' lines are held back.
        let wins = now >= next
            && self.next.compare_exchange(next, now + INTERVAL_MILLIS, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if wins {
            Some(self.held_back.swap(0, Ordering::Relaxed))
        } else {
            self.held_back.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_passes_and_the_next_within_a_second_are_counted() {
        let throttle = LogThrottle::new();

        assert_eq!(throttle.pass(), Some(0));
        assert_eq!(throttle.pass(), None);
        assert_eq!(throttle.pass(), None);
        throttle.next.store(0, Ordering::Relaxed);
        assert_eq!(throttle.pass(), Some(2));
    }
}
