//! `hookline run`: production on one machine, with ingest and worker in one process.

use std::process::ExitCode;

use hookline_common::service;
use hookline_common::service::{reload, shutdown};
use hookline_common::settings::Needs;

use crate::RunArgs;
use crate::all_in_one::AllInOne;

pub(crate) async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let settings = service::settings(args.config.as_deref(), Needs::RUN)?;
    let shutdown = shutdown::on_signal()?;
    let live = reload::follow(args.config.as_deref(), Needs::RUN, &settings)?;
    let all_in_one = AllInOne::open(&settings, |broker| broker).await?.following(&live);
    tracing::info!(
        webhooks = %all_in_one.webhook_addr(),
        admin = %all_in_one.admin_addr(),
        data_dir = %settings.data_dir.display(),
        "hookline.started"
    );
    all_in_one.run(shutdown).await?;
    tracing::info!("hookline.stopped");
    Ok(ExitCode::SUCCESS)
}
