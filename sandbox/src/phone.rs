//! Parses and formats phone numbers as the vendor's pages write them. On purpose this module shares no code with
//! Hookline, so that a mistake there is not repeated in its tests.

use crate::route::Route;

/// A number as given in `phones[].number`: E.164 and, after an `x`, the extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) e164: String,
    pub(crate) extension: Option<String>,
}

impl Number {
    /// Reads `1-202-555-0162 x318`, `(202) 555-0147`, ten digits, eleven digits with a leading 1, or E.164. Returns
    /// `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (main, extension) = match text.split_once(['x', 'X']) {
            Some((main, extension)) => (main.trim(), Some(extension.trim().to_owned())),
            None => (text.trim(), None),
        };
        if extension.as_deref().is_some_and(|extension| !is_digits(extension)) {
            return None;
        }
        if !main.chars().all(|c| c.is_ascii_digit() || " +-().".contains(c)) {
            return None;
        }
        let digits: String = main.chars().filter(char::is_ascii_digit).collect();
        let e164 = match (main.starts_with('+'), digits.len()) {
            (true, _) => format!("+{digits}"),
            (false, 10) => format!("+1{digits}"),
            (false, 11) if digits.starts_with('1') => format!("+{digits}"),
            (false, _) => return None,
        };
        is_e164(&e164).then_some(Self { e164, extension })
    }
}

/// Returns whether the text has the form for `/{account}/conversations/{phone}`: a plus and 8 to 15 digits, the first
/// of them not zero, and eleven digits if the country code is 1.
pub(crate) fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        is_digits(digits)
            && (8..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && (!digits.starts_with('1') || digits.len() == 11)
    })
}

/// Returns the number that `/{account}/opt_outs/{phone}` names. Ten bare digits are a +1 number, as on the vendor's
/// pages, and E.164 with an encoded plus is taken as it is. The vendor documents no other form, so any other names no
/// number. <https://apidocs.next.textus.com/docs/opt_outs/update>
pub(crate) fn in_opt_out_path(route: &Route) -> Option<String> {
    let (raw, decoded) = (route.raw_parameter.as_str(), route.parameter.as_str());
    if is_ten_digits(raw) {
        return Some(format!("+1{raw}"));
    }
    let has_encoded_plus = raw.get(..3).is_some_and(|plus| plus.eq_ignore_ascii_case("%2B"));
    (has_encoded_plus && is_digits(&raw[3..]) && is_e164(decoded)).then(|| decoded.to_owned())
}

fn is_ten_digits(text: &str) -> bool {
    text.len() == 10 && is_digits(text)
}

pub(crate) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns `2025550147` for a +1 number and E.164 otherwise, because the bare digits of a foreign number could be those
/// of another number.
pub(crate) fn bare_digits(e164: &str) -> &str {
    e164.strip_prefix("+1").filter(|national| is_ten_digits(national)).unwrap_or(e164)
}

/// Returns `(202) 555-0147` for a +1 number and E.164 otherwise.
pub(crate) fn formatted(e164: &str) -> String {
    match bare_digits(e164) {
        digits if is_ten_digits(digits) => format!("({}) {}-{}", &digits[..3], &digits[3..6], &digits[6..]),
        _ => e164.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_vendors_examples_is_read() {
        for text in ["+12025550147", "2025550147", "12025550147", "1-202-555-0147", "(202) 555-0147"] {
            assert_eq!(Number::parse(text).expect(text).e164, "+12025550147", "{text}");
        }
        let with_extension = Number::parse("1-202-555-0162 x318").expect("a number");
        assert_eq!(with_extension.extension.as_deref(), Some("318"));
        assert_eq!(formatted(&with_extension.e164), "(202) 555-0162");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "12-34", "+1", "x12", "2025550147 x", "2025550147 xyz", "+0123456789", "tel 2025550147"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_from_abroad_is_never_shortened() {
        for abroad in ["+6561234567", "+4520123456", "+442079460958"] {
            assert_eq!((bare_digits(abroad), formatted(abroad).as_str()), (abroad, abroad));
        }
        assert_eq!(bare_digits("+16561234567"), "6561234567");
    }
}
