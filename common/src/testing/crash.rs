//! Crash hooks: `HOOKLINE_TEST_ABORT_AT=<point>[:n]` aborts the process when it passes the point for the n-th time
//! (default: the first), and `HOOKLINE_TEST_PANIC_AT=<point>[:n]` makes the task panic that passes it. The points, and
//! the code that passes them:
//!
//! | point | passed | by |
//! |---|---|---|
//! | `publish.sent` | an event is with the writer, nothing is written | broker, `embedded/mod.rs` |
//! | | a batch's frames are queued, nothing is confirmed | broker, `rabbitmq/publisher.rs` |
//! | `spool.committing` | before the commit that stores events | broker, `embedded/writer/mod.rs` |
//! | `publish.confirmed` | after it, before anybody is answered | broker, `embedded/writer/mod.rs` |
//! | | a batch is confirmed, before anybody is answered | broker, `rabbitmq/publisher.rs` |
//! | `store.committing` | before the commit of the store | store, `db/writer.rs` |
//! | `retry.confirmed` | a delivery is durably parked | broker, both `settler.rs` |
//! | `dead.confirmed` | a delivery is durably a dead letter | broker, both `settler.rs` |
//! | `call.before` | before a call to a destination | worker, `calls/http.rs` |
//! | `call.answered` | the destination answered, nothing is recorded | worker, `calls/http.rs` |
//! | `ack.before` | the verdict is recorded, the delivery not settled | worker, `delivery/settle.rs` |

/// Aborts the process here if the test asked for it.
#[cfg(feature = "testing")]
pub fn crash_point(point: &'static str) {
    armed::pass(point);
}

/// Does nothing, because only the feature `testing` arms the crash points.
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

    static ABORT: LazyLock<Option<Armed>> = LazyLock::new(|| Armed::read("HOOKLINE_TEST_ABORT_AT"));
    static PANIC: LazyLock<Option<Armed>> = LazyLock::new(|| Armed::read("HOOKLINE_TEST_PANIC_AT"));

    impl Armed {
        #[expect(clippy::disallowed_methods, reason = "a test's variable, compiled into test builds only")]
        fn read(variable: &str) -> Option<Self> {
            let wanted = std::env::var(variable).ok().filter(|wanted| !wanted.is_empty())?;
            let (point, nth) = match wanted.rsplit_once(':') {
                Some((point, nth)) => (point.to_owned(), nth.parse().ok()?),
                None => (wanted, 1),
            };
            Some(Self { point, left: AtomicU64::new(nth) })
        }

        fn is_due(&self, point: &str) -> bool {
            // Zero wraps around to the largest number, so that only one passing is the n-th.
            self.point == point && self.left.fetch_sub(1, Ordering::SeqCst) == 1
        }
    }

    #[expect(clippy::panic, reason = "the test asked for it")]
    pub(super) fn pass(point: &str) {
        if ABORT.as_ref().is_some_and(|armed| armed.is_due(point)) {
            std::process::abort();
        }
        if PANIC.as_ref().is_some_and(|armed| armed.is_due(point)) {
            panic!("the test asked for a panic at {point}");
        }
    }
}
