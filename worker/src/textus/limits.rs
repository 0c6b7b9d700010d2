//! Reads from a TextUs answer's headers when to call again: `Retry-After`, `X-RateLimit-*`, `Date`
//! (<https://apidocs.next.textus.com/overview/rate_limiting>). Times are compared with the answer's own `Date`.

use hookline_common::settings::TextUsSettings;
use hookline_common::time::{Timestamp, millis};
use reqwest::header::HeaderMap;

use crate::destinations::limits::{GateRules, IN_HAND_MAX, Limits, MAX_WAIT};
use crate::destinations::retry_after;

/// Returns the gate's rules from the settings. The vendor has one quota for each token, whose window is 5 minutes long
/// (<https://apidocs.next.textus.com/overview/rate_limiting>).
#[must_use]
pub fn rules(settings: &TextUsSettings) -> GateRules {
    GateRules {
        reserve: settings.opt_out_reserve,
        per_second: 0,
        searches: 0,
        window_ms: millis(settings.rate_limit_window),
        is_rolling: false,
        open_min_ms: millis(settings.breaker.open_min),
        open_max_ms: millis(settings.breaker.open_max),
        probe_every_ms: millis(settings.paused_probe),
        in_hand_ms: millis(settings.timeout.min(IN_HAND_MAX)),
    }
}

/// Reads the headers of an answer that came at `now`. Values that are missing, unreadable or impossible become `None`.
pub(super) fn read(headers: &HeaderMap, now: Timestamp) -> Limits {
    let number = |name: &'static str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    let date = retry_after::date(headers, now);
    let reset = number("x-ratelimit-reset").filter(|seconds| *seconds > 0);
    let window_end = reset.and_then(|seconds| seconds.checked_mul(1000)).map(Timestamp::from_millis);
    Limits {
        limit: number("x-ratelimit-limit").filter(|limit| *limit > 0),
        remaining: number("x-ratelimit-remaining").map(|remaining| remaining.max(0)),
        window_end: window_end.map(|end| (end, end.since(date))).filter(|(_, lasts)| *lasts <= MAX_WAIT),
        retry_after: retry_after::read(headers, now),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use reqwest::header::HeaderName;

    use super::*;

    const DATE_SENT: &str = "Tue, 04 Mar 2025 15:22:41 GMT";

    fn headers(pairs: &[(&'static str, &str)]) -> Limits {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        read(&map, now())
    }

    fn now() -> Timestamp {
        // Our clock is an hour ahead of theirs.
        Timestamp::parse("2025-03-04T16:22:41Z").unwrap()
    }

    #[test]
    fn retry_after_is_read_in_every_form() {
        for (sent, seconds) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("007", Some(7)),
            ("1.5", Some(2)),
            ("900", Some(900)),
            ("901", Some(900)),
            ("86400000", Some(900)),
            ("99999999999999999999999", Some(900)),
            ("Tue, 04 Mar 2025 15:22:51 GMT", Some(10)),
            ("Tuesday, 04-Mar-25 15:22:51 GMT", Some(10)),
            ("Tue Mar  4 15:22:51 2025", Some(10)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(900)),
            ("Tue, 04 Mar 2025 15:22:41 GMT", None),
            ("Mon, 03 Mar 2025 15:22:41 GMT", None),
            ("0", None),
            ("-5", None),
            ("+5", None),
            ("5s", None),
            ("1e3", None),
            (".", None),
            ("soon", None),
            ("", None),
        ] {
            let read = headers(&[("retry-after", sent), ("date", DATE_SENT)]).retry_after;
            assert_eq!(read, seconds.map(Duration::from_secs), "{sent:?}");
        }
    }

    #[test]
    fn without_a_date_our_own_clock_counts() {
        let read = headers(&[("retry-after", "Tue, 04 Mar 2025 16:22:44 GMT")]);

        assert_eq!(read.retry_after, Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_window_lasts_until_its_reset_by_their_clock() {
        let reset = |after: i64| (now().as_millis() / 1000 - 3600 + after).to_string();
        for (reset, seconds) in [
            (reset(30), Some(30)),
            (reset(0), Some(0)),
            (reset(-30), Some(0)),
            (reset(900), Some(900)),
            (reset(901), None),
            (i64::MAX.to_string(), None),
            ("soon".to_owned(), None),
            ("0".to_owned(), None),
        ] {
            let read = headers(&[("x-ratelimit-reset", &reset), ("date", DATE_SENT)]);
            let lasts = read.window_end.map(|(_, lasts)| lasts);
            assert_eq!(lasts, seconds.map(Duration::from_secs), "{reset}");
        }
    }

    #[test]
    fn numbers_are_taken_only_where_they_make_sense() {
        let read = headers(&[("x-ratelimit-limit", "1000"), ("x-ratelimit-remaining", "987")]);
        assert_eq!((read.limit, read.remaining), (Some(1000), Some(987)));

        let read = headers(&[("x-ratelimit-limit", "0"), ("x-ratelimit-remaining", "many")]);
        assert_eq!((read.limit, read.remaining), (None, None));
    }

    proptest! {
        #[test]
        fn no_header_makes_us_wait_longer_than_the_cap(retry in "\\PC{0,40}", remaining in "\\PC{0,12}", reset in "[0-9]{0,30}") {
            let mut map = HeaderMap::new();
            for (name, value) in [("retry-after", &retry), ("x-ratelimit-remaining", &remaining), ("x-ratelimit-reset", &reset)] {
                if let Ok(value) = value.parse() {
                    map.insert(HeaderName::from_static(name), value);
                }
            }
            let limits = read(&map, now());
            prop_assert!(limits.retry_after.is_none_or(|wait| wait <= MAX_WAIT));
            prop_assert!(limits.window_end.is_none_or(|(_, lasts)| lasts <= MAX_WAIT));
        }
    }
}
