//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Maximum wait. It is long for what takes milliseconds, because the machine may be busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(90);

const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Calls `look` repeatedly until it returns a value.
///
/// # Panics
/// If it returns none within [`DEADLINE`]; the test has failed then.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
