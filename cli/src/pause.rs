//! `hookline pause` and `hookline resume`: stop and start calls to a destination. Nothing is lost meanwhile: deliveries
//! wait in their queues and no attempt is spent.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use hookline_common::names::Destination;
use hookline_common::settings::SystemOfRecordKind;
use hookline_store::Store;

use crate::open::{self, Place, wrong_usage};
use crate::output;
use crate::workers::{self, Answers};

#[derive(Args, Clone, Debug)]
pub(crate) struct PauseArgs {
    /// Destination to pause: textus, or system_of_record unless it is built in
    destination: Destination,
    /// Reason, which `hookline status` shows
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    reason: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ResumeArgs {
    /// Destination to resume: textus, or system_of_record unless it is built in
    destination: Destination,
}

pub(crate) async fn pause(place: Place<'_>, args: &PauseArgs) -> anyhow::Result<ExitCode> {
    let store = gated(place, args.destination).await?;
    store.pause_gate(args.destination, &args.reason).await?;
    until_workers_know(&store).await?;
    output::print_line(&format!(
        "paused: calls to {0} stop, deliveries wait; `hookline resume {0}` starts them",
        args.destination
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn resume(place: Place<'_>, args: &ResumeArgs) -> anyhow::Result<ExitCode> {
    let store = gated(place, args.destination).await?;
    store.resume_gate(args.destination).await?;
    until_workers_know(&store).await?;
    output::print_line(&format!(
        "resumed: calls to {} are made again, unless its first answer says otherwise; `status` shows it",
        args.destination
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the store; fails for destinations to which no calls are made.
async fn gated(place: Place<'_>, destination: Destination) -> anyhow::Result<Store> {
    let settings = open::settings(place)?;
    let is_called = match destination {
        Destination::TextUs => true,
        Destination::SystemOfRecord => settings.system_of_record.kind != SystemOfRecordKind::Builtin,
        Destination::Store => false,
    };
    if is_called {
        return open::store(&settings).await;
    }
    Err(wrong_usage(format!(
        "no calls are made to {destination}: it is this machine's own store; textus can be paused"
    )))
}

/// Returns when every running worker has read the store again.
///
/// # Errors
/// Fails when a running worker doesn't answer in time.
async fn until_workers_know(store: &Store) -> anyhow::Result<()> {
    let Answers { answered, silent } = workers::ask(store).await?;
    if silent > 0 {
        bail!(
            "it is written down, but {silent} of {} running workers did not say within {} s that they have seen it; look \
             at their logs and run this again (a worker that was killed counts as running for {} s)",
            answered.len() + silent,
            workers::WITHIN.as_secs(),
            workers::ALIVE_WITHIN.as_secs()
        );
    }
    Ok(())
}
