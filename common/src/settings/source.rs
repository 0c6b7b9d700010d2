//! The configuration file as a tree in which every key and value has its line.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::problem::{Location, Problem};

/// Number of syntax errors to report: after an unclosed bracket the parser rejects every following line.
const MAX_SYNTAX_PROBLEMS: usize = 5;

pub(super) struct Source<'t> {
    path: PathBuf,
    text: &'t str,
    root: DeTable<'t>,
}

impl<'t> Source<'t> {
    /// # Errors
    /// Returns the syntax errors, at most one per line. The parser's message names the expected token, never the text
    /// in the file, which could be a secret.
    pub(super) fn parse(path: &Path, text: &'t str) -> Result<Self, Vec<Problem>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Ok(Self { path: path.to_owned(), text, root: root.into_inner() });
        }
        let mut problems: Vec<Problem> = Vec::new();
        let mut errors: Vec<_> =
            errors.into_iter().map(|error| (error.span().map_or(0, |span| span.start), error)).collect();
        errors.sort_by_key(|(start, _)| *start);
        for (start, error) in errors {
            let location = Location::File { path: path.to_owned(), line: Some(line_of(text, start)) };
            if problems.last().is_none_or(|last| last.location != location) {
                let what = format!("not TOML: {}", error.message());
                problems.push(Problem::new(location, what, "correct this line; texts stand in quotes: key = \"text\""));
            }
        }
        problems.truncate(MAX_SYNTAX_PROBLEMS);
        Err(problems)
    }

    pub(super) fn root(&self) -> &DeTable<'t> {
        &self.root
    }

    pub(super) fn location(&self, offset: usize) -> Location {
        Location::File { path: self.path.clone(), line: Some(line_of(self.text, offset)) }
    }

    /// Returns the value at a path such as `sources.0.name`, with the place of its key, or of the value in a list.
    pub(super) fn find(&self, path: &str) -> Option<(Location, &DeValue<'t>)> {
        let mut parts = path.split('.');
        let (key, value) = self.root.get_key_value(parts.next()?)?;
        let mut found = (key.span().start, value.get_ref());
        for part in parts {
            found = match found.1 {
                DeValue::Table(table) => {
                    let (key, value) = table.get_key_value(part)?;
                    (key.span().start, value.get_ref())
                }
                DeValue::Array(array) => {
                    let value = array.get(part.parse::<usize>().ok()?)?;
                    (value.span().start, value.get_ref())
                }
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_) => return None,
            };
        }
        Some((self.location(found.0), found.1))
    }
}

/// Returns the line of an offset in bytes, counted from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
