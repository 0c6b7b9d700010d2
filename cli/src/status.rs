//! `hookline status`: queues, destinations, budgets, backlog, and whether everything accepted is accounted for.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hookline_common::broker::QueueDepth;
use hookline_common::names::{DeliveryState, Destination, HandlerName};
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_common::topology::Queue;
use hookline_store::Store;
use hookline_store::model::{GateRow, HandlerCounts};
use serde_json::{Value, json};

use crate::output;
use crate::table::{Table, or_dash};
use crate::when::in_words;
use crate::{open, pace};

/// Why nothing can be said about events that the store does not know yet.
const HISTORY_OFF: &str = "record_history is switched off";

#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArgs {
    /// One JSON document instead of tables
    #[arg(long)]
    json: bool,
    /// Print the event ids of this handler instead, one a line
    #[arg(long, value_name = "HANDLER")]
    ids: Option<HandlerName>,
    /// With --ids: only those in this state
    #[arg(long, requires = "ids")]
    state: Option<DeliveryState>,
}

/// Everything that the document of contract.md section 7 is made of.
struct Status {
    /// `None`: cannot be said.
    unrecorded: Option<u64>,
    handlers: Vec<HandlerCounts>,
    destinations: Vec<DestinationStatus>,
    queues: Vec<QueueDepth>,
    now: Timestamp,
}

struct DestinationStatus {
    destination: Destination,
    state: &'static str,
    reason: Option<String>,
    limit: Option<i64>,
    remaining: Option<i64>,
    /// `None` where no quota says how fast it goes.
    to_drain: Option<Duration>,
}

pub(crate) async fn run(config: Option<&Path>, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let settings = open::settings(config)?;
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
    Ok(ExitCode::SUCCESS)
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
    // The queues before the store: an event moves from the history queue into the store, so whatever has left the
    // queue by now is in the store when we look there, and with `unrecorded` 0 the sums hold.
    let broker = open::broker(settings).await?;
    let queues = broker.queues().await?;
    broker.close().await;
    let store = open::store(settings).await?;
    let handlers = store.counts().await?;
    let gates = store.gates().await?;
    let now = Timestamp::now();
    let history = settings.handlers.record_history.basics.enabled;
    let destinations = destinations(settings, &gates, &queues, now);
    Ok(Status { unrecorded: history.then(|| unrecorded(&queues)), handlers, destinations, queues, now })
}

/// Events that the store does not know yet: what the history still has to record, and what it gave up and has not
/// been moved into the store either.
fn unrecorded(queues: &[QueueDepth]) -> u64 {
    let history = queues.iter().filter(|depth| depth.queue.handler() == HandlerName::RecordHistory);
    history.map(|depth| depth.messages).sum()
}

