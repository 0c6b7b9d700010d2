//! Time as this machine gives it: a clock that goes slower while others have the processors. What is late by it would be
//! late on an idle machine, too.

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const REST: Duration = Duration::from_millis(60);
/// It goes no slower than that: a run has to end.
const LEAST: f64 = 0.1;
/// Some milliseconds of work: enough to be kept from it.
const ROUNDS: u64 = 400_000;
/// A worker gives way to the rest of its process by as much.
const NICENESS: i32 = 5;

/// How much time there was since the first look.
pub(crate) fn now() -> Duration {
    static CLOCK: OnceLock<&'static AtomicU64> = OnceLock::new();
    let clock = CLOCK.get_or_init(|| {
        let clock: &'static AtomicU64 = Box::leak(Box::default());
        std::thread::spawn(move || go(clock));
        clock
    });
    Duration::from_micros(clock.load(Ordering::Relaxed))
}

/// Goes on by the time that passes, as much slower as a piece of work takes longer than where nothing is in the way.
fn go(clock: &AtomicU64) {
    // Refused at worst, and then the clock is a little fast.
    let _ = rustix::process::nice(NICENESS);
    let mut best = Duration::MAX;
    loop {
        let began = Instant::now();
        std::thread::sleep(REST);
        let working = Instant::now();
        for round in 0..ROUNDS {
            let _ = black_box(round);
        }
        let worked = working.elapsed();
        best = best.min(worked);
        let share = (best.as_secs_f64() / worked.as_secs_f64()).max(LEAST);
        let given = began.elapsed().mul_f64(share);
        clock.fetch_add(u64::try_from(given.as_micros()).unwrap_or_default(), Ordering::Relaxed);
    }
}
