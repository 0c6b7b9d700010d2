//! What `notes sync` and `opt-outs sync` have in common.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use hookline_common::service::shutdown;
use hookline_common::settings::{Settings, SystemOfRecordKind};
use hookline_worker::back_fill::{Left, Progress};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::open;
use crate::output;
use crate::when::in_words;

/// Most items that are listed one by one. `--json` has all.
const MOST_SHOWN: usize = 20;

/// Fails where there is nothing to fill.
pub(crate) fn needs_another_system(settings: &Settings) -> anyhow::Result<()> {
    if settings.system_of_record.kind != SystemOfRecordKind::Builtin {
        return Ok(());
    }
    Err(open::wrong_usage(
        "[system_of_record] kind is \"builtin\": the built-in system of record is part of the store and lacks nothing that \
         the store knows; set kind to the system that is to be filled, or look whether this is the --config that Hookline \
         runs with",
    ))
}

/// Returns a token that the first SIGINT or SIGTERM cancels: what is in flight then ends in order.
pub(crate) fn stopped_by_signal() -> anyhow::Result<CancellationToken> {
    shutdown::on_signal().context("cannot listen for signals")
}

/// Moves the bar on, or says why it stands still.
pub(crate) fn tell(bar: &ProgressBar, progress: Progress<'_>) {
    match progress {
        Progress::Done => bar.inc(1),
        Progress::Held(why) => bar.suspend(|| {
            output::hint(&format!(
                "waiting: {why}; this goes on by itself, and Ctrl-C ends it with what is written kept"
            ));
        }),
    }
}

/// Says how many calls are made at most, and how long they take.
pub(crate) fn cost(calls: u64, takes: Option<Duration>) -> String {
    let calls = match calls {
        0 => return "no API call".to_owned(),
        calls => format!("up to about {}", counted(calls, "API call")),
    };
    match takes {
        Some(takes) => {
            format!("{calls}, about {} at what the destination allows", in_words(takes.max(Duration::from_secs(1))))
        }
        None => format!("{calls}, for an unknown time, since nothing says how fast they may be made"),
    }
}

/// Writes a number with its noun: `1 thread`, `2 threads`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Says why a back-fill ended early, if it did. It fails where something is left.
pub(crate) fn ended(stopped: Option<&str>, is_interrupted: bool, left: &[Left]) -> ExitCode {
    const GOES_ON: &str = "what is written stays, and the same command goes on from there";
    if let Some(why) = stopped {
        output::error(&format!("{why}; {GOES_ON}"));
    } else if is_interrupted {
        output::error(&format!("interrupted: {GOES_ON}"));
    }
    let is_whole = stopped.is_none() && !is_interrupted && left.is_empty();
    if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whole seconds, rounded up; `null` if unknown.
pub(crate) fn seconds(takes: Option<Duration>) -> Option<u64> {
    takes.map(|takes| takes.as_secs() + u64::from(takes.subsec_nanos() > 0))
}

/// Prints what could not be written.
pub(crate) fn print_left(left: &[Left]) -> anyhow::Result<()> {
    for Left { what, reason, detail } in left.iter().take(MOST_SHOWN) {
        output::print_line(&format!("left: {what}: {reason}: {detail}"))?;
    }
    if left.len() > MOST_SHOWN {
        output::print_line(&format!("left: {} more; --json lists all", left.len() - MOST_SHOWN))?;
    }
    Ok(())
}

pub(crate) fn left_documents(left: &[Left], what: &str) -> Vec<Value> {
    let document = |left: &Left| json!({ what: left.what, "reason": left.reason.as_str(), "detail": left.detail });
    left.iter().map(document).collect()
}
