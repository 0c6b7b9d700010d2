//! The kinds of values. A kind reads the value of a key, shows it, and describes it in the JSON schema.

mod choice;
mod notes;
mod plain;
mod secrets;
mod text;
mod urls;

use std::borrow::Cow;

use serde_json::Value as Json;
use toml::de::{DeInteger, DeValue};

pub(super) use choice::{Choices, choices, one_of};
pub(super) use notes::{FieldName, Filled, OwnerId, PersonTemplate, PropertyName, TemplateText, ZoneName};
pub(super) use plain::{Flag, Number, Size, Span, Whole};
pub(super) use secrets::{PrivateKeyText, SecretText, SigningSecret, TokenText};
pub(super) use text::{Account, Address, FilePath, KeywordText, Slug};
pub use urls::webhook_url;
pub(super) use urls::{AmqpUrl, BaseUrl, PostUrl, PostgresUrl};

pub(super) trait Kind {
    type Value;
    /// Whether the value is a secret, which is masked wherever settings are shown.
    const SECRET: bool = false;
    /// Whether problems hide the value, because it is a secret or a text in which people leave one.
    const HIDDEN: bool = Self::SECRET;
    /// Whether TOML has the value in quotes.
    const QUOTED: bool = true;

    /// Says what to write, with an example: `a duration such as "10s"`.
    fn wanted(&self) -> String;

    /// # Errors
    /// Says what is wrong with the value.
    fn parse(&self, scalar: &Scalar<'_>) -> Result<Self::Value, Wrong>;

    /// Writes the value as in TOML, but without quotes.
    fn show(&self, value: &Self::Value) -> String;

    fn schema(&self) -> Json;
}

/// A single value as it was given.
pub(super) enum Scalar<'a> {
    /// A value from an environment variable or a file. Such a value has no type of its own, and takes the key's.
    Untyped(Cow<'a, str>),
    Text(&'a str),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A table, an array or a date, which no key takes as a single value.
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

    /// Returns the text of a value that TOML has in quotes.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Untyped(text) => Some(text),
            Self::Text(text) => Some(text),
            Self::Integer(_) | Self::Float(_) | Self::Boolean(_) | Self::Other(_) => None,
        }
    }

    /// Shows the value in a problem, shortened and with unprintable characters escaped.
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

/// Reads a whole number. A number that does not fit becomes the nearest that does, which is outside every key's bounds.
fn whole(integer: &DeInteger<'_>) -> i64 {
    let nearest = if integer.as_str().starts_with('-') { i64::MIN } else { i64::MAX };
    i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(nearest)
}

/// Why a value is refused: what is wrong (`not a duration`, `above 1000`), and what to do.
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }

    /// `noun` comes with its article: `a duration`.
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
