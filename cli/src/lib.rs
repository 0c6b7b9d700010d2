//! The `hookline` command, with one file per subcommand. This file parses the command line, runs the subcommand and
//! turns its result into an exit code: 0 success, 1 failure, 2 wrong usage or configuration.
//!
//! The functions that read the configuration and write to the terminal are public, for `hookline-bench`.

mod all_in_one;
mod back_fill;
mod backup;
mod check;
mod dead_letters;
mod dev;
mod dev_file;
mod erase;
mod events;
mod healthcheck;
mod note_view;
mod notes;
pub mod open;
mod opt_outs;
pub mod output;
mod pause;
pub mod progress;
mod records;
mod run;
mod sandbox;
pub mod secret;
mod status;
pub mod table;
mod topology;
mod trigger;
mod unrouted;
mod webhooks;
mod when;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use hookline_common::service::memory;
use hookline_common::service::telemetry::log_writer;

use crate::dev::RecordSystem;
use crate::open::{Place, WrongUsage, wrong_usage};

const ABOUT: &str = "Takes TextUs webhooks, makes the API calls that they ask for, and loses nothing";

const LONG_ABOUT: &str = "\
Hookline receives TextUs webhooks, keeps each one until everything that follows from it is done, and shows what became \
of it.

On a fresh machine, type `hookline dev --demo`, then `hookline dev` in one terminal and `hookline trigger \
message.received --dev` in another. In production on one machine, type `hookline check`, then `hookline run`.

Every command works both while Hookline is up and while it is down.";

const AFTER_HELP: &str = "The exit code is 0 if all is well, 1 after a failure, 2 after wrong usage or configuration.";

#[derive(Parser)]
#[command(name = "hookline", version, about = ABOUT, long_about = LONG_ABOUT)]
#[command(after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    /// Read this configuration file [default: HOOKLINE_CONFIG, then ./hookline.toml if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Use ./.hookline/dev, where `hookline dev` keeps its data
    #[arg(long, global = true)]
    dev: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine with nothing installed: sandbox API, embedded broker, SQLite
    Dev(DevArgs),
    /// Run in production on one machine: ingest and worker in one process
    Run(RunArgs),
    /// Send signed sample webhooks
    Trigger(trigger::TriggerArgs),
    /// Report every problem of the configuration at once
    Check(check::CheckArgs),
    /// Show what arrived and what became of it; replay events
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Show, redrive, discard or resolve what was given up
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Show who opted out, with the proof; verify or export the ledger
    #[command(subcommand)]
    OptOuts(opt_outs::OptOutsCommand),
    /// Show what the built-in system of record holds, and the threads written to any system of record
    #[command(subcommand)]
    Records(records::RecordsCommand),
    /// Show the note that would be written for a message, or write the notes that the system of record lacks
    #[command(subcommand)]
    Notes(notes::NotesCommand),
    /// Delete a person's payloads, notes and history; keep the opt-out evidence
    Erase(erase::EraseArgs),
    /// Copy the store and the queues of this machine into one file, also while Hookline runs
    Backup(backup::BackupArgs),
    /// Stop calls to a destination without losing anything
    Pause(pause::PauseArgs),
    /// Start calls to a destination again
    Resume(pause::ResumeArgs),
    /// Show queues, destinations, budgets and backlog, and whether everything is accounted for
    Status(status::StatusArgs),
    /// Show what this configuration needs on RabbitMQ, and how the broker differs
    Topology(topology::TopologyArgs),
    /// Show, redrive or discard events that no queue on RabbitMQ took
    #[command(subcommand)]
    Unrouted(unrouted::UnroutedCommand),
    /// Show, register, verify or disable what TextUs sends here
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksCommand),
    /// Run the stand-in for the TextUs API by itself, for demonstrations and tests
    Sandbox(sandbox::SandboxArgs),
    /// Exit 0 when /readyz answers 200
    Healthcheck(healthcheck::HealthcheckArgs),
}

