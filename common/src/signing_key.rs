//! The key of a Standard Webhooks signature, as its secret spells it
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// What a secret begins with. The bytes behind it are the key in base64, not the key itself.
pub const PREFIX: &str = "whsec_";
/// The fewest bytes that the specification allows.
const LEAST_BYTES: usize = 24;

/// Why a secret is none. No text of it shows any part of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    #[error("a secret without \"whsec_\" at its beginning")]
    NoPrefix,
    #[error("a secret whose part behind \"whsec_\" is not base64")]
    NoBase64,
    #[error("a secret with a key of {0} bytes, and 24 is the least")]
    TooShort(usize),
}

/// Returns the bytes that sign.
///
/// # Errors
/// When the secret is not `whsec_` and base64 of at least 24 bytes.
pub fn signing_key(secret: &str) -> Result<Vec<u8>, NoKey> {
    let encoded = secret.strip_prefix(PREFIX).ok_or(NoKey::NoPrefix)?;
    // Some generators leave the padding out.
    let key = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded)).map_err(|_| NoKey::NoBase64)?;
    if key.len() < LEAST_BYTES {
        return Err(NoKey::TooShort(key.len()));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_prefix_and_base64_of_a_long_enough_key() {
        for (secret, expected) in [
            ("whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4", Ok(b"abcdefghijklmnopqrstuvwx".to_vec())),
            ("whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eQ==", Ok(b"abcdefghijklmnopqrstuvwxy".to_vec())),
            ("whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eQ", Ok(b"abcdefghijklmnopqrstuvwxy".to_vec())),
            ("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4", Err(NoKey::NoPrefix)),
            ("WHSEC_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4", Err(NoKey::NoPrefix)),
            ("whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dn-_", Err(NoKey::NoBase64)),
            ("whsec_a secret that somebody typed", Err(NoKey::NoBase64)),
            ("whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnc=", Err(NoKey::TooShort(23))),
            ("whsec_", Err(NoKey::TooShort(0))),
        ] {
            assert_eq!(signing_key(secret), expected, "{secret}");
        }
    }
}
