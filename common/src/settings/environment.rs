//! The only reader of environment variables. All other code asks this module, so that tests can supply their own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Prefix of the variables that stand for keys, such as `HOOKLINE__INGEST__LISTEN`.
pub(super) const PREFIX: &str = "HOOKLINE__";
/// Variable that names the configuration file when `--config` is absent.
pub(super) const CONFIG_VARIABLE: &str = "HOOKLINE_CONFIG";

/// A snapshot of the environment. The type is not `Debug`, because the snapshot holds secrets.
pub(super) struct Environment {
    variables: BTreeMap<String, OsString>,
    /// Folder in which `hookline.toml` is looked for. An empty path is the current directory.
    pub(super) folder: PathBuf,
}

/// The variable is set, but its bytes are not UTF-8.
pub(super) struct NotText;

impl Environment {
    /// Takes this process's variables. A variable whose name is not UTF-8 is left out, because no key has such a name.
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

    /// Whether any variable starts with this prefix.
    pub(super) fn has_prefix(&self, prefix: &str) -> bool {
        self.keys().any(|name| name.starts_with(prefix))
    }

    /// Returns the names of the variables that stand for keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str).filter(|name| name.starts_with(PREFIX))
    }
}

/// Turns `ingest.listen` into `HOOKLINE__INGEST__LISTEN`.
pub(super) fn variable_for(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}
