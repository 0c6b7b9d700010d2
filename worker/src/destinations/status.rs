//! What an answer's status says about the destination, whatever the call was. A status that isn't known to be final is
//! retried: a redirect to a maintenance page for two seconds must not create dead letters.

/// What an answer says about the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// 2xx.
    Success,
    /// Another status that shows the credentials passed.
    Worked,
    /// 403: about one resource, or about the credentials.
    Forbidden,
    /// A status that is retried.
    Failed,
    TooMany,
    /// 401.
    Refused,
    NoAnswer,
}

/// Returns what an answer with this status says about a destination with these final statuses.
pub(crate) fn meaning(status: u16, is_final: fn(u16) -> bool) -> Meaning {
    match status {
        200..300 => Meaning::Success,
        401 => Meaning::Refused,
        403 => Meaning::Forbidden,
        429 => Meaning::TooMany,
        _ if is_final(status) => Meaning::Worked,
        _ => Meaning::Failed,
    }
}

/// Returns whether another try would get the same answer from an API whose documents do not say so themselves.
pub(crate) fn is_final(status: u16) -> bool {
    matches!(status, 400 | 404 | 409 | 410 | 413 | 414 | 415 | 422)
}

/// Returns whether the status of a failure that is retried says that the destination did nothing. 400 and 409 are retried
/// only where the body says that another try may succeed. 421, 423, 425 and 429 are answered before a
/// request is carried out (<https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20>,
/// <https://www.rfc-editor.org/rfc/rfc4918#section-11.3>, <https://www.rfc-editor.org/rfc/rfc8470#section-5.2>,
/// <https://www.rfc-editor.org/rfc/rfc6585#section-4>).
pub(crate) fn nothing_was_done(status: u16) -> bool {
    matches!(status, 400 | 409 | 421 | 423 | 425 | 429)
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
            assert_eq!(meaning(status, is_final), expected, "{status}");
        }
    }
}
