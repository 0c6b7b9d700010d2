//! `hookline unrouted`: what reached RabbitMQ while a queue or a binding was missing, and so was taken by none. Looking,
//! and the two ways out: redrive once the topology is whole, or discard with a reason.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use hookline_common::broker::rabbitmq::{RabbitBroker, Unrouted};
use hookline_common::broker::{Broker, DeadLetterInfo};
use hookline_common::names::{DeadReason, HandlerName};
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_common::topology::rabbitmq::{UNROUTED, guard};
use hookline_common::topology::takes;
use hookline_store::Store;
use serde_json::json;

use crate::output;
use crate::table::{Table, printable};
use crate::{open, topology};

/// Messages that are looked at and discarded at a time.
const PAGE: usize = 500;

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum UnroutedCommand {
    /// Events that no queue took, oldest first; they stay where they are
    List(ListArgs),
    /// Publish them anew under the same ids; what was done already stays done
    Redrive(RedriveArgs),
    /// Give them up for good, with a reason
    Discard(DiscardArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// How many rows at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RedriveArgs {
    /// Only say how many
    #[arg(long)]
    dry_run: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DiscardArgs {
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(config: Option<&Path>, command: UnroutedCommand) -> anyhow::Result<ExitCode> {
    let settings = open::settings(config)?;
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

/// Its queues and the handlers are one file: nothing can miss its queue.
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
    let mut table = Table::new(&["EVENT", "TYPE", "RECEIVED", "NO QUEUE AT", "KEY"]);
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

/// How many there are.
pub(crate) async fn count(broker: &dyn Broker) -> anyhow::Result<u64> {
    let queues = broker.other_queues().await?;
    Ok(queues.iter().find(|queue| queue.name == UNROUTED).map_or(0, |queue| queue.messages))
}

async fn redrive(broker: &RabbitBroker, args: &RedriveArgs) -> anyhow::Result<()> {
    let waiting = count(broker).await?;
    if args.dry_run {
        return match args.json {
            true => output::print_json(&json!({ "redriven": 0, "would_redrive": waiting })),
            false => output::print_line(&format!("would redrive {waiting} events; nothing was changed")),
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
    // Not more than were there: what still finds no queue comes back to the end.
    let redriven = broker.redrive_unrouted(usize::try_from(waiting).unwrap_or(usize::MAX)).await?;
    if args.json {
        output::print_json(&json!({ "redriven": redriven }))
    } else {
        output::print_line(&format!("redriven: {redriven}"))
    }
}

/// Recorded first, then removed: a crash in between leaves it here, discarded already, to be discarded again.
async fn discard(settings: &Settings, broker: &RabbitBroker, args: &DiscardArgs) -> anyhow::Result<()> {
    let store = open::store(settings).await?;
    let mut left = usize::try_from(count(broker).await?).unwrap_or(usize::MAX);
    let mut discarded = 0;
    while left > 0 {
        let page = left.min(PAGE);
        record(settings, &store, &broker.unrouted(page).await?, &args.reason).await?;
        let removed = broker.discard_unrouted(page).await?;
        if removed.is_empty() {
            break;
        }
        // The same ones, unless somebody took some meanwhile: recording twice changes nothing.
        record(settings, &store, &removed, &args.reason).await?;
        discarded += removed.len();
        left -= removed.len().min(left);
    }
    store.close().await;
    if args.json {
        output::print_json(&json!({ "discarded": discarded }))
    } else {
        output::print_line(&format!("discarded: {discarded}"))
    }
}

/// So that every accepted event is accounted for: in the history, and discarded for each handler that did not get it.
async fn record(settings: &Settings, store: &Store, found: &[Unrouted], reason: &str) -> anyhow::Result<()> {
    for Unrouted { event, exchange, routing_key } in found {
        let missed = missed(settings, found_at(exchange), event);
        store.record_events(&[(event.clone(), missed.clone())]).await?;
        let info = DeadLetterInfo {
            reason: DeadReason::Rejected,
            destination: None,
            status: None,
            detail: format!("no queue took it at {exchange} (key {})", printable(routing_key)),
            attempts: 0,
            dead_lettered_at: Timestamp::now(),
        };
        for handler in missed.iter().filter(|handler| **handler != HandlerName::RecordHistory) {
            store.insert_dead_letter(event, *handler, &info, &missed).await?;
        }
        for dead in store.dead_letter(event.id.as_str()).await? {
            // Not one that was given up for another reason.
            if missed.contains(&dead.handler) && dead.info.detail == info.detail {
                store.discard(&dead.id, reason).await?;
            }
        }
    }
    Ok(())
}

/// Whose guard it was.
fn found_at(exchange: &str) -> Option<HandlerName> {
    HandlerName::ALL.iter().copied().find(|handler| guard(*handler) == exchange)
}

/// The handlers that did not get the event: the guard's own, or all that take its type.
fn missed(settings: &Settings, at: Option<HandlerName>, event: &hookline_common::event::Event) -> Vec<HandlerName> {
    let takers = || settings.handlers.enabled().into_iter().filter(|handler| takes(*handler, &event.event_type));
    at.map_or_else(|| takers().collect(), |handler| vec![handler])
}
