//! Finds a phone number in running text, in the forms that people write, and masks it.

use std::ops::Range;

use crate::phone::{Phone, reads_as_plus_one};

/// How many characters may stand between two digits of one number: `) -`.
const MOST_BETWEEN: usize = 3;

/// The written forms of one number.
pub struct Written {
    /// The digits of each form, the longest first, and whether a `+` must stand before them.
    forms: Vec<(String, bool)>,
    needle: String,
}

/// Whether backslashes and quotes have their meaning in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    Plain,
    Json,
}

/// The positions of one occurrence's digits, and whether they are inside a JSON string.
struct Found {
    digits: Vec<usize>,
    quoted: bool,
}

impl Written {
    #[must_use]
    pub fn new(phone: &Phone) -> Self {
        let all = phone.digits();
        let mut forms = vec![(format!("011{all}"), false), (format!("00{all}"), false)];
        // Bare digits that read as a +1 number belong to somebody else.
        forms.push((all.to_owned(), phone.plus_one().is_none() && reads_as_plus_one(all)));
        if let Some(ten) = phone.plus_one() {
            forms.push((ten.to_owned(), false));
        }
        // Within a country people write a zero instead of the country code.
        if let Some(national) = national(phone) {
            forms.push((format!("0{national}"), false));
        }
        // People keep the last four digits of a +1 number together, and elsewhere at least the last two.
        let together = if phone.plus_one().is_some() { 4 } else { 2 };
        Self { forms, needle: all[all.len() - together..].to_owned() }
    }

    /// A text that is part of every text with the number, for a first, cheap search.
    #[must_use]
    pub fn needle(&self) -> &str {
        &self.needle
    }

    #[must_use]
    pub fn is_in(&self, text: &[u8], kind: Text) -> bool {
        !self.find(text, kind).is_empty()
    }

    /// The text without the number: its digits become `*`, or another number if JSON has it as a number. `None` if the
    /// number isn't there.
    #[must_use]
    pub fn masked(&self, text: &[u8], kind: Text) -> Option<Vec<u8>> {
        let found = self.find(text, kind);
        if found.is_empty() {
            return None;
        }
        let mut masked = text.to_vec();
        for one in found {
            for (place, at) in one.digits.into_iter().enumerate() {
                masked[at] = match (one.quoted, place) {
                    (true, _) => b'*',
                    (false, 0) => b'1',
                    (false, _) => b'0',
                };
            }
        }
        Some(masked)
    }

    fn find(&self, text: &[u8], kind: Text) -> Vec<Found> {
        let mut found = Vec::new();
        let (mut at, mut quoted, mut after_digit) = (0, kind == Text::Plain, false);
        while let Some(&byte) = text.get(at) {
            match byte {
                b'\\' if kind == Text::Json => {
                    at += if text.get(at + 1) == Some(&b'u') { 6 } else { 2 };
                    after_digit = false;
                    continue;
                }
                b'"' if kind == Text::Json => quoted = !quoted,
                b'0'..=b'9' if !after_digit => {
                    if let Some(digits) = self.starts_at(text, at) {
                        at = digits.last().map_or(at, |last| last + 1);
                        found.push(Found { digits, quoted });
                        after_digit = true;
                        continue;
                    }
                }
                _ => {}
            }
            after_digit = byte.is_ascii_digit();
            at += 1;
        }
        found
    }

    fn starts_at(&self, text: &[u8], at: usize) -> Option<Vec<usize>> {
        let after_plus = at.checked_sub(1).and_then(|before| text.get(before)) == Some(&b'+');
        self.forms
            .iter()
            .filter(|(_, needs_plus)| after_plus || !needs_plus)
            .find_map(|(form, _)| digits_of(form, text, at))
    }
}

fn national(phone: &Phone) -> Option<String> {
    if phone.plus_one().is_some() {
        return None;
    }
    let parsed = phonenumber::parse(None, phone.as_e164()).ok()?;
    let code = parsed.code().value().to_string();
    phone.digits().strip_prefix(&code).map(str::to_owned)
}

/// The positions of the form's digits, if it is written from `at` on and no digit follows.
fn digits_of(form: &str, text: &[u8], at: usize) -> Option<Vec<usize>> {
    let mut places = Vec::with_capacity(form.len());
    let mut next = at;
    for (place, digit) in form.bytes().enumerate() {
        if place > 0 {
            for _ in 0..MOST_BETWEEN {
                next = between(text, next).unwrap_or(next);
            }
        }
        if text.get(next) != Some(&digit) {
            return None;
        }
        places.push(next);
        next += 1;
    }
    (!text.get(next).is_some_and(u8::is_ascii_digit)).then_some(places)
}

