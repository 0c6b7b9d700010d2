//! Checks that a body comes from TextUs. `X-TextUs-Signature` is the hexadecimal HMAC-SHA256 of the raw body, keyed
//! with the webhook secret as literal text (<https://apidocs.next.textus.com/overview/webhooks/webhooks-setup/>). The
//! scheme signs no time, so a repeat is recognised later by its id and not refused here.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use hookline_common::secret::Secret;
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use crate::sources::{Refused, Verified};

/// The signature header, in lower case as header maps have it.
pub const HEADER: &str = "x-textus-signature";

const MAC_BYTES: usize = 32;

/// The webhook secrets that are accepted now; there are several while one is being replaced.
pub struct Secrets {
    /// One keyed HMAC per secret. Each check starts from a copy.
    keyed: Vec<Hmac<Sha256>>,
}

impl Secrets {
    /// # Panics
    /// Never: HMAC takes keys of every length.
    #[must_use]
    pub fn new(secrets: &[Secret]) -> Self {
        let keyed = |secret: &Secret| {
            Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of every length")
        };
        Self { keyed: secrets.iter().map(keyed).collect() }
    }

    /// Returns `body` as verified if the only value in `signatures` is its signature under one of the secrets.
    /// Upper-case digits and surrounding spaces are accepted. A second value is refused, since it would be unclear
    /// which one counts.
    ///
    /// # Errors
    /// [`Refused::Missing`] if there is no value at all, else [`Refused::Mismatch`].
    pub fn verify<'h>(
        &self,
        mut signatures: impl Iterator<Item = &'h [u8]>,
        body: Bytes,
    ) -> Result<Verified<Bytes>, Refused> {
        let sent = signatures.next().ok_or(Refused::Missing)?;
        if signatures.next().is_some() {
            return Err(Refused::Mismatch);
        }
        let mut sent_mac = [0; MAC_BYTES];
        hex::decode_to_slice(sent.trim_ascii(), &mut sent_mac).map_err(|_| Refused::Mismatch)?;

        // Every secret is tried, even after a match, so that the duration doesn't reveal which one is in use.
        let matches = self.keyed.iter().fold(Choice::from(0), |found, keyed| {
            let mac = keyed.clone().chain_update(&body).finalize().into_bytes();
            found | mac.as_slice().ct_eq(&sent_mac)
        });
        if bool::from(matches) { Ok(Verified::vouched_for(body)) } else { Err(Refused::Mismatch) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Vectors {
        #[serde(rename = "webhookSecret")]
        secret: String,
        signatures: BTreeMap<String, String>,
    }

    fn vectors() -> (Secret, Vec<(String, Bytes, String)>) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/textus");
        let vectors: Vectors = serde_json::from_slice(&std::fs::read(folder.join("signatures.json")).unwrap()).unwrap();
        let files = vectors.signatures.into_iter().map(|(file, signature)| {
            let body = std::fs::read(folder.join(&file)).unwrap();
            (file, Bytes::from(body), signature)
        });
        (Secret::new(vectors.secret), files.collect())
    }

    fn verdict(secrets: &[Secret], signatures: &[&str], body: &Bytes) -> Result<(), Refused> {
        let signatures = signatures.iter().map(|text| text.as_bytes());
        Secrets::new(secrets).verify(signatures, body.clone()).map(|verified| assert_eq!(verified.get(), body))
    }

    #[test]
    fn every_published_vector_verifies_as_sent_in_upper_case_and_padded() {
        let (secret, vectors) = vectors();
        assert!(!vectors.is_empty());

        for (file, body, signature) in &vectors {
            for sent in [signature.clone(), signature.to_uppercase(), format!(" \t{signature}  ")] {
                assert_eq!(verdict(std::slice::from_ref(&secret), &[&sent], body), Ok(()), "{file}: {sent:?}");
            }
        }
    }

    #[test]
    fn either_of_two_secrets_verifies_and_a_third_does_not() {
        let (secret, vectors) = vectors();
        let (_, body, signature) = &vectors[0];
        let other = Secret::new("another secret");

        assert_eq!(verdict(&[other.clone(), secret.clone()], &[signature], body), Ok(()));
        assert_eq!(verdict(&[secret, other.clone()], &[signature], body), Ok(()));
        assert_eq!(verdict(&[other.clone(), other], &[signature], body), Err(Refused::Mismatch));
        assert_eq!(verdict(&[], &[signature], body), Err(Refused::Mismatch));
    }

    #[test]
    fn anything_but_the_one_right_value_is_a_mismatch() {
        let (secret, vectors) = vectors();
        let (_, body, signature) = &vectors[0];
        let secrets = [secret];
        let mut flipped = signature.clone().into_bytes();
        flipped[63] ^= 1;
        let flipped = String::from_utf8(flipped).unwrap();
        let doubled = format!("{signature}{signature}");
        let prefixed = format!("sha256={signature}");
        let listed = format!("{signature}, {signature}");

        for wrong in ["", " ", "00", &signature[..62], &signature[1..], &flipped, &doubled, &prefixed, &listed, "zz"] {
            assert_eq!(verdict(&secrets, &[wrong], body), Err(Refused::Mismatch), "{wrong:?}");
        }
        assert_eq!(verdict(&secrets, &[signature, signature], body), Err(Refused::Mismatch));
        assert_eq!(verdict(&secrets, &[], body), Err(Refused::Missing));
    }

    #[test]
    fn one_changed_byte_of_the_body_is_a_mismatch() {
        let (secret, vectors) = vectors();
        let (_, body, signature) = &vectors[0];
        let secrets = [secret];

        for at in [0, body.len() / 2, body.len() - 1] {
            let mut changed = body.to_vec();
            changed[at] ^= 1;
            assert_eq!(verdict(&secrets, &[signature], &changed.into()), Err(Refused::Mismatch));
        }
        assert_eq!(verdict(&secrets, &[signature], &body.slice(..body.len() - 1)), Err(Refused::Mismatch));
    }
}
