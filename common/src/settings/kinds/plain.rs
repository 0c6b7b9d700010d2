//! Numbers, switches, durations and sizes.

use std::fmt::Display;
use std::marker::PhantomData;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::super::text::{DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size, show_duration, show_size};
use super::{Kind, Scalar, Wrong};

pub(in super::super) struct Flag;

impl Kind for Flag {
    type Value = bool;
    const QUOTED: bool = false;

    fn wanted(&self) -> String {
        "true or false, without quotes".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<bool, Wrong> {
        let value = match scalar {
            Scalar::Boolean(value) => Some(*value),
            Scalar::Untyped(text) => text.trim().parse().ok(),
            Scalar::Text(_) | Scalar::Integer(_) | Scalar::Float(_) | Scalar::Other(_) => None,
        };
        value.ok_or_else(|| Wrong::not("true or false", self))
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "boolean" })
    }
}

/// A whole number within bounds, which are included.
pub(in super::super) struct Whole<T> {
    least: i64,
    most: i64,
    of: PhantomData<T>,
}

impl<T> Whole<T> {
    pub(in super::super) fn between(least: i64, most: i64) -> Self {
        Self { least, most, of: PhantomData }
    }
}

impl<T: TryFrom<i64> + Display> Kind for Whole<T> {
    type Value = T;
    const QUOTED: bool = false;

    fn wanted(&self) -> String {
        format!("a whole number from {} to {}, without quotes", self.least, self.most)
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<T, Wrong> {
        let value = match scalar {
            Scalar::Integer(value) => Some(*value),
            Scalar::Untyped(text) => text.trim().parse().ok(),
            Scalar::Text(_) | Scalar::Float(_) | Scalar::Boolean(_) | Scalar::Other(_) => None,
        };
        let value = value.ok_or_else(|| Wrong::not("a whole number", self))?;
        let value = (self.least..=self.most).contains(&value).then(|| T::try_from(value).ok()).flatten();
        value.ok_or_else(|| Wrong::outside(self.least, self.most, self))
    }

    fn show(&self, value: &T) -> String {
        value.to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "integer", "minimum": self.least, "maximum": self.most })
    }
}

/// A number within bounds, which are included.
pub(in super::super) struct Number {
    pub(in super::super) least: f64,
    pub(in super::super) most: f64,
}

impl Kind for Number {
    type Value = f64;
    const QUOTED: bool = false;

    fn wanted(&self) -> String {
        format!("a number from {:?} to {:?}, without quotes", self.least, self.most)
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<f64, Wrong> {
        let value = match scalar {
            Scalar::Float(value) => Some(*value),
            #[expect(clippy::cast_precision_loss, reason = "the bounds lie far below where it would show")]
            Scalar::Integer(value) => Some(*value as f64),
            Scalar::Untyped(text) => text.trim().parse().ok(),
            Scalar::Text(_) | Scalar::Boolean(_) | Scalar::Other(_) => None,
        };
        let value = value.ok_or_else(|| Wrong::not("a number", self))?;
        if (self.least..=self.most).contains(&value) {
            Ok(value)
        } else {
            Err(Wrong::outside(format!("{:?}", self.least), format!("{:?}", self.most), self))
        }
    }

    fn show(&self, value: &f64) -> String {
        format!("{value:?}")
    }

    fn schema(&self) -> Json {
        json!({ "type": "number", "minimum": self.least, "maximum": self.most })
    }
}

/// A duration of at least this length.
pub(in super::super) struct Span(pub(in super::super) Duration);

/// Ten years. A longer duration is a typing error, and the sum of two such durations still fits every clock in use.
const MAX_SPAN: Duration = Duration::from_hours(24 * 3650);

impl Span {
    pub(in super::super) const ANY: Self = Self(Duration::ZERO);
    pub(in super::super) const ABOVE_ZERO: Self = Self(Duration::from_millis(1));
    pub(in super::super) const SECONDS: Self = Self(Duration::from_secs(1));
}

impl Kind for Span {
    type Value = Duration;

    fn wanted(&self) -> String {
        if self.0.is_zero() {
            return "a duration such as \"250ms\", \"10s\", \"1h30m\" or \"7d\"".to_owned();
        }
        format!("a duration of at least \"{}\", such as \"10s\", \"1h30m\" or \"7d\"", show_duration(self.0))
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Duration, Wrong> {
        let value = scalar.text().and_then(|text| parse_duration(text.trim()));
        let value = value.ok_or_else(|| Wrong::not("a duration", self))?;
        if (self.0..=MAX_SPAN).contains(&value) {
            Ok(value)
        } else {
            Err(Wrong::outside(show_duration(self.0), show_duration(MAX_SPAN), self))
        }
    }

    fn show(&self, value: &Duration) -> String {
        show_duration(*value)
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": DURATION_PATTERN, "minLength": 2 })
    }
}

/// A number of bytes within bounds, which are included.
pub(in super::super) struct Size<T> {
    least: u64,
    most: u64,
    of: PhantomData<T>,
}

impl<T> Size<T> {
    pub(in super::super) fn between(least: u64, most: u64) -> Self {
        Self { least, most, of: PhantomData }
    }
}

impl<T: TryFrom<u64> + TryInto<u64> + Copy> Kind for Size<T> {
    type Value = T;

    fn wanted(&self) -> String {
        format!("a size from \"{}\" to \"{}\", such as \"64KiB\"", show_size(self.least), show_size(self.most))
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<T, Wrong> {
        let value = match scalar {
            Scalar::Integer(bytes) => u64::try_from(*bytes).ok(),
            Scalar::Untyped(_) | Scalar::Text(_) => scalar.text().and_then(|text| parse_size(text.trim())),
            Scalar::Float(_) | Scalar::Boolean(_) | Scalar::Other(_) => None,
        };
        let value = value.ok_or_else(|| Wrong::not("a size in bytes", self))?;
        let value = (self.least..=self.most).contains(&value).then(|| T::try_from(value).ok()).flatten();
        value.ok_or_else(|| Wrong::outside(show_size(self.least), show_size(self.most), self))
    }

    fn show(&self, value: &T) -> String {
        show_size((*value).try_into().unwrap_or(u64::MAX))
    }

    fn schema(&self) -> Json {
        json!({ "anyOf": [
            { "type": "integer", "minimum": self.least, "maximum": self.most },
            { "type": "string", "pattern": SIZE_PATTERN },
        ] })
    }
}
