//! What an answer says of the destination, whatever was asked: by its status, and by what it tells of the rate limit. A
//! status that is not known to be final is tried again: a redirect to a maintenance page for two seconds must not make
//! dead letters.

use std::time::Duration;

use hookline_common::time::Timestamp;

use crate::gate::millis;

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

/// What an answer tells of the destination's rate limit; each `None` where the answer does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls for each window.
    pub limit: Option<i64>,
    /// Calls left in this window.
    pub remaining: Option<i64>,
    /// When the window ends, on the destination's clock, and how long it still lasts.
    pub window_end: Option<(Timestamp, Duration)>,
    pub retry_after: Option<Duration>,
}

/// What one answer tells of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowSeen {
    pub(crate) limit: i64,
    pub(crate) remaining: i64,
    /// Its end as sent, on the server's clock.
    pub(crate) reset_ms: i64,
    /// How long it still lasts by the answer's own `Date`; never too short.
    pub(crate) lasts_ms: i64,
}

impl Limits {
    /// `None` where the answer does not tell all of it.
    pub(crate) fn window(&self) -> Option<WindowSeen> {
        let (reset, lasts) = self.window_end?;
        let (reset_ms, lasts_ms) = (reset.as_millis(), millis(lasts));
        Some(WindowSeen { limit: self.limit?, remaining: self.remaining?, reset_ms, lasts_ms })
    }
}

/// What an answer with this status says of the destination.
pub(super) fn meaning(status: u16) -> Meaning {
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
pub(super) fn is_final(status: u16) -> bool {
    matches!(status, 400 | 404 | 409 | 410 | 413 | 414 | 415 | 422)
}

/// Whether the destination says by this status that it did nothing: 421, 423, 425 and 429 are answered before a request
/// is carried out (<https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20>, <https://www.rfc-editor.org/rfc/rfc4918#section-11.3>,
/// <https://www.rfc-editor.org/rfc/rfc8470#section-5.2>, <https://www.rfc-editor.org/rfc/rfc6585#section-4>).
pub(super) fn nothing_was_done(status: u16) -> bool {
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
