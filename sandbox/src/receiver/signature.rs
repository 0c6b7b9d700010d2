//! Standard Webhooks signatures.
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::header::{HeaderMap, HeaderName};
use jiff::Timestamp;
use sha2::Sha256;

use crate::state::the_only;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Returns the value of `webhook-signature` for these bytes: `v1,` and base64.
///
/// # Panics
/// If the secret is not `whsec_` and base64.
#[must_use]
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> String {
    let mac = mac(secret, id, &timestamp.to_string(), body).expect("a secret of the form whsec_ and base64");
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Verifies a request and returns its `webhook-id`, or says what is wrong.
pub(crate) fn verify(
    headers: &HeaderMap,
    body: &[u8],
    secrets: &[String],
    tolerance: Duration,
) -> Result<String, &'static str> {
    let id = the_only(headers, &ID).filter(|id| !id.is_empty() && !id.contains('.'));
    let id = id.ok_or("webhook-id is missing, or holds a full stop")?;
    let timestamp = the_only(headers, &TIMESTAMP).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let timestamp = timestamp.ok_or("webhook-timestamp is missing, or no number")?;
    let signatures = the_only(headers, &SIGNATURE).ok_or("webhook-signature is missing")?;

    let is_signed = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|signature| {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        let macs = secrets.iter().filter_map(|secret| mac(secret, id, timestamp, body));
        macs.into_iter().any(|mac| mac.verify_slice(&signature).is_ok())
    });
    if !is_signed {
        return Err("no signature matches");
    }
    let seconds: i64 = timestamp.parse().map_err(|_| "webhook-timestamp is out of range")?;
    let distance = Timestamp::now().as_second().abs_diff(seconds);
    if distance > tolerance.as_secs() {
        return Err("webhook-timestamp is too far from now");
    }
    Ok(id.to_owned())
}

fn mac(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_agree() {
        // From the tests of the reference libraries, named by the specification.
        for (secret, id, timestamp, body, expected) in [
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ] {
            assert_eq!(sign(secret, id, timestamp, body.as_bytes()), expected, "{id}");
        }
    }
}
