//! The faults that can happen to a request. [`crate::FaultRule`] decides which requests they happen to.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::answer::MEDIA_TYPE;
use crate::shapes;

/// What happens to a request instead of its normal answer, or in addition to it.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers at once and carries nothing out. The headers are added to the usual ones and replace those of the same
    /// name. A status below 200 is sent as an interim head, and the connection is closed after it, so a client that
    /// waits for the final answer gets none. 101 is final for a client that knows no upgrade.
    Status { status: u16, headers: Vec<(String, String)>, body: Option<String> },
    /// Answers 429 with exactly this `Retry-After`; nothing is carried out.
    Throttle { retry_after: String },
    /// Sends nothing for this long, then resets the connection; nothing is carried out.
    Hang(Duration),
    /// Carries the request out at once and answers this much later.
    Slow(Duration),
    /// Resets the connection without an answer; nothing is carried out.
    Reset,
    /// Carries the request out, then resets the connection without an answer.
    EffectThenReset,
    /// Carries the request out, sends nothing for this long, then resets the connection.
    EffectThenHang(Duration),
    /// Carries the request out only after this long, even if the client has stopped waiting, then resets the connection
    /// without an answer.
    LateEffect(Duration),
    /// Carries the request out, then answers this status without a body.
    EffectThenStatus(u16),
    /// Carries the request out, then answers with this body.
    EffectThenBody { status: u16, media_type: String, body: Bytes },
    /// Carries the request out and answers as usual, but sends an interim head (102, 103) before the answer.
    Interim(u16),
    /// Carries the request out and answers 200 with something that is not JSON.
    GarbageBody,
    /// Carries the request out and answers 200 with this many bytes of JSON.
    HugeBody(u64),
    /// Carries the request out and answers, but a text in the JSON ends in the escape of half an emoji (`\ud83d`). Some
    /// readers accept this JSON, for others it is an error.
    LoneSurrogate,
    /// Carries the request out and answers, but a text in the JSON ends in the first bytes of an emoji, which are not
    /// valid UTF-8.
    CutUtf8,
    /// Carries the request out and answers, but cuts the connection in the middle of the body.
    TruncatedBody,
    /// Carries the request out and answers, sending one byte of the body after each of these pauses.
    DripBody(Duration),
    /// In addition to any other fault, delays the answer, or the end without one, by this much. Several delays add up.
    Delay(Duration),
    /// In addition to any other fault, compresses the body, although no client asks for that.
    Gzip,
}

impl Fault {
    /// Makes a fault with a bare status: `Fault::status(503)`.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new(), body: None }
    }

    /// Makes a redirect as a proxy in maintenance sends it. Nothing is carried out.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        let headers = vec![("Location".to_owned(), location.to_owned())];
        Self::Status { status, headers, body: None }
    }

    /// Makes a 200 with an HTML page for people. Nothing is carried out.
    #[must_use]
    pub fn maintenance_page() -> Self {
        Self::unasked("text/html; charset=utf-8", "<!doctype html><title>Back soon</title><p>We are working on it.")
    }

    /// Makes a 200 with the `OptOut` of this number (E.164), whatever was asked. Nothing is carried out.
    #[must_use]
    pub fn opt_out_of(account: &str, phone: &str) -> Self {
        let body = shapes::opt_out_of_another(account, phone);
        Self::unasked(MEDIA_TYPE, &body.to_string())
    }

    /// Makes a 200 with a resource that no endpoint returns. Nothing is carried out.
    #[must_use]
    pub fn another_resource() -> Self {
        let body = json!({ "@type": "Account", "@context": "/contexts/Account.jsonld", "id": "/accounts/elsewhere" });
        Self::unasked(MEDIA_TYPE, &body.to_string())
    }

    fn unasked(media_type: &str, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), media_type.to_owned())];
        Self::Status { status: 200, headers, body: Some(body.to_owned()) }
    }

    /// Returns whether the request still has its effect.
    pub(crate) fn carries_out(&self) -> bool {
        match self {
            Self::Status { .. } | Self::Throttle { .. } | Self::Hang(_) | Self::Reset | Self::LateEffect(_) => false,
            Self::Slow(_)
            | Self::EffectThenReset
            | Self::EffectThenHang(_)
            | Self::EffectThenStatus(_)
            | Self::EffectThenBody { .. }
            | Self::Interim(_)
            | Self::GarbageBody
            | Self::HugeBody(_)
            | Self::LoneSurrogate
            | Self::CutUtf8
            | Self::TruncatedBody
            | Self::DripBody(_)
            | Self::Delay(_)
            | Self::Gzip => true,
        }
    }

    /// Returns whether the API's own answer is sent complete, however late.
    pub(crate) fn leaves_answer(&self) -> bool {
        matches!(self, Self::Slow(_) | Self::Interim(_) | Self::DripBody(_) | Self::Delay(_))
    }

    /// Returns whether the fault acts in addition to another one, not instead of it.
    pub(crate) fn comes_besides(&self) -> bool {
        matches!(self, Self::Delay(_) | Self::Gzip)
    }
}
