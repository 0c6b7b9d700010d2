//! The annotated example, `config/hookline.example.toml`: every key with what it is for and its default.

use std::collections::HashSet;

use super::catalogue::{CATALOGUE, is_index};
use super::visit::{Entry, Form};

const WIDTH: usize = 100;

const HEAD: &str = "\
# Every key of hookline.toml with its default; a key without one is commented out. Generated from
# common/src/settings/keys.rs by `cargo run -p hookline-common --example settings_files`.
#
# Every key can be set in the environment as well, which wins over this file: HOOKLINE__INGEST__LISTEN,
# HOOKLINE__TEXTUS__BREAKER__OPEN_MIN, HOOKLINE__SOURCES__0__SECRETS. A list is written there as [\"a\", \"b\"], or with
# commas between its values. Any value may be \"env:NAME\" (an environment variable) or \"file:PATH\" (a file, without
# the line break at its end); secrets should be. Paths count from the current directory.
# Durations: \"250ms\", \"10s\", \"1h30m\", \"7d\". Sizes: \"64KiB\", \"1MiB\", \"4GiB\", or bytes as a number.

";

/// The text of `config/hookline.example.toml`. Read as a configuration, it is the defaults.
#[must_use]
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    let mut said = HashSet::new();
    for entry in CATALOGUE.iter() {
        match &entry.form {
            Form::Table => table(&mut text, &mut said, entry, &format!("[{}]", entry.path)),
            Form::Tables => table(&mut text, &mut said, entry, &format!("# [[{}]]", entry.path)),
            Form::Key(key) => {
                comment(&mut text, &mut said, entry.doc);
                let name = entry.path.rsplit('.').next().unwrap_or_default();
                // Below a header that is commented out its keys would belong to the table before it.
                let commented_out = entry.path.split('.').any(is_index) || key.value.is_none();
                let default = key.value.as_ref().map(|shown| shown.toml.as_str());
                let value = key.example.as_deref().or(default).unwrap_or_default();
                let mark = if commented_out { "# " } else { "" };
                text.push_str(&format!("{mark}{name} = {value}\n"));
            }
        }
    }
    text
}

fn table(text: &mut String, said: &mut HashSet<&'static str>, entry: &'static Entry, header: &str) {
    text.push('\n');
    comment(text, said, entry.doc);
    text.push_str(&format!("{header}\n"));
}

/// What has been said of one handler need not be said of the next.
fn comment(text: &mut String, said: &mut HashSet<&'static str>, doc: &'static str) {
    if !said.insert(doc) {
        return;
    }
    let mut line = String::from("#");
    for word in doc.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
