//! Closed by the destination's rate limit: until `Retry-After`, or until its window ends. Pure but for jitter: the
//! caller brings the clock, a monotonic one, so that a wall clock that is set does not open anything early.

use std::time::Duration;

use tokio::time::Instant;

/// The vendor's advice where `Retry-After` is absent: 1, 2, 4, 8 s and so on
/// (<https://apidocs.next.textus.com/overview/rate_limiting>).
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Added at random, so that several processes do not come back together.
const JITTER: f64 = 0.25;

#[derive(Debug, Default)]
pub(super) struct Throttle {
    closed_until: Option<Instant>,
    /// Counts 429s that were not expected: what a permit was issued under tells whether its 429 is news.
    closings: u64,
    /// 429s since the last call that went through.
    in_a_row: u32,
}

impl Throttle {
    /// How long calls are still held; `None`: not at all.
    pub(super) fn closed_for(&self, now: Instant) -> Option<Duration> {
        self.closed_until?.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    /// What a permit given now is issued under.
    pub(super) fn closings(&self) -> u64 {
        self.closings
    }

    /// A 429 was answered to a call whose permit was issued under `issued`. Returns how long calls are held, and
    /// whether that is news: the calls that were on their way when the first 429 came all get one.
    pub(super) fn too_many(&mut self, now: Instant, asked: Option<Duration>, issued: u64) -> (Duration, bool) {
        let news = issued == self.closings;
        if news {
            self.closings += 1;
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
        self.close_for(now, asked.unwrap_or_else(|| backoff(self.in_a_row)));
        (self.closed_for(now).unwrap_or_default(), news)
    }

    /// A call went through.
    pub(super) fn went_through(&mut self, issued: u64) {
        if issued == self.closings {
            self.in_a_row = 0;
        }
    }

    /// Holds calls for `wait`, or for as long as they are held already.
    pub(super) fn close_for(&mut self, now: Instant, wait: Duration) {
        let until = now + wait;
        if self.closed_until.is_none_or(|current| current < until) {
            self.closed_until = Some(until);
        }
    }
}

fn backoff(in_a_row: u32) -> Duration {
    let doublings = in_a_row.saturating_sub(1).min(16);
    let wait = (BACKOFF_FIRST * 2_u32.pow(doublings)).min(BACKOFF_MAX);
    wait.mul_f64(1.0 + JITTER * rand::random::<f64>()).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_retry_after_the_wait_doubles_to_a_minute() {
        let mut throttle = Throttle::default();
        let mut now = Instant::now();
        for least in [1, 2, 4, 8, 16, 32, 60, 60] {
            let (wait, news) = throttle.too_many(now, None, throttle.closings());
            assert!(news);
            assert!(
                wait >= SECOND * least && wait <= (SECOND * least).mul_f64(1.25).min(BACKOFF_MAX),
                "{least} {wait:?}"
            );
            now += wait;
            assert_eq!(throttle.closed_for(now), None);
        }

        throttle.went_through(throttle.closings());
        let (wait, _) = throttle.too_many(now, None, throttle.closings());
        assert!(wait < SECOND * 2, "{wait:?}");
    }

    #[test]
    fn calls_that_were_on_their_way_count_once() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let issued = throttle.closings();

        let news: Vec<bool> = (0..32).map(|_| throttle.too_many(now, None, issued).1).collect();
        throttle.went_through(issued);

        assert_eq!(news.iter().filter(|news| **news).count(), 1);
        assert!(throttle.closed_for(now).unwrap() <= SECOND.mul_f64(1.25));
        assert_eq!(throttle.in_a_row, 1);
    }

    #[test]
    fn a_closing_is_never_shortened() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        throttle.close_for(now, SECOND * 10);
        throttle.close_for(now, SECOND * 3);

        assert_eq!(throttle.closed_for(now + SECOND * 9), Some(SECOND));
        assert_eq!(throttle.closed_for(now + SECOND * 10), None);
    }
}
