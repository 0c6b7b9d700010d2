//! Secrets: tokens, private keys, and keys that sign.

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value as Json, json};

use super::{Kind, Scalar, Wrong};
use crate::secret::Secret;
use crate::signing_key::signing_key;

pub(in super::super) struct SecretText;

impl Kind for SecretText {
    type Value = Secret;
    const SECRET: bool = true;

    fn wanted(&self) -> String {
        "\"env:NAME\" or \"file:PATH\"".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Secret, Wrong> {
        let text = scalar.text().ok_or_else(|| Wrong::not("a text", self))?;
        if text.trim().is_empty() {
            return Err(Wrong::new("empty", "set it: an empty secret protects nothing"));
        }
        if let Some(what) = around(text) {
            return Err(Wrong::new(
                format!("a secret with {what} around it"),
                "take them out: they would be part of it",
            ));
        }
        Ok(Secret::new(text))
    }

    fn show(&self, value: &Secret) -> String {
        value.to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// Returns what stands around a secret that is no part of it, as people copy or save it.
fn around(text: &str) -> Option<&'static str> {
    let is_in = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if text.starts_with('\u{feff}') {
        Some("a byte order mark")
    } else if text.starts_with(['\n', '\r']) || text.ends_with(['\n', '\r']) {
        Some("line breaks")
    } else if text.trim() != text {
        Some("blanks")
    } else if is_in('"') || is_in('\'') {
        Some("quotes")
    } else {
        None
    }
}

/// The token of an API, which goes into a header.
pub(in super::super) struct TokenText;

impl Kind for TokenText {
    type Value = Secret;
    const SECRET: bool = true;

    fn wanted(&self) -> String {
        SecretText.wanted()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Secret, Wrong> {
        let token = SecretText.parse(scalar)?;
        if token.expose().chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Ok(token);
        }
        Err(Wrong::new(
            "a token with characters that a header cannot hold",
            "copy it again: letters, digits and signs of ASCII",
        ))
    }

    fn show(&self, value: &Secret) -> String {
        SecretText.show(value)
    }

    fn schema(&self) -> Json {
        SecretText.schema()
    }
}

/// A private key in PEM.
pub(in super::super) struct PrivateKeyText;

impl Kind for PrivateKeyText {
    type Value = Secret;
    const SECRET: bool = true;

    fn wanted(&self) -> String {
        "\"file:PATH\", the path of a private RSA key in PEM".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Secret, Wrong> {
        let text = scalar.text().ok_or_else(|| Wrong::not("a text", self))?.trim();
        if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            return Err(Wrong::new("a key with a passphrase", "take the passphrase off: openssl rsa -in KEY -out NEW"));
        }
        match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(_key) => Ok(Secret::new(text)),
            Err(_) => Err(Wrong::not("a private key in PEM", self)),
        }
    }

    fn show(&self, value: &Secret) -> String {
        SecretText.show(value)
    }

    fn schema(&self) -> Json {
        SecretText.schema()
    }
}

/// A secret that signs what we send by Standard Webhooks.
pub(in super::super) struct SigningSecret;

impl Kind for SigningSecret {
    type Value = Secret;
    const SECRET: bool = true;

    fn wanted(&self) -> String {
        SecretText.wanted()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Secret, Wrong> {
        let secret = SecretText.parse(scalar)?;
        match signing_key(secret.expose()) {
            Ok(_key) => Ok(secret),
            Err(no_key) => Err(Wrong::new(
                no_key.to_string(),
                "make one: echo whsec_$(openssl rand -base64 32), and give it to the receiver too",
            )),
        }
    }

    fn show(&self, value: &Secret) -> String {
        SecretText.show(value)
    }

    fn schema(&self) -> Json {
        SecretText.schema()
    }
}
