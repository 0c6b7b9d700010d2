//! `hookline dead-letters`: lists and shows dead letters, and offers three ways out: redrive, discard, resolve.

mod resolve;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgGroup, Args, Subcommand};
use futures::stream::{self, StreamExt};
use hookline_broker::Publish as _;
use hookline_common::names::{DeadReason, Destination, HandlerName};
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{DeadLetterFilter, DeadLetterRow};
use hookline_worker::background::dead_letters::{redrive, resume};
use hookline_worker::background::pace;
use serde_json::{Value, json};

use crate::open::{self, Place};
use crate::output::{self, ListArgs, Listing};
use crate::table::{Table, or_dash, printable};
use crate::when::{in_words, when};
use crate::{progress, unrouted};

/// How long a list waits for RabbitMQ before it does without the hint.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// Number of rows that `--all` reads at a time.
const PAGE: u32 = 1_000;

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum DeadLettersCommand {
    /// List dead letters, newest first
    List {
        #[command(flatten)]
        filter: FilterArgs,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show everything that is known about one dead letter
    Show(ShowArgs),
    /// Put dead letters back on the work queue, at attempt 1
    Redrive(RedriveArgs),
    /// Give dead letters up for good, with a reason
    Discard(DiscardArgs),
    /// Settle an outcome_unknown or an ambiguous_contact after a person looked at the destination
    Resolve(resolve::ResolveArgs),
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FilterArgs {
    /// Take only those of this handler
    #[arg(long)]
    handler: Option<HandlerName>,
    /// Take only those with this reason
    #[arg(long)]
    reason: Option<DeadReason>,
    /// Take only those given up since this time: RFC 3339, or how long ago (2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = when)]
    since: Option<Timestamp>,
    /// Take only those for this destination
    #[arg(long)]
    destination: Option<Destination>,
}

impl FilterArgs {
    fn filter(&self) -> DeadLetterFilter {
        DeadLetterFilter {
            handler: self.handler,
            reason: self.reason,
            since: self.since,
            destination: self.destination,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ShowArgs {
    /// Id of the dead letter or of its event
    id: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("which").required(true).args(["ids", "all"])))]
pub(crate) struct RedriveArgs {
    /// Ids of the dead letters or of their events
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Take every dead letter that the filters let through
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only show how many there are, how many API calls they need and how long these take
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DiscardArgs {
    /// Ids of the dead letters or of their events
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Reason, which the audit keeps
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(place: Place<'_>, command: DeadLettersCommand) -> anyhow::Result<ExitCode> {
    let settings = open::settings(place)?;
    let Some(store) = open::store_or_none(&settings).await? else {
        hint_at_unrouted(&settings).await;
        return Err(open::nothing_here(&settings));
    };
    match command {
        DeadLettersCommand::List { filter, list } => {
            let page = store.dead_letters(&filter.filter(), list.limit, list.cursor.as_deref()).await?;
            listing(&page.rows, page.next).print(list.json)?;
            if !list.json {
                hint_at_unrouted(&settings).await;
            }
            Ok(ExitCode::SUCCESS)
        }
        DeadLettersCommand::Show(args) => show(&store, &args).await,
        DeadLettersCommand::Redrive(args) => run_redrive(&settings, &store, &args).await,
        DeadLettersCommand::Discard(args) => discard(&store, &args).await,
        DeadLettersCommand::Resolve(args) => resolve::run(&settings, &store, &args).await,
    }
}

/// Hints at events that no queue took, because they are given up in a way too. If the broker is away, the command
/// doesn't wait for it.
async fn hint_at_unrouted(settings: &Settings) {
    if settings.broker.url.is_empty() {
        return;
    }
    let Ok(broker) = open::rabbit_within(settings, LOOK_WITHIN).await else { return };
    if let Ok(unrouted @ 1..) = unrouted::count(broker.as_ref()).await {
        let list = output::typed("unrouted list");
        output::hint(&format!("Besides, {unrouted} events found no queue on RabbitMQ: {list}."));
    }
    broker.close().await;
}

fn listing(rows: &[DeadLetterRow], next: Option<String>) -> Listing<'static> {
    let mut table = Table::new(&["ID", "EVENT", "HANDLER", "REASON", "STATUS", "ATTEMPTS", "GIVEN UP"]);
    for row in rows {
        table.row([
            row.id.clone(),
            row.event_id.to_string(),
            row.handler.to_string(),
            row.info.reason.to_string(),
            or_dash(row.info.status),
            row.info.attempts.to_string(),
            row.info.dead_lettered_at.to_string(),
        ]);
    }
    let rows = rows.iter().map(document).collect();
    Listing { key: "dead_letters", rows, table, next, when_empty: "No dead letters.".to_owned() }
}

fn document(row: &DeadLetterRow) -> Value {
    json!({
        "id": row.id,
        "event_id": row.event_id.as_str(),
        "handler": row.handler.as_str(),
        "reason": row.info.reason.as_str(),
        "destination": row.info.destination.map(Destination::as_str),
        "status": row.info.status,
        "attempts": row.info.attempts,
        "dead_lettered_at": row.info.dead_lettered_at.to_string(),
        "detail": row.info.detail,
    })
}

async fn show(store: &Store, args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let rows = store.dead_letter(&args.id).await?;
    if args.json {
        match rows.as_slice() {
            [] => {}
            [one] => output::print_json(&document(one))?,
            // An event may have one dead letter per handler.
            several => listing(several, None).print(true)?,
        }
    } else {
        for row in &rows {
            output::print(&in_full(row))?;
        }
    }
    if rows.is_empty() { Err(unknown(&args.id)) } else { Ok(ExitCode::SUCCESS) }
}

fn in_full(row: &DeadLetterRow) -> String {
    let what_next = if row.info.reason == DeadReason::OutcomeUnknown {
        format!("look at the destination, then {} or `--write-again`", output::typed("dead-letters resolve ID --done"))
    } else {
        format!("{} once the cause is gone, or `discard ID --reason TEXT`", output::typed("dead-letters redrive ID"))
    };
    format!(
        "id           {}\nevent        {}\nhandler      {}\nreason       {}\ndestination  {}\nstatus       {}\n\
         attempts     {}\ngiven up     {}\ndetail       {}\nnext         {}\n\n",
        row.id,
        row.event_id,
        row.handler,
        row.info.reason,
        or_dash(row.info.destination),
        or_dash(row.info.status),
        row.info.attempts,
        row.info.dead_lettered_at,
        printable(&row.info.detail),
        what_next.replace("ID", &row.id),
    )
}

async fn run_redrive(settings: &Settings, store: &Store, args: &RedriveArgs) -> anyhow::Result<ExitCode> {
    let (rows, unknown) = if args.all {
        (every(store, &args.filter.filter()).await?, Vec::new())
    } else {
        named(store, &args.ids).await?
    };
    if args.dry_run {
        dry_run(settings, store, &rows, args.json).await?;
        return Ok(report_unknown(&unknown));
    }
    // A redrive that was interrupted between store and queue is in no list, so we finish it first.
    let resumed = finish_interrupted(settings, store).await?;
    if resumed > 0 {
        output::hint(&format!("finished {resumed} redrives that had been interrupted"));
    }
    let (redriven, gone) = redrive_all(settings, store, &rows).await?;
    if args.json {
        output::print_json(&json!({ "redriven": redriven }))?;
    } else {
        output::print_line(&format!("redriven: {redriven}"))?;
    }
    for id in &gone {
        output::error(&format!("{id} was not redriven: its payload was erased, or it was dealt with meanwhile"));
    }
    let code = report_unknown(&unknown);
    Ok(if gone.is_empty() { code } else { ExitCode::FAILURE })
}

async fn finish_interrupted(settings: &Settings, store: &Store) -> anyhow::Result<usize> {
    if store.redriving().await?.is_empty() {
        return Ok(0);
    }
    let broker = open::broker(settings).await?;
    let resumed = resume(store, broker.as_ref()).await;
    broker.close().await;
    resumed
}

/// Returns how many dead letters were redriven, and the ids of those that could not be.
async fn redrive_all(settings: &Settings, store: &Store, rows: &[DeadLetterRow]) -> anyhow::Result<(u64, Vec<String>)> {
    let broker = open::broker(settings).await?;
    let bar = progress::bar(rows.len() as u64, "redriven");
    let queues = broker.as_ref();
    let mut outcomes = stream::iter(rows)
        .map(|row| async move { (row, redrive(store, queues, &row.id).await) })
        .buffer_unordered(open::AT_ONCE);
    let (mut redriven, mut gone) = (0, Vec::new());
    while let Some((row, outcome)) = outcomes.next().await {
        let done =
            outcome.with_context(|| format!("after {redriven} redriven, at {}; redrive again to go on", row.id))?;
        if done {
            redriven += 1;
        } else {
            gone.push(row.id.clone());
        }
        bar.inc(1);
    }
    drop(outcomes);
    bar.finish_and_clear();
    broker.close().await;
    Ok((redriven, gone))
}

async fn dry_run(settings: &Settings, store: &Store, rows: &[DeadLetterRow], as_json: bool) -> anyhow::Result<()> {
    let calls = rows.iter().map(|row| pace::calls(settings, row.handler)).sum();
    let takes = pace::time_for(calls, &store.gates().await?, Destination::TextUs);
    if as_json {
        return output::print_json(&json!({
            "redriven": 0,
            "would_redrive": rows.len(),
            "api_calls": calls,
            "seconds": takes.as_secs(),
        }));
    }
    output::print_line(&format!(
        "would redrive {}: at most {calls} API calls, {} at the quota of this token; nothing was changed",
        rows.len(),
        in_words(takes)
    ))
}

async fn discard(store: &Store, args: &DiscardArgs) -> anyhow::Result<ExitCode> {
    let (rows, unknown) = named(store, &args.ids).await?;
    let mut discarded = 0_u64;
    for row in &rows {
        if store.discard(&row.id, &args.reason).await? {
            discarded += 1;
        }
    }
    if args.json {
        output::print_json(&json!({ "discarded": discarded }))?;
    } else {
        output::print_line(&format!("discarded: {discarded}"))?;
    }
    Ok(changed_all(discarded, rows.len(), report_unknown(&unknown)))
}

/// Returns a failure if some of the dead letters were dealt with meanwhile or are being redriven, else `otherwise`.
fn changed_all(changed: u64, asked: usize, otherwise: ExitCode) -> ExitCode {
    if usize::try_from(changed).is_ok_and(|changed| changed == asked) {
        return otherwise;
    }
    output::error("not all of them could be changed: they were dealt with meanwhile, or are being redriven");
    ExitCode::FAILURE
}

/// Returns every dead letter that matches the filter now. One that dies again meanwhile is not taken a second time.
async fn every(store: &Store, filter: &DeadLetterFilter) -> anyhow::Result<Vec<DeadLetterRow>> {
    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.dead_letters(filter, PAGE, cursor.as_deref()).await?;
        rows.extend(page.rows);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(rows);
        }
    }
}

/// Returns the dead letters with these ids, each once, and the ids that match none.
async fn named(store: &Store, ids: &[String]) -> anyhow::Result<(Vec<DeadLetterRow>, Vec<String>)> {
    let mut rows: Vec<DeadLetterRow> = Vec::new();
    let mut unknown = Vec::new();
    for id in ids {
        let found = store.dead_letter(id).await?;
        if found.is_empty() {
            unknown.push(id.clone());
        }
        for row in found {
            if rows.iter().all(|known| known.id != row.id) {
                rows.push(row);
            }
        }
    }
    Ok((rows, unknown))
}

fn unknown(id: &str) -> anyhow::Error {
    anyhow::anyhow!("no dead letter {id:?}, and no event of this id with one; `hookline dead-letters list` shows them")
}

/// Reports unknown ids. The known ones were dealt with, but the command still fails if any id was unknown.
fn report_unknown(ids: &[String]) -> ExitCode {
    for id in ids {
        output::error(&unknown(id).to_string());
    }
    if ids.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
