//! `hookline-worker`: the consuming half as a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hookline_common::names::HandlerName;
use hookline_common::settings::{Needs, load};

/// Consumes Hookline's queues, makes the API calls, settles deliveries.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// Configuration file [default: HOOKLINE_CONFIG, then ./hookline.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only these handlers, of those that are enabled
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    handlers: Option<Vec<HandlerName>>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match load(cli.config.as_deref(), Needs::WORKER) {
        // A worker of its own shares its queues with ingest through RabbitMQ, which this version does not speak: the
        // settings say so, and what to run instead.
        Err(problems) => eprintln!("{problems}"),
        Ok(_) => eprintln!("this version has no broker that a worker of its own could consume; use `hookline run`"),
    }
    ExitCode::from(2)
}
