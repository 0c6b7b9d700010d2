//! Turns a given value into single values: takes lists apart, and follows `env:NAME` and `file:PATH`.

use std::borrow::Cow;

use toml::de::DeValue;

use super::environment::{Environment, NotText};
use super::kinds::Scalar;
use super::problem::Location;
use super::source::Source;

/// The value that a key was given.
pub(super) enum Given<'a> {
    Variable(Result<&'a str, NotText>),
    File(&'a DeValue<'a>),
}

/// Takes a list apart. In the file, a single value is a list of one. In a variable, a list is an array as in TOML or
/// JSON, or values with commas between them.
///
/// # Errors
/// Says what the value is if it is not a list.
pub(super) fn elements<'a>(
    source: Option<&Source<'_>>,
    at: Location,
    given: Given<'a>,
) -> Result<Vec<(Location, Scalar<'a>)>, &'static str> {
    match given {
        Given::File(DeValue::Array(array)) => {
            let line = |offset| source.map_or_else(|| at.clone(), |source| source.location(offset));
            Ok(array.iter().map(|value| (line(value.span().start), Scalar::of(value.get_ref()))).collect())
        }
        Given::File(value) => Ok(vec![(at, Scalar::of(value))]),
        Given::Variable(Err(NotText)) => Err("not UTF-8"),
        Given::Variable(Ok(text)) if text.trim().is_empty() => Ok(Vec::new()),
        Given::Variable(Ok(text)) if text.trim_start().starts_with('[') => {
            let parsed = DeValue::parse(text.trim()).map_err(|_| "not a list in brackets")?;
            let DeValue::Array(array) = parsed.into_inner() else { return Err("not a list in brackets") };
            array.iter().map(|value| Ok((at.clone(), owned(value.get_ref())))).collect()
        }
        Given::Variable(Ok(text)) => {
            Ok(text.split(',').map(|part| (at.clone(), Scalar::Untyped(part.trim().into()))).collect())
        }
    }
}

/// Takes a table apart whose keys are names. In a variable, a table is written as in TOML: `{ "a" = "b" }`.
///
/// # Errors
/// Says what the value is if it is not a table.
pub(super) fn members<'a>(
    source: Option<&Source<'_>>,
    at: Location,
    given: Given<'a>,
) -> Result<Vec<(Location, String, Scalar<'a>)>, &'static str> {
    match given {
        Given::File(DeValue::Table(table)) => {
            let line = |offset| source.map_or_else(|| at.clone(), |source| source.location(offset));
            let member = |(key, value): (&toml::Spanned<Cow<'_, str>>, &'a toml::Spanned<DeValue<'a>>)| {
                (line(key.span().start), key.get_ref().to_string(), Scalar::of(value.get_ref()))
            };
            Ok(table.iter().map(member).collect())
        }
        Given::File(_) => Err("not a table"),
        Given::Variable(Err(NotText)) => Err("not UTF-8"),
        Given::Variable(Ok(text)) if text.trim().is_empty() => Ok(Vec::new()),
        Given::Variable(Ok(text)) => {
            let parsed = DeValue::parse(text.trim()).map_err(|_| "not a table in braces")?;
            let DeValue::Table(table) = parsed.into_inner() else { return Err("not a table in braces") };
            let member = |(key, value): (&toml::Spanned<Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
                (at.clone(), key.get_ref().to_string(), owned(value.get_ref()))
            };
            Ok(table.iter().map(member).collect())
        }
    }
}

/// Follows `env:NAME` and `file:PATH`, and returns the value with its origin. Any other value is returned as it is. One
/// line break at the end of a file or a variable is not part of the value, because editors and shells add it.
///
/// # Errors
/// Says what is wrong and what to do.
pub(super) fn resolve<'a>(
    scalar: Scalar<'a>,
    environment: &Environment,
) -> Result<(Scalar<'a>, Option<String>), (String, String)> {
    let Some(text) = scalar.text() else { return Ok((scalar, None)) };
    if let Some(name) = text.strip_prefix("env:") {
        let legal = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !legal {
            return Err(("has no variable's name after env:".into(), "write \"env:NAME\"".into()));
        }
        return match environment.get(name) {
            Some(Ok(value)) => Ok((without_line_break(value), Some(format!("from env:{name}")))),
            Some(Err(NotText)) => Err((format!("is env:{name}, which is not UTF-8"), format!("set {name} to a text"))),
            None => Err((
                format!("is env:{name}, and the environment variable {name} is not set"),
                format!("set {name}, or write the value another way"),
            )),
        };
    }
    if let Some(path) = text.strip_prefix("file:") {
        return match std::fs::read_to_string(path) {
            Ok(value) => Ok((without_line_break(&value), Some(format!("from file:{}", path.escape_debug())))),
            Err(error) => Err((
                format!("is file:{}, which cannot be read ({})", path.escape_debug(), error.kind()),
                "put a readable text file there, or correct the path (it counts from the current directory)".into(),
            )),
        };
    }
    Ok((scalar, None))
}

fn without_line_break(text: &str) -> Scalar<'static> {
    let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    Scalar::Untyped(Cow::Owned(line.to_owned()))
}

/// Whether a variable holds several texts with commas between them, and not in brackets: a secret may have a comma, and
/// its parts would each count as a secret.
pub(super) fn has_bare_comma(given: &Given<'_>) -> bool {
    let Given::Variable(Ok(text)) = given else { return false };
    let refers = |part: &str| ["env:", "file:"].iter().any(|form| part.trim().starts_with(form));
    !text.trim_start().starts_with('[') && text.contains(',') && !text.split(',').all(refers)
}

fn owned(value: &DeValue<'_>) -> Scalar<'static> {
    match Scalar::of(value) {
        Scalar::Untyped(text) => Scalar::Untyped(Cow::Owned(text.into_owned())),
        Scalar::Text(text) => Scalar::Untyped(Cow::Owned(text.to_owned())),
        Scalar::Integer(integer) => Scalar::Integer(integer),
        Scalar::Float(float) => Scalar::Float(float),
        Scalar::Boolean(boolean) => Scalar::Boolean(boolean),
        Scalar::Other(what) => Scalar::Other(what),
    }
}
