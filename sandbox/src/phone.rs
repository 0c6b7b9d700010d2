//! Phone numbers as the vendor's pages write them. Read here on purpose without the code that Hookline itself uses,
//! so that a mistake there is not repeated by what it is tested against.

use crate::route::Route;

/// A number as it was given in `phones[].number`: E.164 and, after an `x`, the extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) e164: String,
    pub(crate) extension: Option<String>,
}

impl Number {
    /// Reads `1-202-555-0162 x318`, `(202) 555-0147`, ten digits, eleven with a leading 1, or E.164; `None` for
    /// anything else.
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

/// The form of `/{account}/conversations/{phone}`: a plus and 8 to 15 digits, the first not zero; eleven where the
/// country code is 1.
pub(crate) fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        is_digits(digits)
            && (8..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && (!digits.starts_with('1') || digits.len() == 11)
    })
}

/// The number that `/{account}/opt_outs/{phone}` names: ten bare digits are one of +1, as on the vendor's pages, and E.164
/// with the plus encoded is itself. Nobody documents another form, so any other names none.
/// <https://apidocs.next.textus.com/docs/opt_outs/update>
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

/// `2025550147` for a +1 number, E.164 otherwise: bare digits of a number from abroad can be those of another one.
pub(crate) fn bare_digits(e164: &str) -> &str {
    e164.strip_prefix("+1").filter(|national| is_ten_digits(national)).unwrap_or(e164)
}

/// `(202) 555-0147` for a +1 number, E.164 otherwise.
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
