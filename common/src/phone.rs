//! Phone numbers: E.164 inside, masked wherever a person who did not ask for them could see them.

use std::fmt;
use std::sync::Arc;

/// A phone number in E.164 (`+12025550147`). `Debug` and [`Phone::masked`] hide all but the last two digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phone(Arc<str>);

impl Phone {
    /// Reads a number in any usual form. Without a `+`, ten digits, or eleven starting with 1, are taken for a
    /// number of the North American plan (reference/textus-api.md section 14); `None` for what names no number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // An extension is no part of E.164: "1-202-555-0162 x318".
        let main = text.split(['x', 'X', ';']).next().unwrap_or_default().trim();
        if main.is_empty() || main.len() > 32 || !main.chars().all(|c| c.is_ascii_digit() || " +-().".contains(c)) {
            return None;
        }
        let digits: String = main.chars().filter(char::is_ascii_digit).collect();
        let international = if main.starts_with('+') {
            format!("+{digits}")
        } else {
            match digits.len() {
                10 => format!("+1{digits}"),
                11 if digits.starts_with('1') => format!("+{digits}"),
                _ => return None,
            }
        };
        // Plausible length and country code are asked for, not `is_valid`: test and newly opened ranges are real
        // numbers to the people who own them.
        let parsed = phonenumber::parse(None, &international).ok()?;
        let e164 = parsed.format().mode(phonenumber::Mode::E164).to_string();
        (8..=16).contains(&e164.len()).then(|| Self(e164.into()))
    }

    #[must_use]
    pub fn as_e164(&self) -> &str {
        &self.0
    }

    /// The form of the Opt Outs API's path and of `q`: ten digits for +1 numbers, all digits otherwise.
    #[must_use]
    pub fn ten_digits(&self) -> &str {
        let digits = &self.0[1..];
        if digits.len() == 11 { digits.strip_prefix('1').unwrap_or(digits) } else { digits }
    }

    /// The form of `phones[].number` in the Contacts API: `1-202-555-0147` for +1 numbers, E.164 otherwise.
    #[must_use]
    pub fn dashed(&self) -> String {
        let digits = self.ten_digits();
        if self.0.starts_with("+1") && digits.len() == 10 {
            format!("1-{}-{}-{}", &digits[..3], &digits[3..6], &digits[6..])
        } else {
            self.0.to_string()
        }
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

#[cfg(test)]
mod tests {
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
    fn what_names_no_number_is_refused() {
        for text in ["", "12-34", "hello", "+", "+1", "../../etc", "5550147", "202555014x7", "+999999999999999999"] {
            assert_eq!(Phone::parse(text), None, "{text}");
        }
    }

    #[test]
    fn each_path_gets_its_form_and_logs_get_none() {
        let phone = Phone::parse("+12025550147").expect("a number");
        assert_eq!(phone.ten_digits(), "2025550147");
        assert_eq!(phone.dashed(), "1-202-555-0147");
        assert_eq!(format!("{phone:?}"), "+1********47");

        let abroad = Phone::parse("+44 20 7946 0958").expect("a number");
        assert_eq!(abroad.as_e164(), "+442079460958");
        assert_eq!(abroad.ten_digits(), "442079460958");
        assert_eq!(abroad.dashed(), "+442079460958");
    }
}
