//! HubSpot's limits: a number of calls in any ten seconds, which headers report, a number per day, and five searches a
//! second, which nothing reports and which all apps of the account share
//! (<https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines>,
//! <https://developers.hubspot.com/docs/api-reference/latest/crm/search-the-crm>).

use std::time::Duration;

use hookline_common::settings::HubSpotSettings;
use hookline_common::time::{Timestamp, millis};
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::destinations::limits::{GateRules, IN_HAND_MAX, Limits, MAX_WAIT};

/// The interval of the limit if an answer does not say.
const WINDOW: Duration = Duration::from_secs(10);
/// Searches a second, of all apps of the account.
pub(super) const SEARCHES: u32 = 5;
/// Fraction of the calls that stays unused. No more is left to opt-outs, which go first: in any tenth of a second some of
/// the calls no longer count.
const RESERVE: f64 = 0.01;
/// The lowest documented number of calls in ten seconds.
pub(super) const DOCUMENTED: (u64, Duration) = (100, WINDOW);

/// Returns the rules of HubSpot's gate.
pub(super) fn rules(settings: &HubSpotSettings) -> GateRules {
    GateRules {
        reserve: RESERVE,
        window_ms: millis(WINDOW),
        is_rolling: true,
        open_min_ms: 5_000,
        open_max_ms: 60_000,
        probe_every_ms: 60_000,
        in_hand_ms: millis(settings.timeout.min(IN_HAND_MAX)),
        per_second: 0,
        searches: SEARCHES,
    }
}

/// Reads the headers of an answer. The interval rolls, so the window of each answer ends one interval later.
pub(super) fn read(headers: &HeaderMap, now: Timestamp) -> Limits {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    let interval = number("x-hubspot-ratelimit-interval-milliseconds").and_then(|ms| u64::try_from(ms).ok());
    let interval = interval.map_or(WINDOW, Duration::from_millis).min(MAX_WAIT);
    let remaining = number("x-hubspot-ratelimit-remaining").map(|remaining| remaining.max(0));
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Limits {
        limit: number("x-hubspot-ratelimit-max").filter(|limit| *limit > 0),
        remaining,
        window_end: remaining.map(|_| (now.plus(interval), interval)),
        retry_after: seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT)).filter(|wait| !wait.is_zero()),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    #[test]
    fn the_rolling_interval_is_read_from_the_headers() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-hubspot-ratelimit-max", "190"),
            ("x-hubspot-ratelimit-remaining", "187"),
            ("x-hubspot-ratelimit-interval-milliseconds", "10000"),
        ] {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        let now = Timestamp::from_millis(5_000);

        let limits = read(&headers, now);

        assert_eq!((limits.limit, limits.remaining, limits.retry_after), (Some(190), Some(187), None));
        assert_eq!(limits.window_end, Some((Timestamp::from_millis(15_000), WINDOW)));
        assert_eq!(read(&HeaderMap::new(), now), Limits::default());
    }
}
