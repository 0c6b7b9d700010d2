//! What can happen to a request. Which requests meet it: [`crate::FaultRule`].

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::answer::MEDIA_TYPE;
use crate::shapes;

/// What happens to a request instead of, or besides, its normal answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answered at once, nothing carried out. The headers come on top of the usual ones and replace those they name.
    /// A status below 200 is sent as the interim head that it is, and the connection closed after it: a client that
    /// waits for the final answer gets none. 101 is final for a client that knows no upgrade.
    Status { status: u16, headers: Vec<(String, String)>, body: Option<String> },
    /// 429 with this `Retry-After`, word for word; nothing carried out.
    Throttle { retry_after: String },
    /// Nothing carried out and no answer for this long, then the connection is reset.
    Hang(Duration),
    /// Carried out at once, answered this much later.
    Slow(Duration),
    /// The connection is reset without an answer, nothing carried out.
    Reset,
    /// Carried out, then the connection is reset without an answer.
    EffectThenReset,
    /// Carried out, no answer for this long, then the connection is reset.
    EffectThenHang(Duration),
    /// No answer, and carried out only after this long, whoever has stopped waiting; then the connection is reset.
    LateEffect(Duration),
    /// Carried out, then answered with this status and no body.
    EffectThenStatus(u16),
    /// Carried out, then answered with this body.
    EffectThenBody { status: u16, media_type: String, body: Bytes },
    /// Carried out and answered as usual, with an interim head (102, 103) before the answer.
    Interim(u16),
    /// Carried out, answered 200 with something that is not JSON.
    GarbageBody,
    /// Carried out, answered 200 with this many bytes of JSON.
    HugeBody(u64),
    /// Carried out and answered, but a text in the JSON ends in the escape of half an emoji (`\ud83d`): legal JSON for
    /// some readers, an error for others.
    LoneSurrogate,
    /// Carried out and answered, but a text in the JSON ends in the first bytes of an emoji, which is no UTF-8.
    CutUtf8,
    /// Carried out and answered, but the connection is cut in the middle of the body.
    TruncatedBody,
    /// Carried out and answered, one byte of the body after each of these pauses.
    DripBody(Duration),
    /// Besides whatever else the request meets: its answer, or its end without one, comes this much later. Several
    /// add up.
    Delay(Duration),
    /// Besides whatever else the request meets: the body is compressed, though no client asks for that.
    Gzip,
}

impl Fault {
    /// A bare status: `Fault::status(503)`.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new(), body: None }
    }

    /// A redirect, as a proxy in maintenance sends it. Nothing is carried out.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        let headers = vec![("Location".to_owned(), location.to_owned())];
        Self::Status { status, headers, body: None }
    }

    /// 200 with a page for people. Nothing is carried out.
    #[must_use]
    pub fn maintenance_page() -> Self {
        Self::unasked("text/html; charset=utf-8", "<!doctype html><title>Back soon</title><p>We are working on it.")
    }

    /// 200 with the `OptOut` of this number (E.164), whatever was asked. Nothing is carried out.
    #[must_use]
    pub fn opt_out_of(account: &str, phone: &str) -> Self {
        let body = shapes::opt_out_of_another(account, phone);
        Self::unasked(MEDIA_TYPE, &body.to_string())
    }

    /// 200 with a resource that no endpoint answers. Nothing is carried out.
    #[must_use]
    pub fn another_resource() -> Self {
        let body = json!({ "@type": "Account", "@context": "/contexts/Account.jsonld", "id": "/accounts/elsewhere" });
        Self::unasked(MEDIA_TYPE, &body.to_string())
    }

    fn unasked(media_type: &str, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), media_type.to_owned())];
        Self::Status { status: 200, headers, body: Some(body.to_owned()) }
    }

    /// Whether the request has its effect all the same.
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

    /// Whether what is sent is the API's own answer, whole, however late.
    pub(crate) fn leaves_answer(&self) -> bool {
        matches!(self, Self::Slow(_) | Self::Interim(_) | Self::DripBody(_) | Self::Delay(_))
    }

    /// Whether it comes besides another fault rather than instead of one.
    pub(crate) fn comes_besides(&self) -> bool {
        matches!(self, Self::Delay(_) | Self::Gzip)
    }
}
