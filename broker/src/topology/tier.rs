//! The delays that a delivery can wait. Each has its own queue, because a queue gives out only the message at its head:
//! a message with its own expiry would wait behind one with a longer expiry (<https://www.rabbitmq.com/docs/ttl>).

use std::fmt;
use std::time::Duration;

/// The time that messages stay in a delay queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tier {
    name: &'static str,
    seconds: u64,
}

impl Tier {
    /// All tiers, shortest first.
    pub const ALL: &'static [Self] = &[
        Self { name: "1s", seconds: 1 },
        Self { name: "5s", seconds: 5 },
        Self { name: "15s", seconds: 15 },
        Self { name: "30s", seconds: 30 },
        Self { name: "1m", seconds: 60 },
        Self { name: "2m", seconds: 120 },
        Self { name: "5m", seconds: 300 },
        Self { name: "10m", seconds: 600 },
        Self { name: "30m", seconds: 1_800 },
        Self { name: "1h", seconds: 3_600 },
        Self { name: "3h", seconds: 10_800 },
        Self { name: "12h", seconds: 43_200 },
    ];
    pub const SHORTEST: Self = Self::ALL[0];
    pub const LONGEST: Self = Self::ALL[Self::ALL.len() - 1];

    /// The shortest tier that is at least `delay`, else the longest; the delivery then passes through several tiers.
    #[must_use]
    pub fn for_delay(delay: Duration) -> Self {
        Self::ALL.iter().copied().find(|tier| tier.time() >= delay).unwrap_or(Self::LONGEST)
    }

    /// The longest tier that is at most `delay`, or else the shortest.
    #[must_use]
    pub fn within(delay: Duration) -> Self {
        Self::ALL.iter().copied().rfind(|tier| tier.time() <= delay).unwrap_or(Self::SHORTEST)
    }

    /// The longest tier that ends at most a second after `delay`, which is as exact as tiers are. The delivery waits
    /// for the rest of the delay in further tiers.
    #[must_use]
    pub fn towards(delay: Duration) -> Self {
        Self::within(delay.saturating_add(Self::SHORTEST.time()))
    }

    #[must_use]
    pub const fn time(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_takes_the_shortest_tier_that_is_long_enough() {
        for (millis, tier) in [
            (0, "1s"),
            (1, "1s"),
            (1_000, "1s"),
            (1_001, "5s"),
            (16_000, "30s"),
            (3_600_000, "1h"),
            (3_600_001, "3h"),
            (43_200_000, "12h"),
            (43_200_001, "12h"),
            (u64::MAX, "12h"),
        ] {
            assert_eq!(Tier::for_delay(Duration::from_millis(millis)).name(), tier, "{millis} ms");
        }
    }

    #[test]
    fn the_longest_tier_within_a_delay_is_never_longer_than_it_but_for_the_shortest() {
        for (millis, tier) in [
            (0, "1s"),
            (4_999, "1s"),
            (5_000, "5s"),
            (14_999, "5s"),
            (170_000, "2m"),
            (43_200_000, "12h"),
            (u64::MAX, "12h"),
        ] {
            assert_eq!(Tier::within(Duration::from_millis(millis)).name(), tier, "{millis} ms");
        }
    }
    #[test]
    fn tiers_towards_a_delay_end_at_most_a_second_late_and_after_few_rounds() {
        for (millis, tier) in [(301_000, "5m"), (300_000, "5m"), (299_990, "5m"), (298_000, "2m"), (u64::MAX, "12h")] {
            assert_eq!(Tier::towards(Duration::from_millis(millis)).name(), tier, "{millis} ms");
        }
        // Every delay up to the longest that Retry-After may ask for.
        for delay in (0..9_000).step_by(7).map(|tenths| Duration::from_millis(tenths * 100)) {
            let (mut waited, mut rounds) = (Duration::ZERO, 0);
            while waited < delay {
                waited += Tier::towards(delay - waited).time();
                rounds += 1;
            }
            assert!(waited < delay + Duration::from_secs(1) + Duration::from_millis(1), "{waited:?} for {delay:?}");
            assert!(rounds <= 12, "{rounds} for {delay:?}");
        }
    }
}