impl Command {
    /// Returns whether `--dev` makes sense for this command.
    fn takes_dev(&self) -> bool {
        // `webhooks` is excluded because `dev` creates the sandbox's integration itself.
        !matches!(self, Self::Dev(_) | Self::Run(_) | Self::Check(_) | Self::Webhooks(_) | Self::Sandbox(_))
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DevArgs {
    #[arg(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Send one signed webhook of each type, and exit 0 when all are settled, 1 otherwise
    #[arg(long)]
    pub(crate) demo: bool,
    /// Where notes go: to the built-in system of record, or to a stand-in that shows them as they would look there
    #[arg(long, value_enum, default_value_t)]
    pub(crate) system_of_record: RecordSystem,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    #[arg(skip)]
    pub(crate) config: Option<PathBuf>,
}

/// Parses the command line, runs the command and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Run(_)) {
        memory::give_large_buffers_back();
    }
    run(dispatch(cli))
}

/// Runs a command to its end, prints why it failed, and returns the exit code: 0 fine, 1 failed, 2 wrong usage.
pub fn run(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    // The install fails only when a provider is already installed, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(command);
    log_writer::flush();
    match ended {
        Ok(code) => code,
        // Problems of the configuration are printed without a label, one a line: FILE:LINE: what is wrong; what to do.
        Err(error) if error.is::<WrongUsage>() => {
            output::hint(&format!("{error:#}"));
            ExitCode::from(2)
        }
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = cli.config.as_deref();
    let place = Place { config, dev: cli.dev };
    if cli.dev && !cli.command.takes_dev() {
        return Err(wrong_usage("--dev is for commands that look at what `hookline dev` keeps; leave it out here"));
    }
    output::commands_look_at_dev(cli.dev);
    match cli.command {
        Command::Dev(args) => dev::run(DevArgs { config: cli.config, ..args }).await,
        Command::Run(RunArgs { .. }) => run::run(RunArgs { config: cli.config }).await,
        Command::Trigger(args) => trigger::run(place, args).await,
        Command::Check(args) => check::run(config, &args).await,
        Command::Events(command) => events::run(place, command).await,
        Command::DeadLetters(command) => dead_letters::run(place, command).await,
        Command::OptOuts(command) => opt_outs::run(place, command).await,
        Command::Records(command) => records::run(place, command).await,
        Command::Notes(command) => notes::run(place, command).await,
        Command::Erase(args) => erase::run(place, &args).await,
        Command::Backup(args) => backup::run(place, &args).await,
        Command::Pause(args) => pause::pause(place, &args).await,
        Command::Resume(args) => pause::resume(place, &args).await,
        Command::Status(args) => status::run(place, &args).await,
        Command::Topology(args) => topology::run(place, &args).await,
        Command::Unrouted(command) => unrouted::run(place, command).await,
        Command::Webhooks(command) => webhooks::run(config, command).await,
        Command::Sandbox(args) => sandbox::run(args).await,
        Command::Healthcheck(args) => healthcheck::run(place, &args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_takes_a_configuration_file() {
        for line in [
            "hookline dev --demo --config x.toml",
            "hookline run --config x.toml",
            "hookline trigger message.received --config x.toml",
            "hookline events list --config x.toml",
            "hookline dead-letters redrive --all --config x.toml",
            "hookline --config x.toml status --json",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(cli.config, Some(PathBuf::from("x.toml")), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "hookline",
            "hookline trigger",
            "hookline events list --limit 0",
            "hookline events list --limit 100001",
            "hookline events replay",
            "hookline dead-letters redrive",
            "hookline dead-letters redrive a --all",
            "hookline dead-letters discard a",
            "hookline dead-letters resolve a",
            "hookline dead-letters resolve a --done --write-again",
            "hookline dead-letters list --reason nonsense",
            "hookline webhooks",
            "hookline webhooks list --limit 0",
            "hookline notes sync",
            "hookline notes sync --since yesterday",
            "hookline notes sync --since 2026-02-30",
            "hookline unrouted",
            "hookline backup",
            "hookline sandbox --every 2s",
            "hookline sandbox --every never --webhook-url http://127.0.0.1:1/ --webhook-secret a",
            "hookline sandbox --webhook-url http://127.0.0.1:1/",
            "hookline unrouted discard",
            "hookline unrouted list --limit 0",
            "hookline trigger message.received --duplicates 101",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).err().expect(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
