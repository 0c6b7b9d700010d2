//! Salesforce's limit: a number of requests in rolling 24 hours, which all apps of the org share and each answer reports
//! (<https://developer.salesforce.com/docs/platform/salesforce-app-limits-cheatsheet/guide/salesforce-app-limits-platform-api.html>).
//! Nothing limits how fast they are made.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookline_common::settings::SalesforceSettings;
use hookline_common::time::millis;
use reqwest::header::HeaderMap;

use crate::destinations::limits::{GateRules, IN_HAND_MAX, Limits};
use crate::destinations::priority::Priority;

/// Of this many requests, one is left to the org's other apps and to opt-outs.
const RESERVE: u64 = 20;
/// Of this many requests, a back-fill leaves one to everything else: nobody waits for a back-fill, and a live note that
/// finds the day used up waits for hours.
const BACK_FILL_RESERVE: u64 = 4;
/// The count falls as requests become older than a day, so one call finds out now and then.
const LOOK_EVERY: Duration = Duration::from_mins(5);
/// Deliveries that wait come back over this time.
const SPREAD: Duration = Duration::from_mins(2);

/// Returns the rules of Salesforce's gate. Opt-outs have their part of the daily count, so the gate keeps none.
pub(super) fn rules(settings: &SalesforceSettings) -> GateRules {
    GateRules {
        reserve: 0.0,
        window_ms: 1_000,
        is_rolling: false,
        open_min_ms: 5_000,
        open_max_ms: 60_000,
        probe_every_ms: 60_000,
        in_hand_ms: millis(settings.timeout.min(IN_HAND_MAX)),
        per_second: 0,
        searches: 0,
    }
}

/// The org's requests of the last 24 hours, as this process saw them last. Clones share the count.
#[derive(Clone, Default)]
pub(super) struct DailyCount(Arc<Mutex<Option<Seen>>>);

#[derive(Clone, Copy)]
struct Seen {
    used: u64,
    most: u64,
    at: Instant,
}

impl DailyCount {
    /// Reads the header of an answer.
    pub(super) fn read(&self, headers: &HeaderMap) -> Limits {
        let Some((used, most)) = usage(headers) else { return Limits::default() };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_near = seen.is_some_and(|seen| is_near(seen.used, seen.most));
        if is_near(used, most) && !was_near {
            tracing::warn!(
                used,
                most,
                "salesforce.daily_limit_near: the rest of the org's requests of 24 hours is left to \
                opt-outs and to other apps; everything else waits"
            );
        }
        *seen = Some(Seen { used, most, at: Instant::now() });
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        // Without a window: the count is not to be spread over a day, and nobody knows when it falls.
        Limits {
            limit: Some(whole(most)),
            remaining: Some(whole(most.saturating_sub(used))),
            window_end: None,
            retry_after: None,
        }
    }

    /// Returns whether such a call may be made while this many others are in flight, which the count may not know yet.
    ///
    /// # Errors
    /// How long to wait where the rest is not for such a call.
    pub(super) fn may(&self, priority: Priority, in_flight: u64) -> Result<(), Duration> {
        self.may_at(Instant::now(), priority, in_flight)
    }

    fn may_at(&self, now: Instant, priority: Priority, in_flight: u64) -> Result<(), Duration> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = seen.as_mut() else { return Ok(()) };
        if reserve(priority).is_some_and(|reserve| leaves_only(reserve, seen.used + in_flight, seen.most)) {
            let age = now.saturating_duration_since(seen.at);
            if age < LOOK_EVERY {
                return Err(LOOK_EVERY - age + SPREAD.mul_f64(rand::random()));
            }
            seen.at = now;
        }
        Ok(())
    }
}

/// Of how many requests such calls leave one to others; `None` if they leave none.
const fn reserve(priority: Priority) -> Option<u64> {
    match priority {
        Priority::OptOut => None,
        Priority::Contact | Priority::Note => Some(RESERVE),
        Priority::BackFill => Some(BACK_FILL_RESERVE),
    }
}

