//! All the keys there are, gathered once by walking over the defaults with nothing given.

use std::sync::LazyLock;

use super::Settings;
use super::declare::Table;
use super::environment::Environment;
use super::visit::{Entry, Form, Visit};

pub(super) static CATALOGUE: LazyLock<Vec<Entry>> = LazyLock::new(|| entries(&mut Settings::defaults(), true));

/// Tables and keys with what the settings hold, in the order of `keys.rs`, a table's keys before the tables in it.
fn entries(settings: &mut Settings, with_templates: bool) -> Vec<Entry> {
    let nothing = Environment::none();
    let mut visit = Visit::noting(&nothing, with_templates);
    settings.walk(&mut visit);
    visit.entries
}

/// The entry of a path; any index of a repeated table will do.
pub(super) fn entry(path: &str) -> Option<&'static Entry> {
    let path = without_index(path);
    CATALOGUE.iter().find(|entry| entry.path == path)
}

/// `sources.3.name` to `sources.0.name`: the catalogue has one of each repeated table.
pub(super) fn without_index(path: &str) -> String {
    let part = |part| if is_index(part) { "0" } else { part };
    path.split('.').map(part).collect::<Vec<_>>().join(".")
}

pub(super) fn is_index(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

impl Settings {
    /// Every key with its resolved value, to be logged once at start. Secrets are `***`.
    #[must_use]
    pub fn describe(&self) -> Vec<(String, String)> {
        let shown = |entry: Entry| match entry.form {
            Form::Key(key) => Some((entry.path, key.value.map_or_else(|| "(not set)".to_owned(), |shown| shown.plain))),
            Form::Table | Form::Tables => None,
        };
        entries(&mut self.clone(), false).into_iter().filter_map(shown).collect()
    }
}
