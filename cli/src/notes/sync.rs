//! `hookline notes sync`: the back-fill of notes.

use std::process::ExitCode;

use clap::Args;
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_worker::back_fill::notes::{NotesPlan, NotesSync, NotesWritten};
use serde_json::{Value, json};

use crate::back_fill::{
    cost, counted, ended, left_documents, needs_another_system, print_left, seconds, stopped_by_signal, tell,
};
use crate::{open, output, progress};

#[derive(Args, Clone, Debug)]
pub(crate) struct SyncArgs {
    /// Take the threads of this local day and later ones: 2026-11-02
    #[arg(long, value_name = "DATE", value_parser = day)]
    since: String,
    /// Only show how many notes would be written, how many API calls they need and how long these take
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Reads a date of the calendar.
fn day(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_date = text.len() == 10 && text.as_bytes().get(4) == Some(&b'-');
    match Timestamp::parse(&format!("{text}T00:00:00Z")) {
        Some(_) if is_date => Ok(text.to_owned()),
        Some(_) | None => Err(format!("{text:?} is not a date: give a day of the calendar, such as 2026-11-02")),
    }
}

pub(super) async fn run(settings: &Settings, args: &SyncArgs) -> anyhow::Result<ExitCode> {
    needs_another_system(settings)?;
    let today = settings.system_of_record.time_zone.day(Timestamp::now());
    if args.since > today {
        return Err(open::wrong_usage(format!(
            "--since {} is in the future: today is {today} in [system_of_record] time_zone ({})",
            args.since, settings.system_of_record.time_zone
        )));
    }
    let store = open::store(settings).await?;
    let sync = NotesSync::new(settings, store, &args.since).await?;
    if args.dry_run {
        return foretell(&sync.plan(true).await?, args.json);
    }
    let stop = stopped_by_signal()?;
    sync.begin().await?;
    let plan = sync.plan(false).await?;
    let facts = facts(&plan, false);
    if !args.json {
        output::hint(&format!("{} to write: {}", counted(plan.to_write(), "thread"), cost(plan.calls, plan.takes)));
        if plan.not_told > 0 || plan.expired > 0 {
            output::hint(&not_covered(&plan));
        }
    }
    let bar = progress::bar(plan.to_write(), "threads");
    let unchanged = plan.unchanged;
    let written = sync.run(plan, &stop, |step| tell(&bar, step)).await;
    bar.finish_and_clear();
    let is_interrupted = stop.is_cancelled();
    if args.json {
        output::print_json(&document(facts, &written, is_interrupted))?;
    } else {
        output::print_line(&format!(
            "written: {} of {}, with {}; there already: {}",
            counted(written.notes, "note"),
            counted(written.threads, "thread"),
            counted(written.calls, "API call"),
            counted(unchanged, "thread")
        ))?;
        if written.skipped > 0 {
            let skipped = counted(written.skipped, "thread");
            output::print_line(&format!("skipped: {skipped} of nobody whom the system knows"))?;
        }
        print_left(&written.left)?;
    }
    Ok(ended(written.stopped.as_deref(), is_interrupted, &written.left))
}

fn foretell(plan: &NotesPlan, as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        output::print_json(&facts(plan, true))?;
    } else {
        output::print_line(&format!(
            "would write {} ({} new, {} changed) of {}: {}; nothing was changed",
            counted(plan.new + plan.changed, "note"),
            plan.new,
            plan.changed,
            counted(plan.to_write(), "thread"),
            cost(plan.calls, plan.takes)
        ))?;
        output::print_line(&format!("there already: {}", counted(plan.unchanged, "thread")))?;
        if plan.not_told > 0 || plan.expired > 0 {
            output::print_line(&not_covered(plan))?;
        }
        print_left(&plan.left)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn not_covered(plan: &NotesPlan) -> String {
    format!(
        "not covered: {} of which texts have expired, and {} whose payload does not tell whose they are or what they say",
        counted(plan.expired, "thread"),
        counted(plan.not_told, "text")
    )
}

fn facts(plan: &NotesPlan, is_trial: bool) -> Value {
    json!({
        "dry_run": is_trial,
        "threads": plan.threads,
        "unchanged": plan.unchanged,
        "to_write": plan.to_write(),
        "notes": plan.new + plan.changed,
        "new": plan.new,
        "changed": plan.changed,
        "filed": plan.filed,
        "expired": plan.expired,
        "not_told": plan.not_told,
        "api_calls": plan.calls,
        "seconds": seconds(plan.takes),
        "left": left_documents(&plan.left, "thread_id"),
    })
}

/// Returns what was planned with what was done in its place.
fn document(mut facts: Value, written: &NotesWritten, is_interrupted: bool) -> Value {
    facts["notes"] = json!(written.notes);
    facts["threads_written"] = json!(written.threads);
    facts["skipped"] = json!(written.skipped);
    facts["api_calls"] = json!(written.calls);
    facts["left"] = json!(left_documents(&written.left, "thread_id"));
    facts["interrupted"] = json!(is_interrupted);
    facts["stopped"] = json!(written.stopped);
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_of_the_calendar_are_dates() {
        assert_eq!(day(" 2026-11-02 ").as_deref(), Ok("2026-11-02"));
        for text in ["", "2026-13-01", "2026-02-30", "02.11.2026", "20261102", "2026-11-02T00:00:00Z", "7d", "2026-1-2"]
        {
            assert!(day(text).is_err(), "{text}");
        }
    }
}
