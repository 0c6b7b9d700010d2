//! A problem of a configuration: its place, what is wrong and what to do. A problem never holds the value of a secret.

use std::fmt;
use std::path::PathBuf;

/// The place of a problem. The order is that of reading: down the file, then the environment, then the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    File {
        path: PathBuf,
        /// Counted from 1. `None` if the file could not be read.
        line: Option<usize>,
    },
    /// The name of an environment variable.
    Variable(String),
    /// A key is missing, and there is no file in which it could stand.
    Configuration,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "{name} (environment)"),
            Self::Configuration => f.write_str("configuration"),
        }
    }
}

/// Prints as `FILE:LINE: what is wrong; what to do`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub location: Location,
    pub what: String,
    pub remedy: String,
}

impl Problem {
    pub(super) fn new(location: Location, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { location, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.location, self.what, self.remedy)
    }
}

/// All problems in the order of the file, at least one. Prints one problem per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self(problems)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
