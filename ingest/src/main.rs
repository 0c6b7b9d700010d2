//! Start-up of `hookline-ingest`: the arguments and the settings, both checked before anything is opened.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hookline_common::settings::{self, Needs};

/// Wrong usage or configuration; clap's own code for wrong usage.
const EXIT_WRONG: u8 = 2;

/// Receives webhooks: verifies them, makes them durable, acknowledges them.
#[derive(Parser)]
#[command(name = "hookline-ingest", version)]
struct Arguments {
    /// Configuration [default: HOOKLINE_CONFIG, then ./hookline.toml if it is there, then built-in defaults]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match settings::load(arguments.config.as_deref(), Needs::INGEST) {
        Err(problems) => eprintln!("{problems}"),
        // The embedded broker belongs to one process, and this one is half of Hookline.
        Ok(_) => eprintln!(
            "hookline-ingest: this version has no broker that a separate worker could share; use `hookline run`, which \
             holds both"
        ),
    }
    ExitCode::from(EXIT_WRONG)
}
