//! The quota for measuring paced workers, and its use by the calls that the API recorded. All functions are pure.

use std::ops::Range;
use std::time::Duration;

use crate::options::Options;
use crate::process::{ApiCall, Caller};

/// Calls per window: TextUs's 1,000 calls in 5 minutes, scaled down so that several windows pass quickly.
pub(crate) const CALLS: u32 = 100;
/// Length of a window. The headers give a window's end in whole seconds, and the shorter a window is, the larger is a
/// second's share of it.
const WINDOW: Duration = Duration::from_secs(20);
/// Length of a window when `--seconds` is below 2 and only the benchmark itself is tested.
const WINDOW_BRIEFLY: Duration = Duration::from_secs(3);
/// Duration of a call at this API.
pub(crate) const LATENCY: Duration = Duration::from_millis(50);
/// Time for which a worker may still call after another one was told to wait.
const TOLD_TO_ALL: Duration = Duration::from_millis(250);

/// Returns the length of the limit's windows, with which the workers are configured too.
pub(crate) fn window(options: &Options) -> Duration {
    if options.is_brief() { WINDOW_BRIEFLY } else { WINDOW }
}

/// Returns when the API opened its windows, each with the first call after the previous window's end.
pub(crate) fn openings(calls: &[ApiCall], window: Duration) -> Vec<u64> {
    let mut openings: Vec<u64> = Vec::new();
    for call in calls {
        if openings.last().is_none_or(|opened_us| call.at_us >= opened_us + micros(window)) {
            openings.push(call.at_us);
        }
    }
    openings
}

/// Returns our calls, answered or refused.
pub(crate) fn ours(calls: &[ApiCall]) -> impl Iterator<Item = &ApiCall> {
    calls.iter().filter(|call| call.caller != Caller::Other)
}

/// Returns the share that we used of the calls left by others between these two times. The allowed calls are
/// proportional to the time, which includes the pauses between windows.
pub(crate) fn used(calls: &[ApiCall], span_us: Range<u64>, window: Duration) -> f64 {
    let within = calls.iter().filter(|call| span_us.contains(&call.at_us) && call.retry_after_s.is_none());
    let (mut ours, mut others) = (0.0, 0.0);
    for call in within {
        match call.caller {
            Caller::Other => others += 1.0,
            Caller::Ours | Caller::OptOut(_) => ours += 1.0,
        }
    }
    let allowed = f64::from(CALLS) * span_us.end.saturating_sub(span_us.start) as f64 / micros(window) as f64;
    ours / (allowed - others)
}

/// Returns the openings of the windows after the one in which our first call came, because the workers start in that
/// one. Between the first and the last of these openings lie whole windows.
pub(crate) fn following<'a>(openings: &'a [u64], calls: &[ApiCall]) -> &'a [u64] {
    let first_us = ours(calls).next().map_or(u64::MAX, |call| call.at_us);
    &openings[openings.partition_point(|opened_us| *opened_us <= first_us)..]
}

/// Counts our calls that arrived before a `Retry-After` given to us had passed.
pub(crate) fn early(calls: &[ApiCall]) -> u64 {
    let mut early = 0;
    // For each refusal: from when all workers know of it, and until when they must wait.
    let mut told: Vec<(u64, u64)> = Vec::new();
    for call in ours(calls) {
        if told.iter().any(|(known_us, until_us)| (*known_us..*until_us).contains(&call.at_us)) {
            early += 1;
        }
        if let Some(seconds) = call.retry_after_s {
            let read_us = call.at_us + micros(LATENCY);
            told.push((read_us + micros(TOLD_TO_ALL), read_us + seconds * 1_000_000));
        }
    }
    early
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Duration = Duration::from_secs(3);

    fn call(at_ms: u64, caller: Caller) -> ApiCall {
        ApiCall { at_us: at_ms * 1000, caller, retry_after_s: None }
    }

    fn refused(at_ms: u64, seconds: u64) -> ApiCall {
        ApiCall { retry_after_s: Some(seconds), ..call(at_ms, Caller::Ours) }
    }

    /// A window that opens at this second, with these numbers of our and others' calls, evenly spread.
    fn window(at_s: u64, ours: u64, others: u64) -> Vec<ApiCall> {
        let all = ours + others;
        let caller =
            |nth: u64| if nth * others / all < (nth + 1) * others / all { Caller::Other } else { Caller::Ours };
        (0..all).map(|nth| call(at_s * 1000 + nth * 2900 / all, caller(nth))).collect()
    }

    #[test]
    fn a_window_begins_with_the_first_call_after_the_last_ones_end() {
        let calls = [window(10, 60, 20), window(14, 5, 0), vec![refused(14_999, 2)]].concat();

        assert_eq!(openings(&calls, THREE), [10_000_000, 14_000_000]);
        assert_eq!(openings(&calls, THREE * 2), [10_000_000, 16_320_000]);
    }

    #[test]
    fn what_others_took_and_what_passed_between_windows_counts() {
        let calls = [window(0, 90, 0), window(3, 45, 50), window(6, 99, 0), window(10, 99, 0)].concat();
        let seconds = |from: u64, to: u64| used(&calls, from * 1_000_000..to * 1_000_000, THREE);

        assert!((seconds(0, 3) - 0.9).abs() < 1e-9);
        assert!((seconds(3, 6) - 0.9).abs() < 1e-9, "of the 50 that were left");
        assert!((seconds(6, 10) - 0.99 * 0.75).abs() < 1e-9, "a second passed unused");
        assert!((used(&calls, 0..3_000_000, THREE / 2) - 0.45).abs() < 1e-9, "two windows of half the length");
    }

    #[test]
    fn what_is_measured_begins_with_the_window_after_our_first_call() {
        let others: Vec<ApiCall> = (0..2).flat_map(|nth| window(nth * 3, 0, 50)).collect();
        let calls = [others.clone(), (2..5).flat_map(|nth| window(nth * 3, 50, 0)).collect()].concat();

        assert_eq!(following(&openings(&calls, THREE), &calls), [9_000_000, 12_000_000]);
        assert_eq!(following(&openings(&others, THREE), &others), [0; 0], "we made no call");
    }

    #[test]
    fn a_call_is_early_from_when_all_workers_know_until_the_time_has_passed() {
        let at = |at_ms| early(&[refused(1000, 2), call(at_ms, Caller::Ours)]);

        assert_eq!([1290, 1310, 3040, 3060].map(at), [0, 1, 1, 0]);
        assert_eq!(early(&[refused(1000, 2), call(2000, Caller::Other)]), 0, "others are not ours");
    }
}
