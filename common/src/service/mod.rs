//! How every service starts and ends: settings with all problems at once, the log, the masked configuration, and the
//! exit code: 0 for success, 1 for failure, 2 for wrong usage or configuration.

pub mod admin;
pub mod memory;
pub mod reload;
pub mod shutdown;
pub mod telemetry;

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use crate::service::telemetry::{log_writer, logging};
use crate::settings::{Needs, Settings, load};

const EXIT_WRONG: u8 = 2;

/// The command line or the configuration is wrong, and nothing was done: exit code 2.
#[derive(Debug)]
pub struct WrongUsage(pub String);

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// An error that ends the program with exit code 2.
pub fn wrong_usage(text: impl Into<String>) -> anyhow::Error {
    anyhow!(WrongUsage(text.into()))
}

/// Reads the settings and starts logging.
///
/// # Errors
/// [`WrongUsage`] with every problem, one a line.
pub fn settings(config: Option<&Path>, needs: Needs) -> anyhow::Result<Settings> {
    let loaded = load(config, needs).map_err(|problems| wrong_usage(problems.to_string()))?;
    let settings = loaded.settings;
    logging::init(settings.log.format, "info");
    for warning in &loaded.warnings {
        tracing::warn!(warning = %warning, "configuration.warning");
    }
    for (key, value) in settings.describe() {
        tracing::debug!(key, value, "configuration.resolved");
    }
    Ok(settings)
}

/// Reads the certificates, as PEM, from the file that `[broker] ca` names.
///
/// # Errors
/// [`WrongUsage`] if the file cannot be read.
pub fn broker_ca(settings: &Settings) -> anyhow::Result<Option<String>> {
    let Some(file) = &settings.broker.ca else { return Ok(None) };
    std::fs::read_to_string(file).map(Some).map_err(|error| {
        wrong_usage(format!("broker.ca: {} cannot be read ({}); name a PEM file", file.display(), error.kind()))
    })
}

/// Runs a service to its end; if it failed, prints the reason to stderr.
#[must_use]
pub fn run(program: &str, service: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start its threads");
    let ended = runtime.and_then(|runtime| runtime.block_on(service));
    log_writer::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        // Problems of the configuration have lines of their own: FILE:LINE: what is wrong; what to do.
        Err(error) if error.is::<WrongUsage>() => {
            eprintln!("{error:#}");
            ExitCode::from(EXIT_WRONG)
        }
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
