//! `hookline events replay`: sends events from the history to their handlers again. Effects that are done stay done:
//! they are remembered for at least 90 days, and older events are refused.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgGroup, Args};
use futures::stream::{self, StreamExt};
use hookline_broker::{Again, Broker, topology};
use hookline_common::event::{Event, EventId};
use hookline_common::names::HandlerName;
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{EventFilter, Payload};
use serde_json::json;

use super::FilterArgs;
use crate::{open, output, progress};

/// Maximum age of an event that may be replayed. The store keeps effects at least this long (`[store] retention`);
/// replaying an older event could repeat them.
const MAX_AGE: Duration = Duration::from_secs(90 * 86_400);
/// Number of rows that are read at a time.
const PAGE: u32 = 1_000;

#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["ids", "since", "until", "event_type"])))]
pub(crate) struct ReplayArgs {
    /// Event ids, as `hookline events list` prints them
    #[arg(value_name = "ID", conflicts_with_all = ["since", "until", "event_type"])]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only show how many there are
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// An event that is not replayed, and the reason.
struct Refused {
    id: String,
    why: &'static str,
}

pub(super) async fn run(settings: &Settings, store: &Store, args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let ids = if args.ids.is_empty() { matching(store, &args.filter.filter()).await? } else { args.ids.clone() };
    let broker = if args.dry_run { None } else { Some(open::broker(settings).await?) };
    let bar = progress::bar(ids.len() as u64, "replayed");
    // `buffered` keeps the order, so that events reach the queues roughly in the order in which they were received.
    let mut outcomes = stream::iter(&ids).map(|id| one(settings, store, broker.as_deref(), id)).buffered(open::AT_ONCE);
    let (mut replayed, mut refused) = (0_u64, Vec::new());
    while let Some(outcome) = outcomes.next().await {
        match outcome.with_context(|| format!("after {replayed} replayed; replaying again changes nothing for them"))? {
            None => replayed += 1,
            Some(refusal) => refused.push(refusal),
        }
        bar.inc(1);
    }
    drop(outcomes);
    bar.finish_and_clear();
    if let Some(broker) = broker {
        broker.close().await;
    }
    report(args, replayed, &refused)
}

/// Replays one event, or returns why it is refused. Without a broker nothing is published.
async fn one(
    settings: &Settings,
    store: &Store,
    broker: Option<&dyn Broker>,
    id: &str,
) -> anyhow::Result<Option<Refused>> {
    match replayable(store, id).await? {
        Err(why) => Ok(Some(Refused { id: id.to_owned(), why })),
        Ok(event) => {
            if let Some(broker) = broker {
                publish(settings, broker, &event).await?;
            }
            Ok(None)
        }
    }
}

fn report(args: &ReplayArgs, replayed: u64, refused: &[Refused]) -> anyhow::Result<ExitCode> {
    match (args.json, args.dry_run) {
        (true, true) => output::print_json(&json!({ "replayed": 0, "would_replay": replayed }))?,
        (true, false) => output::print_json(&json!({ "replayed": replayed }))?,
        (false, true) => output::print_line(&format!("would replay {replayed} events; nothing was changed"))?,
        (false, false) => output::print_line(&format!("replayed: {replayed}"))?,
    }
    for Refused { id, why } in refused {
        output::error(&format!("{id:?} was not replayed: {why}"));
    }
    Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the ids of the matching events in the order in which they were received, oldest first.
async fn matching(store: &Store, filter: &EventFilter) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.events(filter, PAGE, cursor.as_deref()).await?;
        ids.extend(page.rows.into_iter().map(|row| row.event_id.to_string()));
        cursor = page.next;
        if cursor.is_none() {
            ids.reverse();
            return Ok(ids);
        }
    }
}

async fn replayable(store: &Store, id: &str) -> anyhow::Result<Result<Event, &'static str>> {
    let Ok(id) = EventId::parse(id) else {
        return Ok(Err("no event has such an id; `hookline events list` shows them"));
    };
    Ok(match store.event_payload(&id).await? {
        Payload::Unknown => Err("the history does not hold it; `hookline events list` shows what it holds"),
        Payload::Gone => Err("its payload is gone: retention or an erasure took it"),
        Payload::Here(event) if Timestamp::now().since(event.received_at) > MAX_AGE => {
            Err("it is older than 90 days, and what was done for it may be forgotten: replaying could do it twice")
        }
        Payload::Here(event) => Ok(event),
    })
}

/// Publishes the event to every enabled handler that takes its type, except to the history, where the event comes from.
async fn publish(settings: &Settings, broker: &dyn Broker, event: &Event) -> anyhow::Result<()> {
    for handler in settings.handlers.enabled() {
        if handler != HandlerName::RecordHistory && topology::takes(handler, &event.event_type) {
            broker.publish_again(handler, event, Again::Replay).await?;
        }
    }
    Ok(())
}
