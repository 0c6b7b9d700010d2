//! Reads the tracing headers of a request: a request id for answers and logs, and the W3C trace context. The headers
//! come from strangers, so only values of a known, harmless form are kept.

use actix_web::http::header::{HeaderMap, HeaderName};

pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const MAX_BYTES: usize = 64;

/// Returns the sender's request id if it is sane (1 to 64 of `[A-Za-z0-9._-]`), else a new random one.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let sent = headers.get(HEADER).and_then(|value| value.to_str().ok());
    match sent.filter(|sent| is_sane(sent)) {
        Some(sent) => sent.to_owned(),
        None => hex::encode(rand::random::<[u8; 16]>()),
    }
}

/// Returns the `traceparent` header if it is well-formed (<https://www.w3.org/TR/trace-context/#traceparent-header>).
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let sent = headers.get(TRACEPARENT)?.to_str().ok()?;
    is_traceparent(sent).then(|| sent.to_owned())
}

fn is_sane(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !id.is_empty() && id.len() <= MAX_BYTES && id.bytes().all(allowed)
}

fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    match parts[..] {
        [version, trace, parent, flags] => {
            is_hex(version, 2)
                && version != "ff"
                && is_hex(trace, 32)
                && !is_zero(trace)
                && is_hex(parent, 16)
                && !is_zero(parent)
                && is_hex(flags, 2)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_traceparent_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(good));
        for bad in [
            "",
            "00",
            &good.to_uppercase(),
            &good.replace("00-0a", "ff-0a"),
            &good[..54],
            &format!("{good}-x"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

    #[test]
    fn only_short_plain_ids_are_taken_over() {
        assert!(is_sane("req-1.a_B"));
        for bad in ["", "a b", "a\"b", "é", &"x".repeat(65)] {
            assert!(!is_sane(bad), "{bad}");
        }
    }
}
