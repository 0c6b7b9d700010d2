//! The only reader of environment variables; everything else gets them from here, so that tests can bring their own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Before the names of the variables that stand for keys: `HOOKLINE__INGEST__LISTEN`.
pub(super) const PREFIX: &str = "HOOKLINE__";
/// Names the file where `--config` does not.
pub(super) const CONFIG_VARIABLE: &str = "HOOKLINE_CONFIG";

/// A snapshot of the environment. Not `Debug`: it holds secrets.
pub(super) struct Environment {
    variables: BTreeMap<String, OsString>,
    /// Where `hookline.toml` is looked for; empty for the current directory.
    pub(super) folder: PathBuf,
}

/// A variable is there but holds bytes that are no text.
pub(super) struct NotText;

impl Environment {
    /// This process's variables. One with a name that is no text cannot be asked for and is left out.
    pub(super) fn of_this_process() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self { variables: variables.collect(), folder: PathBuf::new() }
    }

    pub(super) fn none() -> Self {
        Self { variables: BTreeMap::new(), folder: PathBuf::new() }
    }

    #[cfg(test)]
    pub(super) fn of(folder: &std::path::Path, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        Self { variables, folder: folder.to_owned() }
    }

    pub(super) fn get(&self, name: &str) -> Option<Result<&str, NotText>> {
        self.variables.get(name).map(|value| value.to_str().ok_or(NotText))
    }

    /// Is there a variable of the table whose variables start so?
    pub(super) fn has_prefix(&self, prefix: &str) -> bool {
        self.keys().any(|name| name.starts_with(prefix))
    }

    /// Names of the variables that stand for keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str).filter(|name| name.starts_with(PREFIX))
    }
}

/// `ingest.listen` to `HOOKLINE__INGEST__LISTEN`.
pub(super) fn variable_for(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}
