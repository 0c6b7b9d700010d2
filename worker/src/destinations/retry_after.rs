//! Reads `Retry-After` (<https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>). A date is compared with the answer's
//! own `Date`: our clock and theirs may differ, but the difference between two of their times is right.

use std::time::Duration;

use hookline_common::time::Timestamp;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

use super::limits::MAX_WAIT;

/// Returns how long an answer that came at `now` asks to wait; `None` if it doesn't, or says so in no known form.
pub(crate) fn read(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let wait = match text(headers, RETRY_AFTER).and_then(parse)? {
        RetryAfter::Wait(wait) => wait,
        RetryAfter::At(at) => at.since(date(headers, now)),
    };
    (!wait.is_zero()).then(|| wait.min(MAX_WAIT))
}

/// Returns the answer's `Date`, or `now` if it has none.
pub(crate) fn date(headers: &HeaderMap, now: Timestamp) -> Timestamp {
    text(headers, DATE).and_then(http_date).unwrap_or(now)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetryAfter {
    Wait(Duration),
    At(Timestamp),
}

/// Reads seconds or an HTTP date. A number too large for any clock is a long wait, not an error.
fn parse(text: &str) -> Option<RetryAfter> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(RetryAfter::Wait(Duration::from_secs(text.parse().unwrap_or(u64::MAX))));
    }
    // The RFC has no fractions, but servers send them: "1.5".
    if let Some((whole, fraction)) = text.split_once('.')
        && !whole.is_empty()
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
    {
        return Some(RetryAfter::Wait(Duration::from_secs(whole.parse().unwrap_or(u64::MAX).saturating_add(1))));
    }
    http_date(text).map(RetryAfter::At)
}

fn http_date(text: &str) -> Option<Timestamp> {
    let at = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::EPOCH.plus(at))
}
