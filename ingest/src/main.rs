//! Starts `hookline-ingest`: checks the arguments and the settings before anything is opened.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hookline_common::service;
use hookline_common::settings::Needs;

/// Receives webhooks: verifies them, makes them durable in RabbitMQ or in the spool, acknowledges them.
#[derive(Parser)]
#[command(name = "hookline-ingest", version)]
#[command(after_help = "The exit code is 0 if all is well, 1 after a failure, 2 after wrong usage or configuration.")]
struct Arguments {
    /// Read this configuration file [default: HOOKLINE_CONFIG, then ./hookline.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    service::memory::give_large_buffers_back();
    // The install fails only when a provider is already installed, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    service::run("hookline-ingest", async {
        let settings = service::settings(arguments.config.as_deref(), Needs::INGEST)?;
        hookline_ingest::service::run(arguments.config.as_deref(), settings).await
    })
}
