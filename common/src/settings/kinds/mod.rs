//! What a value can be. A kind reads the value of one key, prints it back, and describes it to the JSON schema.

mod choice;
mod plain;
mod text;

use std::borrow::Cow;

use serde_json::Value as Json;
use toml::de::{DeInteger, DeValue};

pub(super) use choice::{Choices, choices, one_of};
pub(super) use plain::{Flag, Number, Size, Span, Whole};
pub use text::webhook_url;
pub(super) use text::{
    Account, Address, AmqpUrl, BaseUrl, FilePath, KeywordText, PostgresUrl, SecretText, Slug, WebhookUrl,
};

pub(super) trait Kind {
    type Value;
    /// A secret is masked wherever settings are shown.
    const SECRET: bool = false;
    /// Kept out of problems: a secret, or a text in which people leave one.
    const HIDDEN: bool = Self::SECRET;
    /// Stands in quotes in TOML.
    const QUOTED: bool = true;

    /// What to write, with an example: `a duration such as "10s"`.
    fn wanted(&self) -> String;

    /// # Errors
    /// What the value is instead of what it should be.
    fn parse(&self, scalar: &Scalar<'_>) -> Result<Self::Value, Wrong>;

    /// As it would be written, without quotes.
    fn show(&self, value: &Self::Value) -> String;

    fn schema(&self) -> Json;
}

/// One value as it was given.
pub(super) enum Scalar<'a> {
    /// From an environment variable or a file: it has no type of its own and takes the key's.
    Untyped(Cow<'a, str>),
    Text(&'a str),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A table, an array, a date: nothing that any key takes as one value.
    Other(&'static str),
}

impl<'a> Scalar<'a> {
    pub(super) fn of(value: &'a DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text),
            DeValue::Integer(integer) => Self::Integer(whole(integer)),
            DeValue::Float(float) => Self::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(boolean) => Self::Boolean(*boolean),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Array(_) => Self::Other("a list"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// The text of a value that stands in quotes in TOML.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Untyped(text) => Some(text),
            Self::Text(text) => Some(text),
            Self::Integer(_) | Self::Float(_) | Self::Boolean(_) | Self::Other(_) => None,
        }
    }

    /// For a problem: cut, and with everything unprintable escaped.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Untyped(_) | Self::Text(_) => {
                let text = self.text().unwrap_or_default();
                let cut: String = text.chars().take(64).collect();
                let dots = if cut.len() < text.len() { "…" } else { "" };
                format!("{cut:?}{dots}")
            }
            Self::Integer(integer) => integer.to_string(),
            Self::Float(float) => format!("{float:?}"),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::Other(what) => (*what).to_owned(),
        }
    }
}

impl From<bool> for Scalar<'_> {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for Scalar<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Scalar<'_> {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl<'a> From<&'a str> for Scalar<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

/// One that does not fit becomes the nearest that does: no key reaches that far, so its range refuses it.
fn whole(integer: &DeInteger<'_>) -> i64 {
    let nearest = if integer.as_str().starts_with('-') { i64::MIN } else { i64::MAX };
    i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(nearest)
}

/// Why a value will not do: what it is (`not a duration`, `above 1000`), and what to do.
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }

    /// `noun` with its article: `a duration`.
    fn not(noun: &str, kind: &impl Kind) -> Self {
        Self::new(format!("not {noun}"), format!("write {}", kind.wanted()))
    }

    fn outside(least: impl std::fmt::Display, most: impl std::fmt::Display, kind: &impl Kind) -> Self {
        Self::new(format!("outside {least} to {most}"), format!("write {}", kind.wanted()))
    }

    fn empty(kind: &impl Kind) -> Self {
        Self::new("empty", format!("write {}", kind.wanted()))
    }
}
