//! HubSpot's limits: a number of calls in any ten seconds, which headers report, a number per day, and five searches a
//! second, which nothing reports and which all apps of the account share
//! (<https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines>,
//! <https://developers.hubspot.com/docs/api-reference/latest/crm/search-the-crm>).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hookline_common::settings::HubSpotSettings;
use hookline_common::time::{Timestamp, millis};
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::destinations::limits::{GateRules, Limits, MAX_WAIT};
use crate::destinations::priority::Priority;

/// The interval of the limit if an answer does not say.
const WINDOW: Duration = Duration::from_secs(10);
/// Longest time that a call waits in hand for its turn, whatever the call's time-out.
const IN_HAND_MAX: Duration = Duration::from_secs(8);
/// Searches of all processes within [`SECOND`].
const SEARCHES: u32 = 5;
/// Fraction of the calls that is left to opt-outs. It never shrinks, as no window ends.
const RESERVE: f64 = 0.02;
/// The lowest documented number of calls in ten seconds.
pub(super) const DOCUMENTED: (u64, Duration) = (100, WINDOW);
/// [`BACK_FILL_SEARCHES`] and the time that they are made in.
pub(super) const BACK_FILL_SEARCHES_IN: (u64, Duration) = (BACK_FILL_SEARCHES as u64, SECOND);
/// Searches that are not for an opt-out.
const OTHER_SEARCHES: u32 = 4;
/// Searches of a back-fill.
const BACK_FILL_SEARCHES: u32 = 3;
/// How long after its turn a search for an opt-out goes before all others.
const KEPT: Duration = Duration::from_millis(200);
/// A little more than a second, since searches take differently long on their way.
const SECOND: Duration = Duration::from_millis(1100);
/// Deliveries that were refused a search come back over this time at most.
const SPREAD_MAX: Duration = Duration::from_secs(30);

/// Returns the rules of HubSpot's gate.
pub(super) fn rules(settings: &HubSpotSettings) -> GateRules {
    GateRules {
        reserve: RESERVE,
        window_ms: millis(WINDOW),
        is_rolling: true,
        open_min_ms: 5_000,
        open_max_ms: 60_000,
        probe_every_ms: 60_000,
        in_hand_ms: millis(in_hand(settings.timeout)),
        per_second: 0,
    }
}

/// Returns how long a call with this time-out waits in hand for its turn.
pub(super) fn in_hand(timeout: Duration) -> Duration {
    timeout.min(IN_HAND_MAX)
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

/// Counts this process's searches. Clones share the count. While several processes call HubSpot, each has an even share,
/// and one search at the least.
#[derive(Clone, Default)]
pub(super) struct SearchLimit(Arc<Mutex<Searches>>);

#[derive(Default)]
struct Searches {
    made: VecDeque<Instant>,
    /// When the next search has room that nobody waits for.
    room_at: Option<Instant>,
    /// Until when a search for an opt-out that waits goes first.
    kept_until: Option<Instant>,
}

/// A search that asks for its turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    pub(super) priority: Priority,
    /// How many processes call HubSpot now, this one included.
    pub(super) processes: u32,
    /// Whether the search has waited in hand, or its attempt has made another one. It goes before those that begin.
    pub(super) has_begun: bool,
}

impl SearchLimit {
    /// Counts a search that is made now.
    ///
    /// # Errors
    /// How long to wait where it would be one too many. Deliveries that wait are told different times, so that they do
    /// not come back together.
    pub(super) fn take(&self, search: Search) -> Result<(), Duration> {
        self.searches().take(Instant::now(), search)
    }