/// Says why a call has to wait.
pub(super) const fn why_held(priority: Priority) -> &'static str {
    match priority {
        Priority::BackFill => {
            "calls to system_of_record are held: three quarters of Salesforce's daily requests are used, and a back-fill \
             leaves the rest to new texts, opt-outs and the org's other apps"
        }
        Priority::OptOut | Priority::Contact | Priority::Note => {
            "calls to system_of_record are held: the last twentieth of Salesforce's daily requests is left to opt-outs and \
             to the org's other apps"
        }
    }
}

const fn is_near(used: u64, most: u64) -> bool {
    leaves_only(RESERVE, used, most)
}

/// Whether at most one of `reserve` requests is left.
const fn leaves_only(reserve: u64, used: u64, most: u64) -> bool {
    used >= most - most / reserve
}

/// Reads `api-usage=18/5000` out of `Sforce-Limit-Info`, which may have more parts.
fn usage(headers: &HeaderMap) -> Option<(u64, u64)> {
    let header = headers.get("sforce-limit-info")?.to_str().ok()?;
    let usage = header.split([';', ',']).find_map(|part| part.trim().strip_prefix("api-usage="))?;
    let (used, most) = usage.split_once('/')?;
    let (used, most) = (used.trim().parse().ok()?, most.trim().parse().ok()?);
    (most > 0).then_some((used, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            reqwest::header::HeaderName::from_static("sforce-limit-info"),
            reqwest::header::HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn the_count_is_read_whatever_stands_beside_it() {
        for (value, expected) in [
            ("api-usage=18/5000", Some((18, 5000))),
            ("api-usage=5001/5000; per-app-api-usage=17/250(appName=x)", Some((5001, 5000))),
            ("per-app-api-usage=17/250(appName=x); api-usage=3/10", Some((3, 10))),
            ("api-usage=x/10", None),
            ("api-usage=1/0", None),
            ("", None),
        ] {
            assert_eq!(usage(&headers(value)), expected, "{value}");
        }
        assert_eq!(DailyCount::default().read(&HeaderMap::new()), Limits::default());
    }

    #[test]
    fn the_last_twentieth_is_for_opt_outs_and_other_apps() {
        let count = DailyCount::default();
        assert_eq!(count.may(Priority::Note, 0), Ok(()));
        let limits = count.read(&headers("api-usage=949/1000"));
        assert_eq!((limits.limit, limits.remaining, limits.window()), (Some(1000), Some(51), None));
        assert_eq!(count.may(Priority::Note, 0), Ok(()));
        assert!(count.may(Priority::Note, 1).is_err(), "a call counts before its answer does");

        count.read(&headers("api-usage=950/1000"));
        let now = Instant::now();

        assert_eq!(count.may_at(now, Priority::OptOut, 50), Ok(()));
        assert!(count.may_at(now, Priority::Note, 0).is_err() && count.may_at(now, Priority::Contact, 0).is_err());
        // One call finds out whether the count has fallen.
        assert_eq!(count.may_at(now + LOOK_EVERY, Priority::Note, 0), Ok(()));
        assert!(count.may_at(now + LOOK_EVERY, Priority::Note, 0).is_err());
        count.read(&headers("api-usage=100/1000"));
        assert_eq!(count.may(Priority::Note, 0), Ok(()));
    }

    #[test]
    fn a_back_fill_leaves_a_quarter_of_the_day_to_everything_else() {
        let count = DailyCount::default();
        count.read(&headers("api-usage=748/1000"));
        let now = Instant::now();

        let taken: Vec<bool> = (0..3).map(|out| count.may_at(now, Priority::BackFill, out).is_ok()).collect();

        assert_eq!(taken, [true, true, false]);
        for priority in [Priority::OptOut, Priority::Contact, Priority::Note] {
            assert_eq!(count.may_at(now, priority, 2), Ok(()), "{priority:?}");
        }
        count.read(&headers("api-usage=750/1000"));
        // One call finds out whether the count has fallen.
        let later = now + LOOK_EVERY + Duration::from_secs(1);
        let looks: Vec<bool> = (0..2).map(|_| count.may_at(later, Priority::BackFill, 0).is_ok()).collect();
        assert_eq!(looks, [true, false]);
        count.read(&headers("api-usage=100/1000"));
        assert_eq!(count.may(Priority::BackFill, 0), Ok(()));
    }
}
