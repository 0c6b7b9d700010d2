//! `hookline-worker`: the consuming half as a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hookline_common::names::HandlerName;
use hookline_common::service;
use hookline_common::settings::Needs;

/// Consumes Hookline's queues, makes the API calls, settles deliveries.
#[derive(Parser)]
#[command(version, about)]
#[command(after_help = "Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration.")]
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
    // Fails only where a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    service::run("hookline-worker", async {
        let settings = service::settings(cli.config.as_deref(), Needs::WORKER)?;
        hookline_worker::service::run(cli.config.as_deref(), settings, cli.handlers).await
    })
}
