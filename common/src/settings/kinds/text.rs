//! Names, addresses and paths.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::{Kind, Scalar, Wrong};
use crate::event::SourceName;

/// An address to listen on.
pub(in super::super) struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn wanted(&self) -> String {
        "an IP address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"; port 0 means any free one".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<SocketAddr, Wrong> {
        let address = scalar.text().and_then(|text| text.trim().parse().ok());
        address.ok_or_else(|| Wrong::not("an address", self))
    }

    fn show(&self, value: &SocketAddr) -> String {
        value.to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": ":\\d{1,5}$" })
    }
}

pub(in super::super) struct FilePath;

impl Kind for FilePath {
    type Value = PathBuf;

    fn wanted(&self) -> String {
        "a path, absolute or from the current directory".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<PathBuf, Wrong> {
        let path = scalar.text().ok_or_else(|| Wrong::not("a path", self))?;
        if path.trim().is_empty() { Err(Wrong::empty(self)) } else { Ok(PathBuf::from(path)) }
    }

    fn show(&self, value: &PathBuf) -> String {
        value.display().to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The name of a source.
pub(in super::super) struct Slug;

impl Kind for Slug {
    type Value = SourceName;

    fn wanted(&self) -> String {
        "1 to 64 characters out of a to z, 0 to 9, \"_\" and \"-\"".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<SourceName, Wrong> {
        scalar.text().and_then(SourceName::new).ok_or_else(|| Wrong::not("a source's name", self))
    }

    fn show(&self, value: &SourceName) -> String {
        value.to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[a-z0-9_-]{1,64}$" })
    }
}

/// `{your-account-name}`: one segment of the API's paths
/// (<https://apidocs.next.textus.com/docs/accounts/index>).
pub(in super::super) struct Account;

impl Kind for Account {
    type Value = String;

    fn wanted(&self) -> String {
        "the account's name alone, as in https://next.textus.com/NAME/…: no \"/\", \"?\", \"#\", \"..\" or space"
            .to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<String, Wrong> {
        let name = scalar.text().ok_or_else(|| Wrong::not("an account's name", self))?.trim();
        let forbidden = |c: char| matches!(c, '/' | '\\' | '?' | '#') || c.is_whitespace() || c.is_control();
        if name.is_empty() {
            Err(Wrong::empty(self))
        } else if name == "." || name.contains("..") || name.contains(forbidden) {
            Err(Wrong::not("an account's name", self))
        } else {
            Ok(name.to_owned())
        }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[^/\\\\?#\\s]+$" })
    }
}

/// A keyword: a text that consists of it alone is an opt-out.
pub(in super::super) struct KeywordText;

impl KeywordText {
    const MAX_CHARS: usize = 64;
}

impl Kind for KeywordText {
    type Value = String;

    fn wanted(&self) -> String {
        format!("a word or a few, 1 to {} characters with a letter or digit among them", Self::MAX_CHARS)
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<String, Wrong> {
        let word = scalar.text().ok_or_else(|| Wrong::not("a text", self))?.trim();
        if word.is_empty() {
            Err(Wrong::empty(self))
        } else if word.chars().count() > Self::MAX_CHARS {
            Err(Wrong::new(format!("longer than {} characters", Self::MAX_CHARS), format!("write {}", self.wanted())))
        } else if word.contains(char::is_control) || !word.contains(char::is_alphanumeric) {
            Err(Wrong::not("a keyword", self))
        } else {
            Ok(word.to_owned())
        }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": Self::MAX_CHARS })
    }
}
