//! The clock that all processes of the benchmark share, so that times from different processes can be compared.

use rustix::time::{ClockId, clock_gettime};

/// Returns microseconds of the machine's monotonic clock.
pub(crate) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither value is ever negative on this clock.
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}
