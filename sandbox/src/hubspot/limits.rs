//! The three limits: per rolling interval, per second for searches, and per day.
//! <https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines>

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hyper::header::HeaderName;
use jiff::Timestamp;

use super::options::HubSpotOptions;

/// Requests of a rolling interval.
#[derive(Debug, Default)]
struct Rolling(VecDeque<Instant>);

impl Rolling {
    /// Returns whether another request fits in, and forgets those that are over.
    fn has_room(&mut self, (limit, interval): (u32, Duration), now: Instant) -> bool {
        self.0.retain(|at| now.saturating_duration_since(*at) < interval);
        self.used() < limit
    }

    fn used(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Limits {
    all: Rolling,
    searches: Rolling,
    day: i64,
    today: u32,
}

impl Limits {
    /// Counts a request, or returns the policy that refuses it. A refused request doesn't count.
    pub(crate) fn count(&mut self, options: &HubSpotOptions, is_search: bool) -> Result<(), &'static str> {
        let now = Instant::now();
        let day = Timestamp::now().as_second() / 86_400;
        if day != self.day {
            (self.day, self.today) = (day, 0);
        }
        if self.today >= options.daily_limit {
            return Err("DAILY");
        }
        // The vendor doesn't say whether a search counts here too; that it does is harder on a client.
        if !self.all.has_room(options.rate_limit, now) {
            return Err("TEN_SECONDLY_ROLLING");
        }
        if is_search {
            if !self.searches.has_room(options.search_limit, now) {
                return Err("SECONDLY");
            }
            self.searches.0.push_back(now);
        }
        self.all.0.push_back(now);
        self.today += 1;
        Ok(())
    }

    /// Counts searches of the customer's other apps, which share the limit.
    pub(crate) fn spend_searches(&mut self, count: usize) {
        self.searches.0.extend(std::iter::repeat_n(Instant::now(), count));
    }

    pub(crate) fn new_day(&mut self) {
        self.today = 0;
    }

    /// Returns the headers of an answer. Searches have none.
    pub(crate) fn headers(&self, options: &HubSpotOptions) -> Vec<(HeaderName, String)> {
        let (limit, interval) = options.rate_limit;
        let mut headers = vec![
            (HeaderName::from_static("x-hubspot-ratelimit-max"), limit.to_string()),
            (
                HeaderName::from_static("x-hubspot-ratelimit-remaining"),
                limit.saturating_sub(self.all.used()).to_string(),
            ),
            (HeaderName::from_static("x-hubspot-ratelimit-interval-milliseconds"), interval.as_millis().to_string()),
        ];
        if options.daily_headers {
            let left = options.daily_limit.saturating_sub(self.today);
            headers.push((HeaderName::from_static("x-hubspot-ratelimit-daily"), options.daily_limit.to_string()));
            headers.push((HeaderName::from_static("x-hubspot-ratelimit-daily-remaining"), left.to_string()));
        }
        headers
    }
}
