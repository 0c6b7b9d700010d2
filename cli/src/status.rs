//! `hookline status`: shows queues, destinations, budgets and backlog, and whether all accepted events are accounted
//! for.

mod parts;
mod unrecorded;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hookline_broker::embedded::{EmbeddedBroker, Held};
use hookline_broker::{BrokerError, OtherQueue, Publish, QueueDepth};
use hookline_common::names::{DeliveryState, Destination, HandlerName};
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_ingest::spool;
use hookline_store::Store;
use hookline_store::model::{GateRow, HandlerCounts};
use hookline_worker::background::pace;
use serde_json::{Value, json};

use self::parts::Parts;
use self::unrecorded::Unrecorded;
use crate::open::{self, Place};
use crate::output;
use crate::table::{Table, or_dash};
use crate::when::in_words;

#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArgs {
    /// Print one JSON document instead of tables
    #[arg(long)]
    json: bool,
    /// Print the event ids of this handler instead, one a line
    #[arg(long, value_name = "HANDLER")]
    ids: Option<HandlerName>,
    /// With --ids, print only those in this state
    #[arg(long, requires = "ids")]
    state: Option<DeliveryState>,
}

/// The data for the JSON document of `status` (docs/reference.md, "JSON documents").
struct Status {
    parts: Parts,
    unrecorded: Unrecorded,
    /// `None` while the store cannot be asked.
    handlers: Option<Vec<HandlerCounts>>,
    destinations: Vec<DestinationStatus>,
    queues: Vec<QueueStatus>,
    spool: Held,
    now: Timestamp,
}

struct QueueStatus {
    name: String,
    messages: u64,
    /// When the queue's oldest event was received, if known.
    oldest: Option<Timestamp>,
}

/// The broker's figures for all queues.
#[derive(Default)]
struct Queues {
    handlers: Vec<QueueDepth>,
    others: Vec<OtherQueue>,
}

struct DestinationStatus {
    destination: Destination,
    state: &'static str,
    reason: Option<String>,
    limit: Option<i64>,
    remaining: Option<i64>,
    /// `None` if no quota tells the speed.
    to_drain: Option<Duration>,
}

