//! Points in time as whole milliseconds since the Unix epoch, as the store, the queue and the headers hold them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z. Prints as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const EPOCH: Self = Self(0);

    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }

    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Reads ISO 8601 with `Z` or any offset, with or without fractions, because TextUs sends several forms
    /// (<https://apidocs.next.textus.com/docs/accounts/index>). `None` if the text is not a point in time.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.trim().parse::<jiff::Timestamp>().ok().map(|at| Self(at.as_millisecond()))
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later (clocks step back).
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        duration(self.0.saturating_sub(earlier.0))
    }
}

/// Converts to whole milliseconds; a duration that is too long becomes `i64::MAX`.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Converts from milliseconds; a negative number becomes zero.
#[must_use]
pub fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_textus_sends_is_the_same_instant() {
        let expected = Timestamp::parse("2025-03-04T15:24:18.540Z").expect("milliseconds, Z");

        for text in [
            "2025-03-04T15:24:18.540211Z",
            "2025-03-04T15:24:18.540211+00:00",
            "2025-03-04T10:24:18.540211-05:00",
            " 2025-03-04T15:24:18.540Z ",
        ] {
            assert_eq!(Timestamp::parse(text), Some(expected), "{text}");
        }
        assert_eq!(expected.to_string(), "2025-03-04T15:24:18.540Z");
    }

    #[test]
    fn what_names_no_instant_is_refused() {
        for text in ["", "yesterday", "2025-03-04", "2025-03-04T15:24:18", "1741101858"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
