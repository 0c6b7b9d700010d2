//! `hookline pause` and `hookline resume`: stop and start calls to a destination. Nothing is lost meanwhile:
//! deliveries wait in their queues and no attempt is spent.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hookline_common::names::Destination;
use hookline_common::time::Timestamp;
use hookline_store::Store;

use crate::open::{self, wrong_usage};
use crate::output;

/// Workers look at the store this often at least (contract.md section 8).
const TOLD_WITHIN: Duration = Duration::from_millis(250);
/// A worker that was silent for longer is not running.
const ALIVE_WITHIN: Duration = Duration::from_secs(60);

#[derive(Args, Clone, Debug)]
pub(crate) struct PauseArgs {
    /// textus
    destination: Destination,
    /// Why; shown by `hookline status`
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    reason: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ResumeArgs {
    /// textus
    destination: Destination,
}

pub(crate) async fn pause(config: Option<&Path>, args: &PauseArgs) -> anyhow::Result<ExitCode> {
    let store = gated(config, args.destination).await?;
    store.pause_gate(args.destination, &args.reason).await?;
    told(&store).await?;
    output::print_line(&format!(
        "paused: calls to {0} stop, deliveries wait; `hookline resume {0}` starts them",
        args.destination
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn resume(config: Option<&Path>, args: &ResumeArgs) -> anyhow::Result<ExitCode> {
    let store = gated(config, args.destination).await?;
    store.resume_gate(args.destination).await?;
    told(&store).await?;
    output::print_line(&format!("resumed: calls to {} are made again", args.destination))?;
    Ok(ExitCode::SUCCESS)
}

/// The store, where the destination is one that calls are made to.
async fn gated(config: Option<&Path>, destination: Destination) -> anyhow::Result<Store> {
    let settings = open::settings(config)?;
    match destination {
        Destination::TextUs => open::store(&settings).await,
        Destination::SystemOfRecord | Destination::Store => Err(wrong_usage(format!(
            "no calls are made to {destination}: it is this machine's own store; textus can be paused"
        ))),
    }
}

/// Returns when every running worker has read the store again.
async fn told(store: &Store) -> anyhow::Result<()> {
    if !store.workers(Timestamp::now().minus(ALIVE_WITHIN)).await?.is_empty() {
        tokio::time::sleep(TOLD_WITHIN).await;
    }
    Ok(())
}
