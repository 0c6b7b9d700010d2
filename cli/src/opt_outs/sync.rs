//! `hookline opt-outs sync`: the back-fill of opt-outs.

use std::process::ExitCode;

use clap::Args;
use hookline_common::settings::Settings;
use hookline_worker::back_fill::opt_outs::{OptOutsPlan, OptOutsSync, OptOutsWritten};
use serde_json::{Value, json};

use crate::back_fill::{
    cost, counted, ended, left_documents, needs_another_system, print_left, seconds, stopped_by_signal, tell,
};
use crate::{open, output, progress};

#[derive(Args, Clone, Debug)]
pub(crate) struct SyncArgs {
    /// Only show how many numbers there are, how many API calls they need and how long these take
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(settings: &Settings, args: &SyncArgs) -> anyhow::Result<ExitCode> {
    needs_another_system(settings)?;
    let store = open::store(settings).await?;
    let sync = OptOutsSync::new(settings, store).await?;
    let plan = sync.plan().await?;
    let to_do = plan.numbers - plan.done_before;
    if args.dry_run {
        if args.json {
            output::print_json(&facts(&plan, true))?;
        } else {
            output::print_line(&format!(
                "would look at the records of {}: {} if each is on one record; nothing was changed",
                counted(to_do, "number"),
                cost(plan.calls, plan.takes)
            ))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let stop = stopped_by_signal()?;
    sync.begin().await?;
    if !args.json {
        output::hint(&format!(
            "{}: {} if each is on one record",
            counted(to_do, "number"),
            cost(plan.calls, plan.takes)
        ));
        if plan.done_before > 0 {
            output::hint(&format!("done before this was interrupted: {}", counted(plan.done_before, "number")));
        }
    }
    let facts = facts(&plan, false);
    let bar = progress::bar(to_do, "numbers");
    let written = sync.run(plan, &stop, |step| tell(&bar, step)).await;
    bar.finish_and_clear();
    let is_interrupted = stop.is_cancelled();
    if args.json {
        output::print_json(&document(facts, &written, is_interrupted))?;
    } else {
        output::print_line(&format!(
            "flagged: {}, with {}; as they should be: {}; on no record: {}",
            counted(written.flagged, "record"),
            counted(written.calls, "API call"),
            counted(written.unchanged, "number"),
            counted(written.unknown, "number")
        ))?;
        print_left(&written.left)?;
    }
    Ok(ended(written.stopped.as_deref(), is_interrupted, &written.left))
}

fn facts(plan: &OptOutsPlan, is_trial: bool) -> Value {
    json!({
        "dry_run": is_trial,
        "numbers": plan.numbers,
        "done_before": plan.done_before,
        "api_calls": plan.calls,
        "seconds": seconds(plan.takes),
    })
}

/// Returns what was planned with what was done in its place.
fn document(mut facts: Value, written: &OptOutsWritten, is_interrupted: bool) -> Value {
    facts["flagged"] = json!(written.flagged);
    facts["unchanged"] = json!(written.unchanged);
    facts["unknown"] = json!(written.unknown);
    facts["api_calls"] = json!(written.calls);
    facts["left"] = json!(left_documents(&written.left, "phone"));
    facts["interrupted"] = json!(is_interrupted);
    facts["stopped"] = json!(written.stopped);
    facts
}