    /// Says whether a search has room now, and counts none.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn room(&self, search: Search) -> Result<(), Duration> {
        self.searches().room(Instant::now(), search)
    }

    fn searches(&self) -> MutexGuard<'_, Searches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Searches {
    fn take(&mut self, now: Instant, search: Search) -> Result<(), Duration> {
        self.room(now, search)?;
        self.made.push_back(now);
        if search.priority == Priority::OptOut {
            self.kept_until = None;
        }
        Ok(())
    }

    fn room(&mut self, now: Instant, search: Search) -> Result<(), Duration> {
        let Search { priority, processes, has_begun } = search;
        // Of more processes than searches, each makes one in a longer time.
        let time = SECOND * processes.div_ceil(SEARCHES).max(1);
        self.made.retain(|at| now.duration_since(*at) < time);
        let all = match priority {
            Priority::OptOut => SEARCHES,
            Priority::Contact | Priority::Note => OTHER_SEARCHES,
            Priority::BackFill => BACK_FILL_SEARCHES,
        };
        let most = (all / processes.max(1)).max(1);
        let is_opt_out = priority == Priority::OptOut;
        let kept_until = self.kept_until.filter(|until| !is_opt_out && now < *until);
        if self.made.len() < most as usize && kept_until.is_none() {
            return Ok(());
        }
        let first = self.made.front().map_or(now, |at| *at + time).max(kept_until.unwrap_or(now));
        if is_opt_out {
            self.kept_until = Some(first + KEPT);
        }
        if is_opt_out || has_begun {
            return Err(first.duration_since(now));
        }
        let room_at = self.room_at.map_or(first, |at| at.max(first)).min(now + SPREAD_MAX);
        self.room_at = Some(room_at + time / most);
        Err(room_at.duration_since(now))
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

    fn search(priority: Priority, processes: u32) -> Search {
        Search { priority, processes, has_begun: false }
    }

    fn take(limit: &SearchLimit, now: Instant, search: Search) -> Result<(), Duration> {
        limit.searches().take(now, search)
    }

    #[test]
    fn searches_stay_within_five_a_second_and_opt_outs_have_one_of_their_own() {
        let (limit, now) = (SearchLimit::default(), Instant::now());
        let (note, opt_out) = (search(Priority::Note, 1), search(Priority::OptOut, 1));
        for _ in 0..OTHER_SEARCHES {
            assert_eq!(take(&limit, now, note), Ok(()));
        }
        assert!(take(&limit, now, note).is_err());
        assert_eq!(take(&limit, now, opt_out), Ok(()));
        let wait = take(&limit, now, opt_out).expect_err("one too many");
        assert!(wait >= Duration::from_secs(1));

        // The opt-out goes first when there is room again.
        assert!(take(&limit, now + wait, note).is_err());
        assert_eq!(take(&limit, now + wait, opt_out), Ok(()));
        assert_eq!(take(&limit, now + wait, note), Ok(()));
    }

    #[test]
    fn many_that_wait_come_back_over_a_longer_time() {
        let (limit, now, note) = (SearchLimit::default(), Instant::now(), search(Priority::Note, 1));
        let waits: Vec<Duration> = (0..40).filter_map(|_| take(&limit, now, note).err()).collect();

        assert!(waits.is_sorted_by(|a, b| *b >= *a + SECOND / OTHER_SEARCHES), "{waits:?}");
        // An attempt that has begun goes before all that have not.
        let begun = Search { has_begun: true, ..note };
        assert!(take(&limit, now, begun).is_err_and(|wait| wait <= SECOND));
        // Each of them has room when it comes back.
        assert!(waits.iter().all(|wait| take(&limit, now + *wait, note).is_ok()));
    }

    #[test]
    fn processes_share_five_searches_a_second() {
        for processes in 1..=12 {
            let start = Instant::now();
            let limits: Vec<_> = (0..processes).map(|_| SearchLimit::default()).collect();
            let mut made = 0;
            for ms in 0..44_000 {
                let now = start + Duration::from_millis(ms);
                let note = search(Priority::Note, processes);
                made += limits.iter().filter(|limit| take(limit, now, note).is_ok()).count();
                // More processes than searches may make them at once, and then none for a longer time.
                let most = processes.max(SEARCHES) as usize;
                assert!(ms >= 1_000 || made <= most, "{processes} processes made {made}");
            }

            let seconds = 44_000 / SECOND.as_millis();
            assert!(made as u128 <= u128::from(SEARCHES) * seconds, "{processes} processes made {made}");
            assert!(made as u128 >= seconds * 2, "{processes} processes made {made}");
        }
    }
}
