//! Durations and sizes as people write them: `"1h30m"`, `"64KiB"`.

use std::time::Duration;

/// Largest first.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

pub(super) const DURATION_PATTERN: &str = "^(\\d+d)?(\\d+h)?(\\d+m)?(\\d+s)?(\\d+ms)?$";
pub(super) const SIZE_PATTERN: &str = "^\\d+(B|KiB|MiB|GiB|TiB)?$";

/// Reads whole numbers with units, larger units first and each at most once. Returns `None` for any other text.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = TIME_UNITS.iter();
    let mut millis: u64 = 0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        // Only smaller units may follow: "5s5s" and "5s1h" are typing errors, not sums.
        let (_, factor) = units.find(|(unit, _)| *unit == &rest[..letters])?;
        millis = millis.checked_add(number.checked_mul(*factor)?)?;
        rest = &rest[letters..];
        if rest.is_empty() {
            return Some(Duration::from_millis(millis));
        }
    }
}

/// Writes a duration in the largest unit that divides it.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let exact = TIME_UNITS.iter().find(|(_, factor)| millis.is_multiple_of(*factor));
    exact.map_or_else(|| format!("{millis}ms"), |(unit, factor)| format!("{}{unit}", millis / factor))
}

/// Reads a number of bytes, with or without a unit. Returns `None` for any other text.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" => 1,
        _ => SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

pub(super) fn show_size(bytes: u64) -> String {
    let exact = SIZE_UNITS.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    exact.map_or_else(|| format!("{bytes}B"), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in
            [("250ms", 250), ("5s", 5000), ("2h", 7_200_000), ("7d", 604_800_000), ("1h30m", 5_400_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "5 s", "-5s", "1.5s", "5S", "5sec", "5s5s", "5s1h", "99999999999999999999d", "5s "] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("64KiB", 65_536), ("1MiB", 1 << 20), ("4GiB", 4 << 30), ("512B", 512), ("512", 512)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "64KB", "64 KiB", "1.5MiB", "-1", "99999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_reads_back(millis in 0..u64::MAX / 2) {
            proptest::prop_assert_eq!(
                parse_duration(&show_duration(Duration::from_millis(millis))),
                Some(Duration::from_millis(millis))
            );
            proptest::prop_assert_eq!(parse_size(&show_size(millis)), Some(millis));
        }
    }
}
