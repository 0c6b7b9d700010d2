//! What an answer's status says of the destination, whatever was asked. A status that is not known to be final is tried
//! again: a redirect to a maintenance page for two seconds must not make dead letters.

/// What an answer says of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// 2xx.
    Success,
    /// Another status that came from behind the check of credentials.
    Worked,
    /// 403: of one resource, or of the credentials.
    Forbidden,
    /// A status that is tried again.
    Failed,
    TooMany,
    /// 401.
    Refused,
    NoAnswer,
}

/// What an answer with this status says of the destination.
pub(crate) fn meaning(status: u16) -> Meaning {
    match status {
        200..300 => Meaning::Success,
        401 => Meaning::Refused,
        403 => Meaning::Forbidden,
        429 => Meaning::TooMany,
        _ if is_final(status) => Meaning::Worked,
        _ => Meaning::Failed,
    }
}

/// Whether another try would be answered the same way.
pub(crate) fn is_final(status: u16) -> bool {
    matches!(status, 400 | 404 | 409 | 410 | 413 | 414 | 415 | 422)
}

/// Whether the destination says by this status that it did nothing: 421, 423, 425 and 429 are answered before a request
/// is carried out (<https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20>, <https://www.rfc-editor.org/rfc/rfc4918#section-11.3>,
/// <https://www.rfc-editor.org/rfc/rfc8470#section-5.2>, <https://www.rfc-editor.org/rfc/rfc6585#section-4>).
pub(crate) fn nothing_was_done(status: u16) -> bool {
    matches!(status, 421 | 423 | 425 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_final_is_not_tried_again() {
        for status in 100..=999 {
            let expected = match status {
                200..300 => Meaning::Success,
                400 | 404 | 409 | 410 | 413 | 414 | 415 | 422 => Meaning::Worked,
                401 => Meaning::Refused,
                403 => Meaning::Forbidden,
                429 => Meaning::TooMany,
                _ => Meaning::Failed,
            };
            assert_eq!(meaning(status), expected, "{status}");
        }
    }
}
