//! `hookline webhooks`: manages the TextUs Integrations API, which determines where TextUs posts webhooks and which
//! events it sends. By default it sends two of eight event types; opt-outs and contacts are off.
//!
//! Secrets are never printed; a new one is written to a file with mode 0600.

mod disable;
mod list;
mod register;
mod secret_file;
mod textus;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hookline_worker::background::subscription::{Finding, NotKnown};
use serde_json::{Value, json};

pub(crate) use self::textus::subscription;

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum WebhooksCommand {
    /// List the account's webhook integrations, where they post to and what they send
    List(list::ListCommand),
    /// Have TextUs send what the enabled handlers need, and switch nothing off
    Register(register::RegisterArgs),
    /// Exit 0 if TextUs sends here what the enabled handlers need
    Verify(verify::VerifyArgs),
    /// Have TextUs send nothing here
    Disable(disable::DisableArgs),
}

/// Which endpoint, in which account.
#[derive(Args, Clone, Debug)]
pub(crate) struct EndpointArgs {
    /// Address at which TextUs reaches this endpoint [default: [textus] webhook_url]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Primary account [default: [textus] primary_account, else account]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

pub(crate) async fn run(config: Option<&Path>, command: WebhooksCommand) -> anyhow::Result<ExitCode> {
    match command {
        WebhooksCommand::List(args) => list::run(config, &args).await,
        WebhooksCommand::Register(args) => register::run(config, &args).await,
        WebhooksCommand::Verify(args) => verify::run(config, &args).await,
        WebhooksCommand::Disable(args) => disable::run(config, &args).await,
    }
}

/// Reports why the state of the integrations is unknown.
fn unknown(error: &NotKnown) -> anyhow::Error {
    anyhow::anyhow!("{error}; {}", error.remedy())
}

fn finding_document(finding: &Finding) -> Value {
    json!({ "what": finding.what, "remedy": finding.remedy, "is_failure": finding.is_failure })
}
