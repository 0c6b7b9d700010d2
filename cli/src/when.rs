//! Parses and formats points in time and durations.

use std::time::Duration;

use hookline_common::time::Timestamp;

/// Parses RFC 3339, or a duration before `now` such as `2h` or `7d`.
pub(crate) fn parse_when(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(at) = Timestamp::parse(text) {
        return Ok(at);
    }
    parse_duration(text)
        .map(|ago| now.minus(ago))
        .ok_or_else(|| format!("{text:?} is not a time: give RFC 3339 (2026-03-04T15:24:18Z) or how long ago (2h, 7d)"))
}

/// [`parse_when`] relative to the current time, as a value parser for clap.
pub(crate) fn when(text: &str) -> Result<Timestamp, String> {
    parse_when(text, Timestamp::now())
}

/// Parses a whole number followed by `ms`, `s`, `m`, `h`, `d` or `w`.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Formats a duration in its two largest units: `2d 3h`, `4m 5s`, `12s`.
pub(crate) fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, size) in units {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_how_long_ago() {
        let now = Timestamp::parse("2026-03-04T12:00:00Z").expect("a time");

        for (text, expected) in [
            ("2026-03-04T10:00:00Z", "2026-03-04T10:00:00.000Z"),
            ("2026-03-04T10:00:00+02:00", "2026-03-04T08:00:00.000Z"),
            ("2h", "2026-03-04T10:00:00.000Z"),
            ("90s", "2026-03-04T11:58:30.000Z"),
            ("7d", "2026-02-25T12:00:00.000Z"),
            ("250ms", "2026-03-04T11:59:59.750Z"),
        ] {
            assert_eq!(parse_when(text, now).map(|at| at.to_string()), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let now = Timestamp::EPOCH;
        for text in ["", "h", "2", "2 fortnights", "-2h", "yesterday", "99999999999999999999d", "18446744073709551615w"]
        {
            assert!(parse_when(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_in_two_units() {
        for (seconds, expected) in
            [(0, "0s"), (12, "12s"), (245, "4m 5s"), (3_600, "1h"), (183_600, "2d 3h"), (90_061, "1d 1h")]
        {
            assert_eq!(in_words(Duration::from_secs(seconds)), expected);
        }
    }
}
