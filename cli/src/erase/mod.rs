//! `hookline erase PHONE`: deletes a person's payloads, notes and history, and the work that waits and would make them
//! anew; the opt-out evidence stays. Asks first.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use hookline_broker::embedded::EmbeddedBroker;
use hookline_broker::{BrokerError, Publish as _, QueueAdmin as _};
use hookline_common::event::EventId;
use hookline_common::names::HandlerName;
use hookline_common::phone::Phone;
use hookline_common::settings::Settings;
use hookline_ingest::spool;
use hookline_store::Store;
use hookline_store::model::Erased;
use serde_json::json;

use self::remote::RemoteNotes;
use crate::open::Place;
use crate::{open, opt_outs, output, status};

mod remote;

#[derive(Args, Clone, Debug)]
pub(crate) struct EraseArgs {
    /// Any of the person's numbers, in any usual form; a number without + belongs to the North American plan
    phone: String,
    /// Show what would be erased, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask first
    #[arg(long)]
    yes: bool,
    /// Print one JSON document instead of sentences
    #[arg(long)]
    json: bool,
}

/// Events with work left in the queues.
struct Left {
    /// Opt-outs, which are worked off.
    waiting: usize,
    /// Not in the history yet, which will bring their payload there.
    being_recorded: usize,
    /// In the spool, of whomever: whose they are nobody has read yet.
    spooled: u64,
    /// Copies of erased deliveries that the broker may hold, and of the person's own that are worked off.
    broker_copies: u64,
}

pub(crate) async fn run(place: Place<'_>, args: &EraseArgs) -> anyhow::Result<ExitCode> {
    let settings = open::settings(place)?;
    let phone = opt_outs::phone(&args.phone)?;
    if !args.dry_run && !args.yes && !io::stdin().is_terminal() {
        return Err(open::wrong_usage(
            "erase asks before it deletes, and nobody can answer here; say --yes, or look first with --dry-run",
        ));
    }
    let store = open::store(&settings).await?;
    if args.dry_run || !args.yes {
        let erased = store.would_erase(&phone).await?;
        let left = Left { spooled: spooled(&settings).await?, ..Left::foretold(&settings, &erased) };
        if args.dry_run {
            return foretell(args, &phone, &erased, &left);
        }
        output::hint(&sum("This erases", &phone, &erased));
        if !is_confirmed()? {
            output::hint("Nothing was erased.");
            return Ok(ExitCode::FAILURE);
        }
    }
    let mut remote = RemoteNotes::default();
    // Before the store forgets their ids.
    remote.delete(&settings, &store, store.remote_notes(&phone).await?).await?;
    let erased = store.erase(&phone).await?;
    // What a worker wrote in between.
    remote.delete(&settings, &store, erased.remote_notes.clone()).await?;
    let logs_emptied = remove_from_queues(&settings, &store, &erased.discarded).await?;
    let erased = Erased { log_kept: erased.log_kept || !logs_emptied, ..erased };
    let broker_copies = store.erased_copies().await? + erased.still_waiting.len() as u64;
    let left = Left { spooled: spooled(&settings).await?, broker_copies, ..Left::of(&erased) };
    show(args, &phone, &erased, &left, &remote)?;
    if remote.left.is_empty() { Ok(ExitCode::SUCCESS) } else { Ok(ExitCode::FAILURE) }
}

fn foretell(args: &EraseArgs, phone: &Phone, erased: &Erased, left: &Left) -> anyhow::Result<ExitCode> {
    let remote = RemoteNotes { deleted: erased.remote_notes.len(), ..RemoteNotes::default() };
    show(args, phone, erased, left, &remote)?;
    Ok(ExitCode::SUCCESS)
}

