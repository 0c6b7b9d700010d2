//! People's numbers: at home and abroad, and the ways in which they are written.

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// Country codes whose numbers have ten digits in all, so that they read as a number at home: with the digits after it.
const LIKE_HOME: [(&str, u32); 8] =
    [("+65", 8), ("+45", 8), ("+47", 8), ("+64", 8), ("+32", 8), ("+372", 7), ("+354", 7), ("+670", 7)];
const OTHERS: [(&str, u32); 3] = [("+44", 10), ("+49", 10), ("+33", 9)];
/// What these numbers start with, so that any plan takes them.
const FIRST_DIGITS: [(&str, &str); 11] = [
    ("+65", "6123"),
    ("+45", "2012"),
    ("+47", "4061"),
    ("+64", "2112"),
    ("+32", "2512"),
    ("+372", "512"),
    ("+354", "611"),
    ("+670", "772"),
    ("+44", "770090"),
    ("+49", "151234"),
    ("+33", "61234"),
];

/// A number abroad, most often one whose digits are somebody else's at home.
pub(crate) fn abroad(rng: &mut StdRng) -> String {
    let from: &[(&str, u32)] = if rng.random_bool(0.75) { &LIKE_HOME } else { &OTHERS };
    let (code, length) = *from.choose(rng).expect("there are some");
    let first = FIRST_DIGITS.iter().find(|(of, _)| *of == code).map_or("", |(_, digits)| digits);
    let mut number = format!("{code}{first}");
    while number.len() < code.len() + length as usize {
        number.push(char::from(b'0' + rng.random_range(0..10)));
    }
    number
}

/// The number at home whose ten digits these are, if there is one.
pub(crate) fn its_double(abroad: &str) -> Option<String> {
    let digits = abroad.strip_prefix('+')?;
    // No area code starts with 0 or 1.
    (digits.len() == 10 && digits.as_bytes()[0] >= b'2').then(|| format!("+1{digits}"))
}

/// Area code, exchange and line of a number at home.
fn national(e164: &str) -> Option<(&str, &str, &str)> {
    let digits = e164.strip_prefix("+1").filter(|digits| digits.len() == 10)?;
    Some((&digits[..3], &digits[3..6], &digits[6..]))
}

/// What stands around a number, and between its digits, where people or their programs write it.
pub(crate) fn oddly_written(rng: &mut StdRng, e164: &str) -> String {
    match (national(e164), rng.random_range(0..8)) {
        (Some((area, office, line)), 0) => format!("({area}) {office}-{line} ext. 12"),
        (Some((area, office, line)), 1) => format!("1-{area}-{office}-{line} x3"),
        (Some((area, office, line)), 2) => format!("({area}) {office}-{line} #12"),
        (Some((area, office, line)), 3) => format!("+1 {area}\u{2011}{office}\u{2011}{line}"),
        (Some((area, office, line)), 4) => format!("{area}\u{a0}{office}\u{a0}{line},"),
        (_, 5) => format!("\u{202a}{e164}\u{202c}"),
        (_, 6) => format!("{e164},"),
        _ => format!("tel:{e164}"),
    }
}

/// The last segment of `optOut.id`, in the forms that the vendor's pages show, and bare.
pub(crate) fn opt_out_id(rng: &mut StdRng, e164: &str) -> Option<String> {
    match rng.random_range(0..4) {
        0 => Some(e164.to_owned()),
        1 => Some(e164.trim_start_matches('+').to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn numbers_from_abroad_have_their_length_and_most_a_double_at_home() {
        let mut rng = StdRng::seed_from_u64(1);
        let numbers: Vec<String> = (0..500).map(|_| abroad(&mut rng)).collect();
        for number in &numbers {
            assert!(
                number[1..].bytes().all(|byte| byte.is_ascii_digit()) && (11..14).contains(&number.len()),
                "{number}"
            );
        }
        let doubles: Vec<String> = numbers.iter().filter_map(|number| its_double(number)).collect();
        assert!(doubles.len() > 300 && doubles.iter().all(|double| double.len() == 12), "{}", doubles.len());
        assert_eq!(its_double("+6561234567").as_deref(), Some("+16561234567"));
        assert_eq!(its_double("+442079460958"), None);
    }
}
