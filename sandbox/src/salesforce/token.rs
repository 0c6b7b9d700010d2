//! Access tokens, and how they end. No answer tells a client when.

use std::time::Instant;

use rand::RngExt as _;

use super::options::SalesforceOptions;

#[derive(Debug)]
struct Token {
    value: String,
    issued_at: Instant,
    calls: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Tokens {
    good: Vec<Token>,
    issued: Vec<String>,
}

impl Tokens {
    pub(crate) fn issue(&mut self) -> String {
        let mut random = rand::rng();
        let secret: String = (0..80).map(|_| char::from(random.sample(rand::distr::Alphanumeric))).collect();
        // The organisation's id and a `!` come first, so a token is no base64 and no URL text.
        let value = format!("00D5e000000KxYz!AQ.{secret}");
        self.good.push(Token { value: value.clone(), issued_at: Instant::now(), calls: 0 });
        self.issued.push(value.clone());
        value
    }

    /// Returns whether a token is good now.
    pub(crate) fn is_good(&self, value: &str, options: &SalesforceOptions) -> bool {
        self.good.iter().any(|token| {
            token.value == value
                && options.token_lifetime.is_none_or(|life| token.issued_at.elapsed() < life)
                && options.token_calls.is_none_or(|calls| token.calls <= calls)
        })
    }

    /// Counts a call with a token.
    pub(crate) fn count(&mut self, value: &str) {
        if let Some(token) = self.good.iter_mut().find(|token| token.value == value) {
            token.calls += 1;
        }
    }

    /// Ends every token.
    pub(crate) fn revoke_all(&mut self) {
        self.good.clear();
    }

    /// Ends one token, if it is good.
    pub(crate) fn revoke(&mut self, value: &str) {
        self.good.retain(|token| token.value != value);
    }

    /// Returns every token that was ever issued, oldest first.
    pub(crate) fn issued(&self) -> &[String] {
        &self.issued
    }
}
