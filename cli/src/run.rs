//! `hookline run`: one-machine production, ingest and worker in one process.

use std::process::ExitCode;

use hookline_common::settings::{Needs, load};
use hookline_common::shutdown;
use hookline_common::telemetry::logging;

use crate::RunArgs;
use crate::house::House;
use crate::open::wrong_usage;

pub(crate) async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let loaded = load(args.config.as_deref(), Needs::RUN).map_err(|problems| wrong_usage(problems.to_string()))?;
    let settings = loaded.settings;
    logging::init(settings.log.format, "info");
    for warning in &loaded.warnings {
        tracing::warn!(warning = %warning, "configuration.warning");
    }
    for (key, value) in settings.describe() {
        tracing::debug!(key, value, "configuration.resolved");
    }
    let shutdown = shutdown::on_signal()?;
    let house = House::open(&settings, |broker| broker).await?;
    tracing::info!(
        webhooks = %house.webhook_addr(),
        admin = %house.admin_addr(),
        data_dir = %settings.data_dir.display(),
        "hookline.started"
    );
    house.run(shutdown).await?;
    tracing::info!("hookline.stopped");
    Ok(ExitCode::SUCCESS)
}