fn is_confirmed() -> anyhow::Result<bool> {
    output::hint("It cannot be undone. Type yes to go on:");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// A copy that a worker has in hand by now, or that comes back after a crash here, does not begin: the store says
/// that it was discarded. `false` where a write-ahead log of the data directory still holds what was erased.
async fn remove_from_queues(
    settings: &Settings,
    store: &Store,
    discarded: &[(EventId, HandlerName)],
) -> anyhow::Result<bool> {
    // On RabbitMQ nothing can be taken out of a queue, and what went through the spool is in the log of its file.
    let embedded = settings.broker.url.is_empty();
    let files = if embedded { open::queue_files(settings) } else { spool::options(settings) };
    if !files.exists() {
        return Ok(true);
    }
    let queues = EmbeddedBroker::open(files.guest()).await.context("cannot open the queues' file")?;
    let emptied = remove_and_empty(&queues, discarded).await;
    queues.close().await;
    let emptied = emptied?;
    if embedded {
        store.copies_gone(discarded).await?;
    }
    Ok(emptied)
}

async fn remove_and_empty(queues: &EmbeddedBroker, discarded: &[(EventId, HandlerName)]) -> Result<bool, BrokerError> {
    for (event_id, handler) in discarded {
        queues.remove(event_id, *handler).await?;
    }
    queues.empty_log().await
}

async fn spooled(settings: &Settings) -> anyhow::Result<u64> {
    Ok(status::spooled(settings).await.context("cannot read the spool")?.events)
}

impl Left {
    fn of(erased: &Erased) -> Self {
        let events = |recording: bool| {
            let of_kind =
                |(_, handler): &&(EventId, HandlerName)| (*handler == HandlerName::RecordHistory) == recording;
            erased.still_waiting.iter().filter(of_kind).map(|(event_id, _)| event_id).collect::<BTreeSet<_>>().len()
        };
        Self { waiting: events(false), being_recorded: events(true), spooled: 0, broker_copies: 0 }
    }

    /// What would be left.
    fn foretold(settings: &Settings, erased: &Erased) -> Self {
        // The embedded broker's are taken out.
        let discarded = if settings.broker.url.is_empty() { 0 } else { erased.discarded.len() };
        Self { broker_copies: (discarded + erased.still_waiting.len()) as u64, ..Self::of(erased) }
    }
}

fn show(args: &EraseArgs, phone: &Phone, erased: &Erased, left: &Left, remote: &RemoteNotes) -> anyhow::Result<()> {
    if !args.json {
        print_erased(args.dry_run, phone, erased, left)?;
        return remote.print(args.dry_run);
    }
    output::print_json(&json!({
        "phone": phone.masked(),
        "dry_run": args.dry_run,
        "numbers": erased.numbers,
        "payloads": erased.payloads,
        "payloads_kept": erased.payloads_kept,
        "notes": erased.notes,
        "persons": erased.persons,
        "contact_links": erased.contact_links,
        "dead_letters": erased.dead_letters,
        "masked": erased.masked,
        "deliveries_discarded": erased.discarded.len(),
        "broker_copies": left.broker_copies,
        "events_waiting": left.waiting,
        "events_being_recorded": left.being_recorded,
        "events_spooled": left.spooled,
        "log_emptied": !erased.log_kept,
        "remote_notes_deleted": remote.deleted,
        "remote_notes_left": remote.left_documents(),
    }))
}

fn sum(verb: &str, phone: &Phone, erased: &Erased) -> String {
    format!(
        "{verb} what is held about {} (numbers: {}): payloads {}, notes {}, people {}, contact links {}, dead letters {}; \
         waiting deliveries discarded: {}; texts of others in which the number is masked: {}.",
        phone.masked(),
        erased.numbers,
        erased.payloads,
        erased.notes,
        erased.persons,
        erased.contact_links,
        erased.dead_letters,
        erased.discarded.len(),
        erased.masked
    )
}

fn print_erased(dry_run: bool, phone: &Phone, erased: &Erased, left: &Left) -> anyhow::Result<()> {
    output::print_line(&sum(if dry_run { "Would erase" } else { "Erased" }, phone, erased))?;
    output::print_line("Kept: the opt-out ledger, which proves what this person asked for.")?;
    if erased.payloads_kept > 0 {
        output::print_line(&format!(
            "Payloads that opt-outs of this person still need: {}. Each goes by itself once its opt-out is sent; that of a \
             dead letter once that is redriven or discarded.",
            erased.payloads_kept
        ))?;
    }
    if left.broker_copies > 0 {
        output::print_line(&format!(
            "Copies that the broker still holds: {}. Each is dropped when it comes, also while its destination is paused; \
             opt-outs are worked off.",
            left.broker_copies
        ))?;
    }
    if left.waiting > 0 {
        output::print_line(&format!(
            "Still in the queues: {} opt-outs or opt-ins of this person. They are worked off and leave the queues \
             then (`hookline status` shows what waits).",
            left.waiting
        ))?;
    }
    if left.being_recorded > 0 {
        output::print_line(&format!(
            "Still being recorded: {} events of this person. Run `hookline erase` again in a moment.",
            left.being_recorded
        ))?;
    }
    if left.spooled > 0 {
        output::print_line(&format!(
            "In the spool: {} events, perhaps of this person too. Run `hookline erase` again when they have been \
             forwarded and recorded (`hookline status`).",
            left.spooled
        ))?;
    }
    if erased.log_kept {
        output::print_line(
            "Others are reading the store or the queues, so a write-ahead log still holds what was erased. Run \
             `hookline erase` again in a moment to empty it.",
        )?;
    }
    Ok(())
}
