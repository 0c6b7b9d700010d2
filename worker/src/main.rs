//! `hookline-worker`: runs the consuming half as a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hookline_common::names::HandlerName;
use hookline_common::service;
use hookline_common::settings::Needs;

/// Consumes Hookline's queues, makes the API calls, settles deliveries.
#[derive(Parser)]
#[command(version, about)]
#[command(after_help = "The exit code is 0 if all is well, 1 after a failure, 2 after wrong usage or configuration.")]
struct Cli {
    /// Read this configuration file [default: HOOKLINE_CONFIG, then ./hookline.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run only these of the enabled handlers
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    handlers: Option<Vec<HandlerName>>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    service::memory::give_large_buffers_back();
    // Installing fails only if a provider is already installed, and that one serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    service::run("hookline-worker", async {
        let settings = service::settings(cli.config.as_deref(), Needs::WORKER)?;
        hookline_worker::service::run(cli.config.as_deref(), settings, cli.handlers).await
    })
}
