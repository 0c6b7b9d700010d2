//! What templates of the user's have in common (<https://docs.rs/minijinja/latest/minijinja/syntax/index.html>).

use std::fmt;

use minijinja::{Environment, UndefinedBehavior, Value, escape_formatter};

/// Returns an environment in which a misspelt name is an error, and a value that is not known shows as nothing.
pub(crate) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_formatter(|out, state, value| {
        if value.is_none() {
            escape_formatter(out, state, &Value::from(""))
        } else {
            escape_formatter(out, state, value)
        }
    });
    environment
}

/// What is wrong with a template. Shows no value of a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// Line and column, from 1.
    pub place: Option<(usize, usize)>,
    pub what: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{} (line {line}, column {column} of the template)", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Longest part of a template that an error quotes, in bytes.
const MOST_QUOTED: usize = 60;

pub(crate) fn template_error(source: &str, error: &minijinja::Error) -> TemplateError {
    let place = error.range().map(|range| place(source, range.start)).or_else(|| Some((error.line()?, 1)));
    let quoted = error.range().and_then(|range| source.get(range)).filter(|quoted| quoted.len() <= MOST_QUOTED);
    let what = match (error.detail(), quoted) {
        (Some(detail), _) => format!("{}: {detail}", error.kind()),
        (None, Some(quoted)) => format!("{}: `{quoted}`", error.kind()),
        (None, None) => error.kind().to_string(),
    };
    TemplateError { place, what }
}

/// Returns line and column of a byte of the source, from 1.
fn place(source: &str, at: usize) -> (usize, usize) {
    let before = &source[..source.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
