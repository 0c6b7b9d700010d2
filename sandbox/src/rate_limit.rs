//! The vendor's rate limit: a number of requests per window and token, reported in three headers on every answer.
//! <https://apidocs.next.textus.com/overview/rate_limiting>

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::options::RetryAfterForm;

/// Counts requests in fixed windows. A window opens with the first request after the previous window's end.
#[derive(Debug, Default)]
pub struct RateLimiter {
    windows: HashMap<String, Window>,
}

#[derive(Debug)]
struct Window {
    ends: SystemTime,
    used: u32,
}

/// The quota of a token after one request.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    pub limit: u32,
    pub remaining: u32,
    /// The window's end in Unix seconds, rounded up, so that a client that waits until then is never early.
    pub reset: u64,
    /// Whether this request is over the limit.
    pub exceeded: bool,
    now: SystemTime,
}

impl RateLimiter {
    /// Counts one request. `who` is the token, or one fixed text for all requests without a valid token.
    pub fn count(&mut self, who: &str, (limit, window): (u32, Duration), now: SystemTime) -> Quota {
        if !self.windows.contains_key(who) {
            self.windows.insert(who.to_owned(), Window { ends: now, used: 0 });
        }
        let current = self.windows.get_mut(who).expect("it was inserted if it was missing");
        if current.ends <= now {
            *current = Window { ends: now + window, used: 0 };
        }
        let exceeded = current.used >= limit;
        if !exceeded {
            current.used += 1;
        }
        Quota { limit, remaining: limit.saturating_sub(current.used), reset: unix_ceil(current.ends), exceeded, now }
    }
}

impl Quota {
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("X-RateLimit-Limit", self.limit.to_string()),
            ("X-RateLimit-Remaining", self.remaining.to_string()),
            ("X-RateLimit-Reset", self.reset.to_string()),
        ]
    }

    /// Returns the value of `Retry-After`. In seconds it is whole, at least one, and never before the window's end.
    #[must_use]
    pub fn retry_after(&self, form: RetryAfterForm) -> Option<String> {
        match form {
            RetryAfterForm::Seconds => Some(self.seconds_left().to_string()),
            RetryAfterForm::HttpDate => Some(httpdate::fmt_http_date(self.end())),
            RetryAfterForm::Absent => None,
        }
    }

    /// Returns the value of `Retry-After` in seconds.
    #[must_use]
    pub fn seconds_left(&self) -> u64 {
        let left = self.end().duration_since(self.now).unwrap_or_default();
        (left.as_secs() + u64::from(left.subsec_nanos() > 0)).max(1)
    }

    fn end(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.reset)
    }
}

fn unix_ceil(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() + u64::from(since.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_gives_its_limit_once_and_the_next_one_again() {
        let mut limiter = RateLimiter::default();
        let limit = (2, Duration::from_secs(10));
        let start = UNIX_EPOCH + Duration::from_millis(1_000_500);

        assert_eq!(limiter.count("a", limit, start).remaining, 1);
        assert_eq!(limiter.count("a", limit, start).remaining, 0);
        let refused = limiter.count("a", limit, start + Duration::from_secs(9));
        assert!(refused.exceeded);
        assert_eq!(refused.reset, 1_011);
        assert_eq!(refused.retry_after(RetryAfterForm::Seconds).as_deref(), Some("2"));
        assert!(!limiter.count("b", limit, start).exceeded, "tokens are counted apart");
        assert!(!limiter.count("a", limit, start + Duration::from_secs(10)).exceeded);
    }
}
