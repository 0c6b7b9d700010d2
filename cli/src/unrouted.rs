//! `hookline unrouted`: handles events that reached RabbitMQ while a queue or a binding was missing, so that no queue
//! took them. It lists them and offers two ways out: redrive once the topology is whole, or discard with a reason.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use hookline_broker::rabbitmq::{RabbitBroker, Unrouted};
use hookline_broker::topology::rabbitmq::UNROUTED;
use hookline_broker::topology::takes;
use hookline_broker::{Publish as _, QueueAdmin};
use hookline_common::event::{Event, EventId};
use hookline_common::names::HandlerName;
use hookline_common::settings::Settings;
use hookline_store::Store;
use serde_json::json;

use crate::open::{self, Place};
use crate::output;
use crate::table::{Table, printable};
use crate::topology;

/// Number of messages that are read and discarded at a time.
const PAGE: usize = 500;

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum UnroutedCommand {
    /// List messages that no queue took, oldest first, and leave them where they are
    List(ListArgs),
    /// Send the messages where they were going, under the same ids; what is done stays done
    Redrive(RedriveArgs),
    /// Remove these copies for good, with a reason; the history keeps the events
    Discard(DiscardArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// Print at most this many rows
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RedriveArgs {
    /// Only show how many there are
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DiscardArgs {
    /// Reason, which the audit keeps
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(place: Place<'_>, command: UnroutedCommand) -> anyhow::Result<ExitCode> {
    let settings = open::settings(place)?;
    if settings.broker.url.is_empty() {
        return embedded(&command);
    }
    let broker = open::rabbit(&settings).await?;
    let done = match &command {
        UnroutedCommand::List(args) => list(&broker, args).await,
        UnroutedCommand::Redrive(args) => redrive(&broker, args).await,
        UnroutedCommand::Discard(args) => discard(&settings, &broker, args).await,
    };
    broker.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

/// Reports that nothing is unrouted. The embedded broker keeps the queues of all handlers in one file, so no event can
/// miss its queue.
fn embedded(command: &UnroutedCommand) -> anyhow::Result<ExitCode> {
    let (json, document) = match command {
        UnroutedCommand::List(args) => (args.json, json!({ "unrouted": [] })),
        UnroutedCommand::Redrive(args) if args.dry_run => (args.json, json!({ "redriven": 0, "would_redrive": 0 })),
        UnroutedCommand::Redrive(args) => (args.json, json!({ "redriven": 0 })),
        UnroutedCommand::Discard(args) => (args.json, json!({ "discarded": 0 })),
    };
    if json {
        output::print_json(&document)?;
    } else {
        output::hint("The queues are in the embedded broker, where every event finds its queues.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(broker: &RabbitBroker, args: &ListArgs) -> anyhow::Result<()> {
    let found = broker.unrouted(usize::try_from(args.limit).unwrap_or(usize::MAX)).await?;
    if args.json {
        let rows: Vec<_> = found.iter().map(row).collect();
        return output::print_json(&json!({ "unrouted": rows }));
    }
    if found.is_empty() {
        output::hint("Every event found its queues.");
        return Ok(());
    }
    let mut table = Table::new(&["EVENT", "TYPE", "RECEIVED", "SENT TO", "KEY"]);
    for Unrouted { event, exchange, routing_key } in &found {
        table.row([
            event.id.to_string(),
            printable(event.event_type.as_str()),
            event.received_at.to_string(),
            exchange.clone(),
            printable(routing_key),
        ]);
    }
    output::print_table(&table)?;
    output::hint("`hookline topology` shows what is missing; then `hookline unrouted redrive`.");
    Ok(())
}

fn row(Unrouted { event, exchange, routing_key }: &Unrouted) -> serde_json::Value {
    json!({
        "event_id": event.id,
        "source": event.source,
        "event_type": event.event_type,
        "received_at": event.received_at.to_string(),
        "exchange": exchange,
        "routing_key": routing_key,
    })
}

/// Returns the number of unrouted events.
pub(crate) async fn count(broker: &dyn QueueAdmin) -> anyhow::Result<u64> {
    let queues = broker.other_queues().await?;
    Ok(queues.iter().find(|queue| queue.name == UNROUTED).map_or(0, |queue| queue.messages))
}

async fn redrive(broker: &RabbitBroker, args: &RedriveArgs) -> anyhow::Result<()> {
    let waiting = count(broker).await?;
    if args.dry_run {
        return match args.json {
            true => output::print_json(&json!({ "redriven": 0, "would_redrive": waiting })),
            false => output::print_line(&format!("would redrive {waiting} messages; nothing was changed")),
        };
    }
    let differences = broker.differences().await?;
    if let Some(difference) = differences.first() {
        bail!(
            "nothing was redriven, it would only come back: {} objects on the broker are not as they must be, such as \
             {}",
            differences.len(),
            topology::line(difference)
        );
    }
    // We redrive no more than were waiting, because an event that still finds no queue returns to the end.
    let redriven = broker.redrive_unrouted(usize::try_from(waiting).unwrap_or(usize::MAX)).await?;
    if args.json {
        output::print_json(&json!({ "redriven": redriven }))
    } else {
        output::print_line(&format!("redriven: {redriven}"))
    }
}

/// Records the events first and removes them second. After a crash in between they are still here and can be discarded
/// again.
///
/// Their deliveries stay unchanged. A copy doesn't show which handlers missed it, and settling the deliveries of all
/// handlers could give up an opt-out that waits in its queue.
async fn discard(settings: &Settings, broker: &RabbitBroker, args: &DiscardArgs) -> anyhow::Result<()> {
    // This creates the store if no worker has done so, because discarded events must be in the history.
    let store = hookline_worker::open::store(settings).await?;
    let mut left = usize::try_from(count(broker).await?).unwrap_or(usize::MAX);
    let mut discarded = 0;
    while left > 0 {
        let page = left.min(PAGE);
        let found = broker.unrouted(page).await?;
        record(settings, &store, &found).await?;
        let removed = broker.discard_unrouted(page).await?;
        if removed.is_empty() {
            break;
        }
        // The removed events are those just recorded, unless somebody removed some meanwhile. Recording an event twice
        // changes nothing.
        record(settings, &store, &removed).await?;
        let ids: Vec<EventId> = removed.iter().map(|unrouted| unrouted.event.id.clone()).collect();
        store.unrouted_discarded(&ids, &args.reason).await?;
        discarded += removed.len();
        left -= removed.len().min(left);
    }
    store.close().await;
    if args.json {
        return output::print_json(&json!({ "discarded": discarded }));
    }
    output::print_line(&format!("discarded: {discarded}"))?;
    output::hint(
        "They are in the history. A handler that missed its copy shows it as waiting until `hookline events replay ID` \
         brings it there.",
    );
    Ok(())
}

/// Records the events in the history with every handler that takes their type, so that no accepted event disappears
/// without a trace.
async fn record(settings: &Settings, store: &Store, found: &[Unrouted]) -> anyhow::Result<()> {
    let enabled = settings.handlers.enabled();
    let routed = |event: &Event| -> Vec<HandlerName> {
        enabled.iter().copied().filter(|handler| takes(*handler, &event.event_type)).collect()
    };
    let events: Vec<_> = found.iter().map(|unrouted| (unrouted.event.clone(), routed(&unrouted.event))).collect();
    store.record_events(&events).await?;
    Ok(())
}
