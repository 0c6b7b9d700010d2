//! How long to wait before a retry, with full jitter
//! (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>). The only user of the crate `backoff`.

use std::time::Duration;

use backoff::SystemClock;
use backoff::backoff::Backoff as _;
use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};

/// The most steps that we compute: by then every interval has reached its cap, and more steps change nothing.
const MAX_STEPS: u32 = 128;

/// A random wait, uniform in [0, min(max, initial × multiplier^(attempt − 1))]; `attempt` counts from 1.
#[must_use]
pub fn full_jitter(initial: Duration, multiplier: f64, max: Duration, attempt: u32) -> Duration {
    // `backoff` draws from [i(1−f), i(1+f)]. With half the interval and f = 1, that is full jitter.
    let mut intervals: ExponentialBackoff<SystemClock> = ExponentialBackoffBuilder::new()
        .with_initial_interval(initial / 2)
        .with_max_interval(max / 2)
        .with_multiplier(multiplier)
        .with_randomization_factor(1.0)
        .with_max_elapsed_time(None)
        .build();
    let mut delay = Duration::ZERO;
    for _ in 0..attempt.clamp(1, MAX_STEPS) {
        delay = intervals.next_backoff().unwrap_or(max);
    }
    delay.min(max)
}