fn destinations(
    settings: &Settings,
    gates: &[GateRow],
    queues: &[QueueDepth],
    now: Timestamp,
) -> Vec<DestinationStatus> {
    [Destination::TextUs, Destination::SystemOfRecord]
        .into_iter()
        .map(|destination| {
            let gate = gates.iter().find(|gate| gate.destination == destination);
            DestinationStatus {
                destination,
                state: gate.map_or("closed", |gate| gate_state(gate, now)),
                reason: gate
                    .and_then(|gate| gate.reason.clone())
                    .filter(|_| gate.is_some_and(|gate| is_shut(gate, now))),
                limit: gate.and_then(|gate| gate.limit),
                remaining: gate.and_then(|gate| gate.remaining),
                to_drain: to_drain(settings, gates, queues, destination),
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
        "closed"
    }
}

fn is_shut(gate: &GateRow, now: Timestamp) -> bool {
    gate.paused || gate.closed_until.is_some_and(|until| until > now)
}

fn to_drain(
    settings: &Settings,
    gates: &[GateRow],
    queues: &[QueueDepth],
    destination: Destination,
) -> Option<Duration> {
    let work = queues.iter().filter_map(|depth| match depth.queue {
        Queue::Work(handler) => Some((handler, depth.messages)),
        Queue::Dead(_) => None,
    });
    match destination {
        Destination::TextUs => {
            let calls = work.map(|(handler, messages)| messages.saturating_mul(pace::calls(settings, handler))).sum();
            Some(pace::time_for(calls, pace::limit(gates, destination)))
        }
        // No quota: known to be over where nothing waits, and unknown otherwise.
        Destination::SystemOfRecord | Destination::Store => {
            let waits = work.filter(|(handler, _)| pace::destination(*handler) == destination).any(|(_, n)| n > 0);
            (!waits).then_some(Duration::ZERO)
        }
    }
}

impl Status {
    fn document(&self) -> Value {
        let mut document = json!({
            "unrecorded": self.unrecorded,
            "handlers": self.handlers.iter().map(|counts| json!({
                "handler": counts.handler.as_str(),
                "accepted": counts.accepted,
                "done": counts.done,
                "skipped": counts.skipped,
                "dead_lettered": counts.dead_lettered,
                "discarded": counts.discarded,
                "waiting": counts.waiting,
            })).collect::<Vec<_>>(),
            "destinations": self.destinations.iter().map(|status| json!({
                "destination": status.destination.as_str(),
                "state": status.state,
                "reason": status.reason,
                "budget_limit": status.limit,
                "budget_remaining": status.remaining,
                "seconds_to_drain": status.to_drain.map(|time| time.as_secs_f64().ceil() as u64),
            })).collect::<Vec<_>>(),
            "queues": self.queues.iter().map(|depth| json!({
                "queue": depth.queue.name(),
                "messages": depth.messages,
                "oldest_seconds": self.oldest(depth).map(|age| age.as_secs()),
            })).collect::<Vec<_>>(),
            // Without a remote broker nothing is ever spooled: the queues are on this disk.
            "spool": { "events": 0, "bytes": 0 },
        });
        if self.unrecorded.is_none() {
            document["unrecorded_reason"] = HISTORY_OFF.into();
        }
        document
    }

    fn oldest(&self, depth: &QueueDepth) -> Option<Duration> {
        depth.oldest.map(|oldest| self.now.since(oldest))
    }

    fn print(&self) -> anyhow::Result<()> {
        let mut handlers =
            Table::new(&["HANDLER", "ACCEPTED", "DONE", "SKIPPED", "DEAD-LETTERED", "DISCARDED", "WAITING"]);
        for counts in &self.handlers {
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
        for depth in &self.queues {
            let oldest = or_dash(self.oldest(depth).map(in_words));
            queues.row([depth.queue.name(), depth.messages.to_string(), oldest]);
        }
        output::print_table(&handlers)?;
        output::print_line(&self.accounting())?;
        output::print_table(&destinations)?;
        output::print("\n")?;
        output::print_table(&queues)
    }

    fn accounting(&self) -> String {
        match self.unrecorded {
            Some(0) => "Every accepted event is in these sums.\n".to_owned(),
            Some(unrecorded) => format!("Accepted and not yet in these sums: {unrecorded}.\n"),
            None => format!("Events not yet in these sums: unknown, {HISTORY_OFF}.\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(paused: bool, closed_until: Option<i64>) -> GateRow {
        GateRow {
            destination: Destination::TextUs,
            paused,
            reason: None,
            closed_until: closed_until.map(Timestamp::from_millis),
            limit: None,
            remaining: None,
        }
    }

    #[test]
    fn a_destination_is_paused_or_open_only_while_it_is() {
        let now = Timestamp::from_millis(1_000);

        assert_eq!(gate_state(&gate(true, Some(2_000)), now), "paused");
        assert_eq!(gate_state(&gate(false, Some(2_000)), now), "open");
        assert_eq!(gate_state(&gate(false, Some(999)), now), "closed");
        assert_eq!(gate_state(&gate(false, None), now), "closed");
    }

    #[test]
    fn unrecorded_is_what_the_store_does_not_know_yet() {
        let depth = |queue, messages| QueueDepth { queue, messages, oldest: None, consumers: None };
        let queues = [
            depth(Queue::Work(HandlerName::LogNote), 7),
            depth(Queue::Work(HandlerName::RecordHistory), 3),
            depth(Queue::Dead(HandlerName::RecordHistory), 5),
        ];

        assert_eq!(unrecorded(&queues), 8);
    }
}
