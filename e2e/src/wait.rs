//! Waiting for what must come true.

use std::time::{Duration, Instant};

/// Long for what takes milliseconds: the machine may be busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(90);

const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Looks again and again until there is something to see.
///
/// # Panics
/// Where nothing is seen in [`DEADLINE`]: the test has failed.
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
