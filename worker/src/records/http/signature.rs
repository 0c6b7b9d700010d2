//! Standard Webhooks signatures
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookline_common::secret::Secret;
use hookline_common::signing_key::signing_key;
use hookline_common::time::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The keys that sign, in the order of the settings. It has no `Debug`, because all of it is secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys(Arc<[Vec<u8>]>);

impl Keys {
    /// # Errors
    /// When there is no secret, or one is no key.
    pub(super) fn of(secrets: &[Secret]) -> anyhow::Result<Self> {
        anyhow::ensure!(!secrets.is_empty(), "[system_of_record.http] secrets are not set");
        let keys: Result<Vec<_>, _> = secrets.iter().map(|secret| signing_key(secret.expose())).collect();
        Ok(Self(keys.map_err(|error| anyhow::anyhow!("[system_of_record.http] secrets has {error}"))?.into()))
    }

    /// Returns the headers of a document that is sent at `now`.
    pub(super) fn headers(&self, id: &str, body: &[u8], now: Timestamp) -> HeaderMap {
        let seconds = (now.as_millis() / 1_000).to_string();
        let signatures: Vec<String> = self.0.iter().map(|key| sign(key, id, &seconds, body)).collect();
        let headers = [(ID, id), (TIMESTAMP, &seconds), (SIGNATURE, &signatures.join(" "))];
        // All three are ASCII by their making.
        headers.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?))).collect()
    }
}

fn sign(key: &[u8], id: &str, seconds: &str, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tests of the reference libraries, which the specification names.
    const SECRETS: [&str; 2] = ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];

    fn keys(secrets: &[&str]) -> Keys {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        Keys::of(&secrets).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_published_signatures_are_ours() {
        for (secret, id, seconds, body, expected) in [
            (
                SECRETS[0],
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
            (
                SECRETS[1],
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ] {
            let now = Timestamp::from_millis(seconds * 1_000 + 999);
            let headers = keys(&[secret]).headers(id, body.as_bytes(), now);

            assert_eq!(headers[ID], id);
            assert_eq!(headers[TIMESTAMP], seconds.to_string());
            assert_eq!(headers[SIGNATURE], expected);
        }
    }

    #[test]
    fn every_secret_signs_and_the_first_comes_first() {
        let now = Timestamp::from_millis(1_649_367_553_000);
        let by = |secrets: &[&str]| keys(secrets).headers("doc_1", b"{}", now)[SIGNATURE].clone();
        let [first, second] = SECRETS.map(|secret| by(&[secret]));

        let both = by(&SECRETS);

        assert_eq!(both, format!("{} {}", first.to_str().unwrap(), second.to_str().unwrap()));
    }

    #[test]
    fn a_secret_that_is_no_key_is_told_without_it() {
        for secrets in [&[][..], &["whsec_short"], &[SECRETS[0], "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"]] {
            let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
            let Err(error) = Keys::of(&secrets) else { panic!("{secrets:?}") };
            let told = error.to_string();
            assert!(told.starts_with("[system_of_record.http] secrets"), "{told}");
            assert!(!told.contains("short") && !told.contains("c2Vj"), "{told}");
        }
    }
}
