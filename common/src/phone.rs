//! Phone numbers: E.164 inside Hookline, masked wherever somebody could see them who did not ask for them.

use std::fmt;
use std::sync::Arc;

/// A phone number in E.164 (`+12025550147`). `Debug` and [`Phone::masked`] hide all but the last two digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phone(Arc<str>);

/// The longest text that is read as a number, without the prefix and invisible characters.
const MAX_CHARS: usize = 48;
/// The longest extension. More digits behind a number are another number.
const MAX_EXTENSION_DIGITS: usize = 9;
/// Words that people and programs write before a number, in lower case.
const PREFIXES: [&str; 6] = ["tel", "phone", "mobile", "cell", "sms", "callto"];
/// The marks before an extension, in lower case, the longest first.
const EXTENSIONS: [&str; 6] = ["extension", "extn", "ext", "x", "#", "*"];

impl Phone {
    /// Reads a phone number that came as a JSON number, which has lost its plus. Only eleven digits that start with 1
    /// are then a +1 number; ten digits may belong to a number from abroad.
    #[must_use]
    pub fn of_number(number: &serde_json::Number) -> Option<Self> {
        let digits = number.to_string();
        (digits.len() == 11 && digits.starts_with('1')).then(|| Self::parse(&digits))?
    }

    /// Reads a number in any usual form, including what people write around it: an extension (which is no part of
    /// E.164), `tel:`, marks of writing direction, dashes and spaces of any alphabet. Without a `+`, ten digits, or
    /// eleven that start with 1, are taken for a number of the North American plan (docs/textus-api.md, "Phone
    /// numbers"). Returns `None` if the text has no number, or more than one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = plain(text);
        let text = without_prefix(text.trim());
        if text.chars().count() > MAX_CHARS {
            return None;
        }
        let end = text.find(|c: char| !c.is_ascii_digit() && !" +-().".contains(c)).unwrap_or(text.len());
        let (number, rest) = text.split_at(end);
        if !is_extension(rest) {
            return None;
        }
        let is_international = match number.split_once('+') {
            None => false,
            // "(+65) 6123 4567" is a number too, but a text with a plus between digits is not.
            Some((before, after)) if before.contains(|c: char| c.is_ascii_digit()) || after.contains('+') => {
                return None;
            }
            Some(_) => true,
        };
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        // We check only the length: test ranges, and newly opened ranges, are real numbers to the people who own them.
        match digits.len() {
            10 if !is_international => Some(Self(format!("+1{digits}").into())),
            11 if digits.starts_with('1') => Some(Self(format!("+{digits}").into())),
            _ if is_international && !digits.starts_with('1') => Self::from_abroad(&digits),
            _ => None,
        }
    }

    /// Reads an international number. Checks for a plausible length and country code, not `is_valid`, for the same
    /// reason.
    fn from_abroad(digits: &str) -> Option<Self> {
        let parsed = phonenumber::parse(None, format!("+{digits}")).ok()?;
        let e164 = parsed.format().mode(phonenumber::Mode::E164).to_string();
        ((8..=16).contains(&e164.len()) && !e164.starts_with("+1")).then(|| Self(e164.into()))
    }

    #[must_use]
    pub fn as_e164(&self) -> &str {
        &self.0
    }

    /// All digits, including the country code.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0[1..]
    }

    /// The ten digits after `+1`; `None` for a number outside the North American plan.
    #[must_use]
    pub fn plus_one(&self) -> Option<&str> {
        self.0.strip_prefix("+1")
    }

    /// The digits after the country code, leading zeros included.
    #[must_use]
    pub fn national_digits(&self) -> &str {
        if let Some(ten) = self.plus_one() {
            return ten;
        }
        let code = phonenumber::parse(None, self.as_e164()).ok().map(|parsed| parsed.code().value().to_string());
        code.and_then(|code| self.digits().strip_prefix(code.as_str())).unwrap_or(self.digits())
    }

    /// The form of `q` in searches, which match part of a number. Never a form that reads as somebody else's +1 number:
    /// if a foreign number has ten digits in all, only the last nine.
    #[must_use]
    pub fn search_digits(&self) -> &str {
        match self.plus_one() {
            Some(ten) => ten,
            None if reads_as_plus_one(self.digits()) => &self.digits()[1..],
            None => self.digits(),
        }
    }

    /// The form of `phones[].number` in the Contacts API: `1-202-555-0147` for +1 numbers, E.164 otherwise.
    #[must_use]
    pub fn dashed(&self) -> String {
        match self.plus_one() {
            Some(ten) => format!("1-{}-{}-{}", &ten[..3], &ten[3..6], &ten[6..]),
            None => self.0.to_string(),
        }
    }

    /// The form in which people write a number with its country, such as `+44 20 7946 0958`.
    #[must_use]
    pub fn spaced(&self) -> String {
        let parsed = phonenumber::parse(None, self.as_e164()).ok();
        let spaced = parsed.map(|parsed| parsed.format().mode(phonenumber::Mode::International).to_string());
        spaced.unwrap_or_else(|| self.0.to_string())
    }

    /// `+1********47`.
    #[must_use]
    pub fn masked(&self) -> String {
        let digits = &self.0[1..];
        let (hidden, shown) = digits.split_at(digits.len() - 2);
        format!("+{}{}{shown}", &hidden[..1], "*".repeat(hidden.len() - 1))
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// Whether bare digits, without a plus, form a number of the North American plan.
#[must_use]
pub fn reads_as_plus_one(digits: &str) -> bool {
    digits.len() == 10 || (digits.len() == 11 && digits.starts_with('1'))
}

/// Removes invisible characters, and replaces the signs of other alphabets and of typography with ASCII.
fn plain(text: &str) -> String {
    let seen = |c: char| match c {
        // Soft hyphen, zero width, marks and isolates of writing direction, byte order mark.
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => None,
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => Some('-'),
        '\u{ff08}' => Some('('),
        '\u{ff09}' => Some(')'),
        '\u{ff0b}' => Some('+'),
        '\u{ff0e}' | '\u{b7}' => Some('.'),
        // Full-width digits.
        '\u{ff10}'..='\u{ff19}' => char::from_digit(u32::from(c) - 0xff10, 10),
        c if c.is_whitespace() => Some(' '),
        c => Some(c),
    };
    text.chars().filter_map(seen).collect()
}

fn without_prefix(text: &str) -> &str {
    let lower = text.to_ascii_lowercase();
    let rest = PREFIXES.iter().find_map(|prefix| lower.strip_prefix(prefix));
    // We remove the prefix only if the word ends there.
    match rest.filter(|rest| rest.starts_with([':', '.', ' ', '+', '('])) {
        Some(rest) => text[text.len() - rest.len()..].trim_start_matches([':', '.', ' ', '/']),
        None => text,
    }
}

/// Whether the text behind the number is only an extension or punctuation.
fn is_extension(rest: &str) -> bool {
    let punctuation = |c: char| " ,;:.=-()".contains(c);
    let lower = rest.trim_start_matches(punctuation).to_ascii_lowercase();
    let marked = EXTENSIONS.iter().find_map(|mark| lower.strip_prefix(mark));
    let digits =
        marked.unwrap_or(&lower).trim_start_matches(punctuation).trim_end_matches([' ', ')', '.', ',', ';', '#']);
    digits.len() <= MAX_EXTENSION_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_in_the_vendors_examples_is_one_number() {
        for text in [
            "+12025550147",
            "2025550147",
            "12025550147",
            "1-202-555-0147",
            "(202) 555-0147",
            "1-202-555-0147 x318",
            " +1 202.555.0147 ",
        ] {
            assert_eq!(Phone::parse(text).expect(text).as_e164(), "+12025550147", "{text}");
        }
    }

    #[test]
    fn a_number_is_written_with_spaces_and_stays_the_same() {
        for (text, spaced) in [("+442079460958", "+44 20 7946 0958"), ("+6561234567", "+65 6123 4567")] {
            assert_eq!(Phone::parse(text).expect(text).spaced(), spaced);
            assert_eq!(Phone::parse(spaced), Phone::parse(text), "{spaced}");
        }
    }

    #[test]
    fn a_national_number_has_no_country_code() {
        for (text, digits) in [
            ("+14155550123", "4155550123"),
            ("+442079460958", "2079460958"),
            ("+79161234567", "9161234567"),
            ("+6561234567", "61234567"),
            ("+35315550123", "15550123"),
        ] {
            assert_eq!(Phone::parse(text).expect(text).national_digits(), digits, "{text}");
        }
    }

    #[test]
    fn what_stands_around_a_number_is_understood() {
        for text in [
            "(202) 555-0147 ext. 12",
            "(202) 555-0147 ext 12",
            "(202) 555-0147 Ext.12",
            "(202) 555-0147, extension 12",
            "(202) 555-0147 extn: 12",
            "202-555-0147x3",
            "202-555-0147 X 3",
            "202-555-0147 #12",
            "202-555-0147,12",
            "202-555-0147,,12#",
            "202-555-0147,",
            "202-555-0147;ext=12",
            "202-555-0147 (ext. 12)",
            "tel:+1-202-555-0147",
            "tel:+1-202-555-0147;ext=12",
            "TEL: 202-555-0147",
            "tel://+12025550147",
            "Tel. (202) 555-0147",
            "mobile +12025550147",
            "\u{202a}+1 202 555 0147\u{202c}",
            "\u{2066}(202) 555\u{2011}0147\u{2069}",
            "202\u{2013}555\u{2212}0147",
            "+1\u{a0}202\u{a0}555\u{a0}0147",
            "\u{feff}202\u{200b}5550147",
            "\u{ff0b}\u{ff11}2025550147",
            "(+1) 202 555 0147",
        ] {
            assert_eq!(Phone::parse(text).expect(text).as_e164(), "+12025550147", "{text}");
        }
    }

    #[test]
    fn a_plus_decides_about_the_country_wherever_it_stands() {
        for (text, e164) in [
            ("+65 6123 4567", "+6561234567"),
            ("(+65) 6123 4567", "+6561234567"),
            ("tel:(+65) 6123 4567", "+6561234567"),
            ("+1 656 123 4567", "+16561234567"),
            ("656 123 4567", "+16561234567"),
            ("+45 20 12 34 56", "+4520123456"),
            ("+47 22 12 34 56", "+4722123456"),
            ("+64 21 123 456", "+6421123456"),
            ("+32 2 123 45 67", "+3221234567"),
            ("+372 512 3456", "+3725123456"),
            ("+354 611 1234", "+3546111234"),
            ("+670 7723 4567", "+67077234567"),
        ] {
            assert_eq!(Phone::parse(text).expect(text).as_e164(), e164, "{text}");
        }
    }

    #[test]
    fn what_names_no_number_is_refused() {
        for text in [
            "",
            "12-34",
            "hello",
            "+",
            "+1",
            "../../etc",
            "5550147",
            "202555014x7",
            "+999999999999999999",
            "+1 202 555 014",
            "+1 202 555 01477",
            "+11 202 555 0147",
            "202 555 0147 8",
            "12025+550147",
            "++12025550147",
            "telephone2025550147",
            "202-555-0147 / 202-555-0148",
            "202-555-0147, 202-555-0148",
            "202-555-0147 or 202-555-0148",
            "+1 202 555 0147 +1 202 555 0148",
            "1-800-555-CALL",
            "202-555-0147 Anna",
        ] {
            assert_eq!(Phone::parse(text), None, "{text}");
        }
    }

    #[test]
    fn each_path_gets_its_form_and_logs_get_none() {
        let phone = Phone::parse("+12025550147").expect("a number");
        assert_eq!(phone.plus_one(), Some("2025550147"));
        assert_eq!(phone.search_digits(), "2025550147");
        assert_eq!(phone.dashed(), "1-202-555-0147");
        assert_eq!(format!("{phone:?}"), "+1********47");

        let abroad = Phone::parse("+44 20 7946 0958").expect("a number");
        assert_eq!(abroad.as_e164(), "+442079460958");
        assert_eq!((abroad.plus_one(), abroad.digits()), (None, "442079460958"));
        assert_eq!(abroad.search_digits(), "442079460958");
        assert_eq!(abroad.dashed(), "+442079460958");

        let ten_in_all = Phone::parse("+65 6123 4567").expect("a number");
        assert_eq!(ten_in_all.search_digits(), "561234567");
        assert_eq!(ten_in_all.dashed(), "+6561234567");
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_read_is_e164_and_reads_as_itself(text in "\\PC{0,40}|[0-9 +().x#,;-]{0,30}") {
            if let Some(phone) = Phone::parse(&text) {
                prop_assert!(phone.as_e164().starts_with('+'));
                prop_assert!(phone.digits().bytes().all(|byte| byte.is_ascii_digit()));
                prop_assert!(phone.plus_one().is_none_or(|ten| ten.len() == 10));
                prop_assert!(!reads_as_plus_one(phone.search_digits()) || phone.plus_one().is_some());
                let again = Phone::parse(phone.as_e164());
                prop_assert_eq!(again.as_ref(), Some(&phone));
            }
        }
    }
}
