//! Time zones by their IANA names (<https://www.iana.org/time-zones>). The rules are part of the program, so that a slim
//! image without a time-zone database knows the same zones.

use std::fmt;

use crate::time::Timestamp;

/// A time zone, such as `America/Chicago`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeZone(jiff::tz::TimeZone);

impl TimeZone {
    pub const UTC: Self = Self(jiff::tz::TimeZone::UTC);

    /// Reads an IANA name; `None` if no zone has it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim();
        if name.eq_ignore_ascii_case("utc") {
            return Some(Self::UTC);
        }
        jiff::tz::TimeZone::get(name).ok().map(Self)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Returns the local date: `2026-11-02`. A time that no calendar has falls on the first day of the epoch.
    #[must_use]
    pub fn day(&self, at: Timestamp) -> String {
        self.local(at).strftime("%Y-%m-%d").to_string()
    }

    /// Returns the local time of day: `09:31`.
    #[must_use]
    pub fn time_of_day(&self, at: Timestamp) -> String {
        self.local(at).strftime("%H:%M").to_string()
    }

    fn local(&self, at: Timestamp) -> jiff::ZonedDateTime {
        let at = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        at.to_zoned_datetime(self.0.clone())
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_at_local_midnight_through_a_change_of_clocks() {
        let chicago = TimeZone::parse("America/Chicago").unwrap();
        for (at, day, time) in [
            ("2026-11-01T04:59:59Z", "2026-10-31", "23:59"),
            ("2026-11-01T05:00:00Z", "2026-11-01", "00:00"),
            // The clocks go back at 02:00, so that this day has 25 hours.
            ("2026-11-01T07:30:00Z", "2026-11-01", "01:30"),
            ("2026-11-02T05:59:59Z", "2026-11-01", "23:59"),
            ("2026-11-02T06:00:00Z", "2026-11-02", "00:00"),
        ] {
            let at = Timestamp::parse(at).unwrap();
            assert_eq!((chicago.day(at).as_str(), chicago.time_of_day(at).as_str()), (day, time), "{at}");
        }
    }

    #[test]
    fn only_zones_that_exist_are_read() {
        assert_eq!(TimeZone::parse("utc"), Some(TimeZone::UTC));
        assert_eq!(TimeZone::parse(" Europe/Berlin ").unwrap().name(), "Europe/Berlin");
        for name in ["", "Mars/Olympus", "+01:00", "Europe"] {
            assert_eq!(TimeZone::parse(name), None, "{name:?}");
        }
    }
}
