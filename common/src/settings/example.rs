//! The annotated example, `config/hookline.example.toml`, which has every key with its help and its default.

use std::collections::HashSet;

use super::catalogue::{CATALOGUE, is_index};
use super::visit::{Entry, Form};

const WIDTH: usize = 100;

const HEAD: &str = "\
# This file lists every key of hookline.toml with its default. A key without a default is commented out. The file is
# generated from common/src/settings/keys.rs by `cargo run -p hookline-common --example settings_files`.
#
# An environment variable wins over this file. The variable of a key is HOOKLINE__INGEST__LISTEN,
# HOOKLINE__TEXTUS__BREAKER__OPEN_MIN, HOOKLINE__SOURCES__0__SECRETS and so on. A variable holds a list as
# [\"a\", \"b\"], or as values with commas between them.
# Any value may be \"env:NAME\" (the value of an environment variable) or \"file:PATH\" (the content of a file, without
# the line break at its end). Write secrets in one of these forms. A relative path starts at the current directory.
# Durations are \"250ms\", \"10s\", \"1h30m\", \"7d\". Sizes are \"64KiB\", \"1MiB\", \"4GiB\", or a number of bytes.

";

/// Returns the text of `config/hookline.example.toml`. As a configuration, this text gives the defaults.
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
                // If only the header were commented out, its keys would belong to the table before it.
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

/// Writes each help text once: help that all handlers share is not repeated for each.
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
