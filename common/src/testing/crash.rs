//! Crash hooks: `HOOKLINE_TEST_ABORT_AT=<point>[:n]` aborts the process when it passes the point for the n-th time
//! (default: the first). Points: `publish.sent`, `publish.confirmed`, `spool.committing`, `call.before`,
//! `call.answered`, `retry.confirmed`, `dead.confirmed`, `ack.before`.

/// Ends the process here if the test asked for it.
#[cfg(feature = "testing")]
pub fn crash_point(point: &'static str) {
    armed::pass(point);
}

/// Nothing: only the feature `testing` arms it.
#[cfg(not(feature = "testing"))]
#[inline]
pub fn crash_point(_point: &'static str) {}

#[cfg(feature = "testing")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        point: String,
        left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(read);

    #[expect(clippy::disallowed_methods, reason = "a test's variable, compiled into test builds only")]
    fn read() -> Option<Armed> {
        let wanted = std::env::var("HOOKLINE_TEST_ABORT_AT").ok().filter(|wanted| !wanted.is_empty())?;
        let (point, nth) = match wanted.rsplit_once(':') {
            Some((point, nth)) => (point.to_owned(), nth.parse().ok()?),
            None => (wanted, 1),
        };
        Some(Armed { point, left: AtomicU64::new(nth) })
    }

    pub(super) fn pass(point: &str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.point == point) else { return };
        // Zero goes round to the largest number, so that only one passing is the n-th.
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    }
}