pub(crate) async fn run(place: Place<'_>, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let settings = open::settings(place)?;
    if let Some(handler) = args.ids {
        print_ids(&open::store(&settings).await?, handler, args).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = read(&settings).await?;
    if args.json {
        output::print_json(&status.document())?;
    } else {
        status.print()?;
    }
    let unreachable = status.parts.unreachable();
    unreachable.iter().for_each(|why| output::error(why));
    Ok(if unreachable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn print_ids(store: &Store, handler: HandlerName, args: &StatusArgs) -> anyhow::Result<()> {
    let ids = store.delivery_ids(handler, args.state).await?;
    if args.json {
        let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
        return output::print_json(&json!({ "handler": handler.as_str(), "event_ids": ids }));
    }
    let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
    output::print(&lines)
}

async fn read(settings: &Settings) -> anyhow::Result<Status> {
    // Reads in the order in which an event travels: spool, queues, workers, store. An event that moves on while we read
    // is found at a later place, and the sums hold when `unrecorded` is 0.
    let spool = spooled(settings).await;
    let queues = queues(settings).await;
    let store = open::store_or_none(settings).await.map_err(|error| format!("{error:#}"));
    if matches!(store, Ok(None)) && queues.is_ok() && !is_anything_waiting(&spool, &queues) {
        return Err(open::nothing_here(settings));
    }
    let parts = Parts::read(settings, &store, &queues).await?;
    let unrecorded = match &store {
        Ok(store) => unrecorded::read(settings, store.as_ref(), &spool, &queues).await?,
        Err(why) => Err(why.clone()),
    };
    let (handlers, gates) = match &store {
        Ok(Some(store)) => (Some(store.counts().await?), store.gates().await?),
        Ok(None) => (Some(HandlerName::ALL.iter().map(|handler| HandlerCounts::none(*handler)).collect()), Vec::new()),
        Err(_) => (None, Vec::new()),
    };
    let queues = queues.unwrap_or_default();
    let now = Timestamp::now();
    let known: Vec<_> = handlers.iter().flatten().map(|counts| (counts.handler, counts.waiting)).collect();
    let destinations = match &store {
        Ok(_) => destinations(settings, &gates, &pace::backlog(&queues.handlers, &known), now),
        // Only the store knows how they stand.
        Err(_) => Vec::new(),
    };
    let queues = with_ages(queues, store.as_ref().ok().and_then(Option::as_ref)).await?;
    Ok(Status { parts, unrecorded, handlers, destinations, queues, spool: spool.unwrap_or_default(), now })
}

/// Returns whether webhooks are waiting. They may be waiting before the first worker creates the store.
fn is_anything_waiting(spool: &anyhow::Result<Held>, queues: &Result<Queues, String>) -> bool {
    let is_spooled = spool.as_ref().is_ok_and(|held| held.events > 0);
    let is_queued = queues.as_ref().is_ok_and(|queues| {
        queues.handlers.iter().any(|depth| depth.messages > 0) || queues.others.iter().any(|other| other.messages > 0)
    });
    is_spooled || is_queued
}

/// Reads the queues, or returns why not (RabbitMQ may be away). The store's figures are worth showing in that case too.
async fn queues(settings: &Settings) -> Result<Queues, String> {
    let asked = async {
        let Some(broker) = open::broker_if_there(settings).await? else { return Ok(Default::default()) };
        let asked = async { Ok::<_, BrokerError>((broker.queues().await?, broker.other_queues().await?)) }.await;
        broker.close().await;
        asked.map_err(anyhow::Error::from)
    };
    let (handlers, others) = asked.await.map_err(|error| format!("{error:#}"))?;
    Ok(Queues { handlers, others })
}

/// Returns what waits in the spool of this configuration's data directory. Ingest on other machines reports its own
/// spool in its metrics and `/readyz`.
pub(crate) async fn spooled(settings: &Settings) -> anyhow::Result<Held> {
    let options = spool::options(settings);
    if settings.broker.url.is_empty() || !options.exists() {
        return Ok(Held::default());
    }
    let spool = EmbeddedBroker::open(options.guest()).await?;
    let held = spool.held().await;
    spool.close().await;
    Ok(held?)
}

/// Adds the ages of the queues. If the broker doesn't report the age of a handler's waiting events, the store does.
async fn with_ages(queues: Queues, store: Option<&Store>) -> anyhow::Result<Vec<QueueStatus>> {
    let ages_told = !queues.handlers.iter().any(pace::counts_only_ready);
    let waiting = match store.filter(|_| !ages_told) {
        Some(store) => store.waiting().await?,
        None => Vec::new(),
    };
    let of_handler = |depth: QueueDepth| QueueStatus {
        name: depth.queue.name(),
        messages: depth.messages,
        oldest: pace::oldest(&depth, &waiting),
    };
    let other = |queue: OtherQueue| QueueStatus { name: queue.name, messages: queue.messages, oldest: None };
    Ok(queues.handlers.into_iter().map(of_handler).chain(queues.others.into_iter().map(other)).collect())
}

fn destinations(
    settings: &Settings,
    gates: &[GateRow],
    backlog: &[(HandlerName, u64)],
    now: Timestamp,
) -> Vec<DestinationStatus> {
    [Destination::TextUs, Destination::SystemOfRecord]
        .into_iter()
        .map(|destination| {
            let gate = gates.iter().find(|gate| gate.destination == destination);
            DestinationStatus {
                destination,
                state: gate.map_or("healthy", |gate| gate_state(gate, now)),
                reason: gate.filter(|gate| is_shut(gate, now)).and_then(reason),
                limit: gate.and_then(|gate| gate.standing.limit),
                remaining: gate.and_then(|gate| gate.standing.remaining),
                to_drain: pace::to_drain(settings, gates, backlog, destination),
            }
        })
        .collect()
}

fn gate_state(gate: &GateRow, now: Timestamp) -> &'static str {
    if gate.paused {
        "paused"
    } else if is_shut(gate, now) {
        "open"
    } else {
        "healthy"
    }
}

fn is_shut(gate: &GateRow, now: Timestamp) -> bool {
    gate.paused || !gate.standing.failing.is_empty() || gate.closed_until.is_some_and(|until| until > now)
}

fn reason(gate: &GateRow) -> Option<String> {
    let failing: Vec<&str> = gate.standing.failing.iter().map(|class| class.in_words()).collect();
    if failing.is_empty() || gate.paused {
        return gate.reason.clone();
    }
    Some(format!("{} fail: one probe at a time is let through until one works", failing.join(" and ")))
}

impl Status {
    fn document(&self) -> Value {
        let mut document = json!({
            "processes": self.parts.processes(),
            "broker": self.parts.broker.document(),
            "store": self.parts.store.document(),
            "unrecorded": self.unrecorded.as_ref().ok(),
            "handlers": self.handlers.as_ref().map(|handlers| handlers.iter().map(|counts| json!({
                "handler": counts.handler.as_str(),
                "accepted": counts.accepted,
                "done": counts.done,
                "skipped": counts.skipped,
                "dead_lettered": counts.dead_lettered,
                "discarded": counts.discarded,
                "waiting": counts.waiting,
            })).collect::<Vec<_>>()),
            "destinations": self.destinations.iter().map(|status| json!({
                "destination": status.destination.as_str(),
                "state": status.state,
                "reason": status.reason,
                "budget_limit": status.limit,
                "budget_remaining": status.remaining,
                "seconds_to_drain": status.to_drain.map(|time| time.as_secs_f64().ceil() as u64),
            })).collect::<Vec<_>>(),
            "queues": self.queues.iter().map(|queue| json!({
                "queue": queue.name,
                "messages": queue.messages,
                "oldest_seconds": self.oldest(queue).map(|age| age.as_secs()),
            })).collect::<Vec<_>>(),
            "spool": { "events": self.spool.events, "bytes": spool::used_bytes(self.spool) },
        });
        if let Err(why) = &self.unrecorded {
            document["unrecorded_reason"] = why.as_str().into();
        }
        document
    }

    fn oldest(&self, queue: &QueueStatus) -> Option<Duration> {
        queue.oldest.map(|oldest| self.now.since(oldest))
    }

    fn print(&self) -> anyhow::Result<()> {
        let mut handlers =
            Table::new(&["HANDLER", "ACCEPTED", "DONE", "SKIPPED", "DEAD-LETTERED", "DISCARDED", "WAITING"]);
        for counts in self.handlers.iter().flatten() {
            handlers.row([
                counts.handler.to_string(),
                counts.accepted.to_string(),
                counts.done.to_string(),
                counts.skipped.to_string(),
                counts.dead_lettered.to_string(),
                counts.discarded.to_string(),
                counts.waiting.to_string(),
            ]);
        }
        let mut destinations = Table::new(&["DESTINATION", "STATE", "BUDGET", "TIME TO DRAIN", "REASON"]);
        for status in &self.destinations {
            let budget = match (status.remaining, status.limit) {
                (Some(remaining), Some(limit)) => format!("{remaining} of {limit}"),
                (Some(_), None) | (None, Some(_) | None) => String::new(),
            };
            destinations.row([
                status.destination.to_string(),
                status.state.to_owned(),
                budget,
                or_dash(status.to_drain.map(in_words)),
                or_dash(status.reason.as_ref()),
            ]);
        }
        let mut queues = Table::new(&["QUEUE", "MESSAGES", "OLDEST"]);
        for queue in &self.queues {
            let oldest = or_dash(self.oldest(queue).map(in_words));
            queues.row([queue.name.clone(), queue.messages.to_string(), oldest]);
        }
        output::print_table(&self.parts.table())?;
        output::print("\n")?;
        output::print_table(&handlers)?;
        output::print_line(&self.accounting())?;
        output::print_table(&destinations)?;
        output::print("\n")?;
        output::print_table(&queues)?;
        if self.spool.events > 0 {
            output::print_line(&format!(
                "\n{} events wait in the spool to be forwarded to RabbitMQ.",
                self.spool.events
            ))?;
        }
        Ok(())
    }

    fn accounting(&self) -> String {
        match &self.unrecorded {
            Ok(0) => "Every accepted event is in these sums.\n".to_owned(),
            Ok(unrecorded) => format!("Accepted and not yet in these sums: {unrecorded}.\n"),
            Err(why) => format!("Events not yet in these sums: unknown, {why}.\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use hookline_common::names::OperationClass;
    use hookline_store::model::GateStanding;

    use super::*;

    fn gate(paused: bool, closed_until: Option<i64>) -> GateRow {
        GateRow {
            destination: Destination::TextUs,
            paused,
            reason: None,
            closed_until: closed_until.map(Timestamp::from_millis),
            standing: GateStanding::default(),
            policy: None,
        }
    }

    #[test]
    fn a_destination_is_paused_or_open_only_while_it_is() {
        let now = Timestamp::from_millis(1_000);

        assert_eq!(gate_state(&gate(true, Some(2_000)), now), "paused");
        assert_eq!(gate_state(&gate(false, Some(2_000)), now), "open");
        assert_eq!(gate_state(&gate(false, Some(999)), now), "healthy");
        assert_eq!(gate_state(&gate(false, None), now), "healthy");
        let standing = GateStanding { failing: vec![OperationClass::Reads], ..GateStanding::default() };
        let failing = GateRow { standing, ..gate(false, None) };
        assert_eq!(gate_state(&failing, now), "open");
        let told = reason(&failing).expect("a reason");
        assert_eq!(told, "reads fail: one probe at a time is let through until one works");
    }
}
