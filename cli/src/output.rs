//! Writes to the terminal: results to stdout, hints and errors to stderr. A reader that closed the pipe (`| head`) is
//! no failure.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::table::Table;

/// What every list takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// Print at most this many rows
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    /// Go on from here: the `next` of the page before
    #[arg(long, value_name = "NEXT")]
    pub(crate) cursor: Option<String>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints text unchanged.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub fn print_line(text: &str) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Prints one JSON document.
pub fn print_json(document: &impl Serialize) -> anyhow::Result<()> {
    print_line(&serde_json::to_string_pretty(document)?)
}

pub fn print_table(table: &Table) -> anyhow::Result<()> {
    print(&table.render(colour(&io::stdout())))
}

/// One page of a list.
pub(crate) struct Listing<'a> {
    /// Key of the rows in the JSON document.
    pub(crate) key: &'a str,
    pub(crate) rows: Vec<Value>,
    pub(crate) table: Table,
    /// Cursor of the next page.
    pub(crate) next: Option<String>,
    /// Printed instead of an empty table.
    pub(crate) when_empty: String,
}

impl Listing<'_> {
    pub(crate) fn print(self, json: bool) -> anyhow::Result<()> {
        if json {
            return print_json(&serde_json::json!({ self.key: self.rows, "next": self.next }));
        }
        self.print_table()
    }

    pub(crate) fn print_table(self) -> anyhow::Result<()> {
        if self.table.is_empty() {
            hint(&self.when_empty);
            return Ok(());
        }
        print_table(&self.table)?;
        if let Some(next) = self.next {
            hint(&format!("There is more: --cursor '{next}'"));
        }
        Ok(())
    }
}

/// A JSON document with one long list, printed item by item.
pub(crate) struct JsonList {
    is_empty: bool,
}

impl JsonList {
    /// Begins a document whose list has this key.
    pub(crate) fn begin(key: &str) -> anyhow::Result<Self> {
        print(&format!("{{\n  \"{key}\": ["))?;
        Ok(Self { is_empty: true })
    }

    pub(crate) fn item(&mut self, item: &Value) -> anyhow::Result<()> {
        let comma = if std::mem::take(&mut self.is_empty) { "" } else { "," };
        let pretty = serde_json::to_string_pretty(item)?;
        print(&format!("{comma}\n    {}", pretty.replace('\n', "\n    ")))
    }

    /// Ends the list and the document; `next` is the cursor of the next page.
    pub(crate) fn end(self, next: Option<&str>) -> anyhow::Result<()> {
        let close = if self.is_empty { "]" } else { "\n  ]" };
        print_line(&format!("{close},\n  \"next\": {}\n}}", serde_json::to_string(&next)?))
    }
}

/// Whether suggested commands should get `--dev`, as this command has.
static DEV: AtomicBool = AtomicBool::new(false);

pub(crate) fn commands_look_at_dev(dev: bool) {
    DEV.store(dev, Ordering::Relaxed);
}

/// Formats a suggested command so that it works on the same data as this one.
pub(crate) fn typed(command: &str) -> String {
    let dev = if DEV.load(Ordering::Relaxed) { " --dev" } else { "" };
    format!("`hookline {command}{dev}`")
}

/// Suggests sending a sample of this event type, but only in `dev`: a sample that production accepts is PUT to TextUs.
pub(crate) fn try_trigger(event_type: &str) -> String {
    if !DEV.load(Ordering::Relaxed) {
        return String::new();
    }
    format!(" Try {}.", typed(&format!("trigger {event_type}")))
}

/// Prints useful information beside the result.
pub fn hint(text: &str) {
    // If stderr is closed, there is no way left to report anything.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints problems and warnings, one a line, as the services print them.
pub(crate) fn print_problems(lines: &[String]) {
    for line in lines {
        hint(line);
    }
}

/// Prints why the command failed.
pub fn error(text: &str) {
    let label = if colour(&io::stderr()) { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    let _ = writeln!(io::stderr(), "{label} {text}");
}

/// Returns whether to use colour: only on a terminal, and unless the user asked for none.
#[expect(
    clippy::disallowed_methods,
    reason = "NO_COLOR is the terminal's, not a setting of ours (https://no-color.org)"
)]
pub(crate) fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
