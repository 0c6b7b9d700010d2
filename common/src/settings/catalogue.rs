//! The catalogue of all keys. One walk over the defaults, without a file or an environment, gathers it.

use std::sync::LazyLock;

use super::Settings;
use super::declare::Table;
use super::environment::Environment;
use super::visit::{Entry, Form, Visit};

pub(super) static CATALOGUE: LazyLock<Vec<Entry>> = LazyLock::new(|| entries(&mut Settings::defaults(), true));

/// Lists tables and keys with the values in `settings`, in the order of `keys.rs`, and a table's keys before the tables
/// inside it.
fn entries(settings: &mut Settings, with_templates: bool) -> Vec<Entry> {
    let nothing = Environment::none();
    let mut visit = Visit::noting(&nothing, with_templates);
    settings.walk(&mut visit);
    visit.entries
}

/// Returns the entry of a path. The index of a repeated table may be any number.
pub(super) fn entry(path: &str) -> Option<&'static Entry> {
    let path = without_index(path);
    CATALOGUE.iter().find(|entry| entry.path == path)
}

/// Turns `sources.3.name` into `sources.0.name`: the catalogue holds each repeated table once.
pub(super) fn without_index(path: &str) -> String {
    let part = |part| if is_index(part) { "0" } else { part };
    path.split('.').map(part).collect::<Vec<_>>().join(".")
}

pub(super) fn is_index(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

impl Settings {
    /// Lists every key with its resolved value, for the log at start. Secrets are shown as `***`.
    #[must_use]
    pub fn describe(&self) -> Vec<(String, String)> {
        let shown = |entry: Entry| match entry.form {
            Form::Key(key) => Some((entry.path, key.value.map_or_else(|| "(not set)".to_owned(), |shown| shown.plain))),
            Form::Table | Form::Tables => None,
        };
        entries(&mut self.clone(), false).into_iter().filter_map(shown).collect()
    }
}

/// Returns the paths of the keys that hold secrets.
#[cfg(test)]
pub(crate) fn secret_keys() -> Vec<&'static str> {
    let is_secret = |entry: &&Entry| match &entry.form {
        Form::Key(key) => key.example.as_ref().is_some_and(|example| example.contains("env:")),
        Form::Table | Form::Tables => false,
    };
    CATALOGUE.iter().filter(is_secret).map(|entry| entry.path.as_str()).collect()
}