/// The position after a character that may stand between two digits.
fn between(text: &[u8], at: usize) -> Option<usize> {
    const ESCAPES: [Range<u32>; 5] = [0xa0..0xa1, 0x200b..0x2016, 0x202f..0x2030, 0x2212..0x2213, 0xad..0xae];
    let is_sign = |code: u32| ESCAPES.iter().any(|signs| signs.contains(&code));
    match text.get(at)? {
        b' ' | b'-' | b'.' | b'/' | b'(' | b')' | b'\t' => Some(at + 1),
        b'\\' => match text.get(at + 1)? {
            b'/' | b't' => Some(at + 2),
            b'u' => {
                let code = std::str::from_utf8(text.get(at + 2..at + 6)?).ok()?;
                is_sign(u32::from_str_radix(code, 16).ok()?).then_some(at + 6)
            }
            _ => None,
        },
        0xc2 => is_sign(u32::from(*text.get(at + 1)?)).then_some(at + 2),
        0xe2 => {
            let (one, two) = (u32::from(*text.get(at + 1)?), u32::from(*text.get(at + 2)?));
            is_sign(0x2000 | ((one & 0x3f) << 6) | (two & 0x3f)).then_some(at + 3)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(number: &str) -> Written {
        Written::new(&Phone::parse(number).expect("a number"))
    }

    fn masked(number: &str, text: &str, kind: Text) -> Option<String> {
        written(number).masked(text.as_bytes(), kind).map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn a_number_is_masked_in_every_usual_form() {
        for text in [
            "+12025550147",
            "2025550147",
            "12025550147",
            "(202) 555-0147",
            "202-555-0147",
            "202.555.0147",
            "1-202-555-0147",
            "+1 (202) 555-0147",
            "202 555 0147",
            "202/555/0147",
            "001 202 555 0147",
            "202\u{a0}555\u{2011}0147",
            "tel:2025550147;ext=3",
        ] {
            let around = format!("Call {text}, or 303-555-0160.");
            let expected = format!(
                "Call {}, or 303-555-0160.",
                text.replace(|c: char| c.is_ascii_digit(), "*").replace("ext=*", "ext=3")
            );
            assert_eq!(masked("+12025550147", &around, Text::Plain).as_deref(), Some(expected.as_str()), "{text}");
        }
        for text in ["+44 20 7946 0958", "0044 20 7946 0958", "442079460958", "020 7946 0958"] {
            let expected = text.replace(|c: char| c.is_ascii_digit(), "*");
            assert_eq!(masked("+442079460958", text, Text::Plain), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_numbers_stay() {
        for (number, text) in [
            ("+12025550147", "20255501471"),
            ("+12025550147", "992025550147"),
            ("+12025550147", "202-555-0148"),
            ("+12025550147", "202, 555, 0147"),
            ("+442079460958", "2079460958"),
            ("+6561234567", "6561234567"),
        ] {
            assert_eq!(masked(number, text, Text::Plain), None, "{number} {text}");
        }
        assert!(masked("+6561234567", "+65 6123 4567", Text::Plain).is_some());
    }

    #[test]
    fn json_stays_json() {
        for (text, expected) in [
            (r#"{"a":"\u00e92025550147"}"#, r#"{"a":"\u00e9**********"}"#),
            (r#"{"a":"202\u00a0555\/0147"}"#, r#"{"a":"***\u00a0***\/****"}"#),
            (r#"{"a":2025550147,"b":"\"2025550147"}"#, r#"{"a":1000000000,"b":"\"**********"}"#),
        ] {
            assert_eq!(masked("+12025550147", text, Text::Json).as_deref(), Some(expected));
        }
        assert_eq!(masked("+12025550147", r#"{"a":"\u2025550147"}"#, Text::Json), None, "an escape is no digit");
    }

    proptest! {
        #[test]
        fn what_is_masked_is_not_found_again_and_json_is_read_as_before(
            before in "[a-z \"\\\\é+0-9]{0,6}", form in 0..4_usize, after in "[a-z \"\\\\é.-]{0,6}"
        ) {
            let form = ["+12025550147", "(202) 555-0147", "202.555.0147", "1-202-555-0147"][form];
            let text = format!("{before}{form}{after}");
            let number = written("+12025550147");
            if let Some(masked) = number.masked(text.as_bytes(), Text::Plain) {
                prop_assert!(!number.is_in(&masked, Text::Plain));
            }
            let body = serde_json::json!({"n": 2_025_550_147_u64, "text": text}).to_string();
            let masked = number.masked(body.as_bytes(), Text::Json).expect("it is there");
            prop_assert!(!number.is_in(&masked, Text::Json));
            let read: serde_json::Value = serde_json::from_slice(&masked).expect("JSON");
            prop_assert_eq!(read["text"].as_str().map(|text| text.chars().count()), Some(text.chars().count()));
        }
    }
}
