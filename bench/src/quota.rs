//! The quota that paced workers are measured against, and how it was used by the calls that the API noted. Pure.

use std::time::Duration;

use crate::options::Options;
use crate::process::{ApiCall, Caller};

/// TextUs's 1,000 calls in 5 minutes, scaled down: windows pass quickly enough to see many of them.
pub(crate) const CALLS: u32 = 100;
pub(crate) const WINDOW: Duration = Duration::from_secs(3);
/// What a call takes there.
pub(crate) const LATENCY: Duration = Duration::from_millis(50);
/// From the first call to when a window's length is known: the headers tell its end in whole seconds only, which is a
/// third of this window, so the first ones are used to find out (docs/decisions/0006-gate.md). Two windows are enough
/// where nobody else calls; beside another program it takes up to eight.
const LEARNED: Duration = Duration::from_secs(24);
/// Where `--seconds` is below 2, nothing but the benchmark itself is looked at.
const LEARNED_BRIEFLY: Duration = Duration::from_secs(6);
/// A worker that was not told itself may still call for so long after another one was told to wait.
const TOLD_TO_ALL: Duration = Duration::from_millis(250);

/// How long workers are left to find out about the limit.
pub(crate) fn learning(options: &Options) -> Duration {
    if options.is_brief() { LEARNED_BRIEFLY } else { LEARNED }
}

/// One window of the API's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) opened_us: u64,
    /// Calls that were answered, ours and others'.
    pub(crate) ours: u64,
    pub(crate) others: u64,
}

impl Window {
    pub(crate) fn ends_us(&self) -> u64 {
        self.opened_us + micros(WINDOW)
    }

    /// Of what others left, as if the next window had been opened in time.
    fn used(&self) -> f64 {
        self.ours as f64 / (u64::from(CALLS).saturating_sub(self.others)).max(1) as f64
    }
}

/// The windows as the API counted them.
pub(crate) fn windows(calls: &[ApiCall]) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for call in calls {
        if windows.last().is_none_or(|last| call.at_us >= last.ends_us()) {
            windows.push(Window { opened_us: call.at_us, ..Window::default() });
        }
        let Some(window) = windows.last_mut().filter(|_| call.retry_after_s.is_none()) else { continue };
        match call.caller {
            Caller::Other => window.others += 1,
            Caller::Ours | Caller::OptOut(_) => window.ours += 1,
        }
    }
    windows
}

/// The calls that we made, answered or refused.
pub(crate) fn ours(calls: &[ApiCall]) -> impl Iterator<Item = &ApiCall> {
    calls.iter().filter(|call| call.caller != Caller::Other)
}

/// The share of what others left that was used between these two times, with the time that passed between one window
/// and the next.
pub(crate) fn used(calls: &[ApiCall], from_us: u64, to_us: u64) -> f64 {
    let within = calls.iter().filter(|call| (from_us..to_us).contains(&call.at_us) && call.retry_after_s.is_none());
    let (mut ours, mut others) = (0.0, 0.0);
    for call in within {
        match call.caller {
            Caller::Other => others += 1.0,
            Caller::Ours | Caller::OptOut(_) => ours += 1.0,
        }
    }
    let allowed = f64::from(CALLS) * to_us.saturating_sub(from_us) as f64 / micros(WINDOW) as f64;
    ours / (allowed - others)
}

/// The first and the last opening of a window from this time on; `None` where there are not two.
pub(crate) fn whole_windows(windows: &[Window], learned_us: u64) -> Option<(u64, u64)> {
    let learned: Vec<u64> = windows.iter().map(|window| window.opened_us).filter(|at| *at >= learned_us).collect();
    let (first, last) = (*learned.first()?, *learned.last()?);
    (first < last).then_some((first, last))
}

/// How long after the first call a window began that was used to nine tenths, and so was the one after it; `None`: none.
pub(crate) fn learned_after(windows: &[Window], first_us: u64) -> Option<Duration> {
    let pair = windows.windows(2).find(|pair| pair.iter().all(|window| window.used() >= 0.9))?;
    Some(Duration::from_micros(pair[0].opened_us.saturating_sub(first_us)))
}

/// Our calls that arrived before a `Retry-After` that we were told had passed.
pub(crate) fn early(calls: &[ApiCall]) -> u64 {
    let mut early = 0;
    // Of those we were told: when everyone knows, and until when.
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

    fn call(at_ms: u64, caller: Caller) -> ApiCall {
        ApiCall { at_us: at_ms * 1000, caller, retry_after_s: None }
    }

    fn refused(at_ms: u64, seconds: u64) -> ApiCall {
        ApiCall { retry_after_s: Some(seconds), ..call(at_ms, Caller::Ours) }
    }

    /// A window that opens at this second: so many of ours and of others', evenly.
    fn window(at_s: u64, ours: u64, others: u64) -> Vec<ApiCall> {
        let all = ours + others;
        let caller =
            |nth: u64| if nth * others / all < (nth + 1) * others / all { Caller::Other } else { Caller::Ours };
        (0..all).map(|nth| call(at_s * 1000 + nth * 2900 / all, caller(nth))).collect()
    }

    #[test]
    fn a_window_begins_with_the_first_call_after_the_last_ones_end() {
        let calls = [window(10, 60, 20), window(14, 5, 0), vec![refused(14_999, 2)]].concat();

        let windows = windows(&calls);

        let seen: Vec<_> = windows.iter().map(|one| (one.opened_us / 1_000_000, one.ours, one.others)).collect();
        assert_eq!(seen, [(10, 60, 20), (14, 5, 0)]);
    }

    #[test]
    fn what_others_took_and_what_passed_between_windows_counts() {
        let calls = [window(0, 90, 0), window(3, 45, 50), window(6, 99, 0), window(10, 99, 0)].concat();
        let seconds = |from: u64, to: u64| used(&calls, from * 1_000_000, to * 1_000_000);

        assert!((seconds(0, 3) - 0.9).abs() < 1e-9);
        assert!((seconds(3, 6) - 0.9).abs() < 1e-9, "of the 50 that were left");
        assert!((seconds(6, 10) - 0.99 * 0.75).abs() < 1e-9, "a second passed unused");
        assert_eq!(learned_after(&windows(&calls), 0), Some(Duration::ZERO));
    }

    #[test]
    fn whole_windows_lie_between_two_openings() {
        let calls: Vec<ApiCall> = (0..8).flat_map(|nth| window(nth * 3, 50, 0)).collect();

        assert_eq!(whole_windows(&windows(&calls), 11_000_000), Some((12_000_000, 21_000_000)));
        assert_eq!(whole_windows(&windows(&calls), 20_500_000), None);
        assert_eq!(learned_after(&windows(&calls), 0), None);
    }

    #[test]
    fn a_call_is_early_from_when_all_workers_know_until_the_time_has_passed() {
        let at = |at_ms| early(&[refused(1000, 2), call(at_ms, Caller::Ours)]);

        assert_eq!([1290, 1310, 3040, 3060].map(at), [0, 1, 1, 0]);
        assert_eq!(early(&[refused(1000, 2), call(2000, Caller::Other)]), 0, "others are not ours");
    }
}
