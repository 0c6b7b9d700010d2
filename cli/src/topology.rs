//! `hookline topology`: shows the exchanges, queues and bindings that this configuration needs on RabbitMQ, and how the
//! broker differs from them. `--apply` declares what is missing and removes exchanges left by earlier versions; it
//! never deletes a queue.

use std::process::ExitCode;

use clap::Args;
use hookline_broker::Publish as _;
use hookline_broker::rabbitmq::Difference;
use hookline_broker::topology::rabbitmq::{Argument, Topology};
use hookline_common::settings::Settings;
use serde_json::{Map, Value, json};

use crate::open::{self, Place};
use crate::output;
use crate::table::{Table, or_dash};

const EMBEDDED: &str = "The queues are in the embedded broker, which makes its own: there is nothing to declare.";

#[derive(Args, Clone, Debug)]
pub(crate) struct TopologyArgs {
    /// Declare what is missing, unbind the queues of switched-off handlers from hookline.events, and remove the exchanges
    /// that earlier versions left; deletes no queue
    #[arg(long)]
    apply: bool,
    /// Print one JSON document instead of tables
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(place: Place<'_>, args: &TopologyArgs) -> anyhow::Result<ExitCode> {
    let settings = open::settings(place)?;
    if settings.broker.url.is_empty() {
        return embedded(args);
    }
    let topology = Topology::of(&settings.handlers.enabled());
    if !args.json {
        print(&topology)?;
    }
    let differences = compare(&settings, args.apply).await?;
    if args.json {
        output::print_json(&document(&topology, &differences))?;
    } else {
        print_differences(&differences, args.apply)?;
    }
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn embedded(args: &TopologyArgs) -> anyhow::Result<ExitCode> {
    if args.json {
        let nothing: [(); 0] = [];
        output::print_json(&json!({
            "broker": "embedded", "exchanges": nothing, "queues": nothing, "bindings": nothing, "differences": nothing,
        }))?;
    } else {
        output::print_line(EMBEDDED)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns how the broker differs, after applying the topology if `apply` is set.
async fn compare(settings: &Settings, apply: bool) -> anyhow::Result<Vec<Difference>> {
    let broker = open::rabbit(settings).await?;
    let compared = async {
        if apply {
            broker.apply_topology().await?;
        }
        broker.differences().await
    };
    let differences = compared.await;
    broker.close().await;
    Ok(differences?)
}

fn print(topology: &Topology) -> anyhow::Result<()> {
    let mut exchanges = Table::new(&["EXCHANGE", "TYPE", "WHAT IT CANNOT ROUTE GOES TO"]);
    for exchange in &topology.exchanges {
        exchanges.row([exchange.name.to_owned(), exchange.kind.as_str().to_owned(), or_dash(exchange.alternate)]);
    }
    let mut queues = Table::new(&["QUORUM QUEUE", "ARGUMENTS"]);
    for queue in &topology.queues {
        let arguments = queue.arguments.iter().map(|(name, value)| format!("{name}={}", text(value)));
        queues.row([queue.queue.name(), arguments.collect::<Vec<_>>().join(" ")]);
    }
    let mut bindings = Table::new(&["FROM", "KEY", "TO"]);
    for binding in &topology.bindings {
        bindings.row([binding.source.to_owned(), binding.key.clone(), binding.queue.name()]);
    }
    for table in [exchanges, queues, bindings] {
        output::print_table(&table)?;
        output::print_line("")?;
    }
    Ok(())
}

fn print_differences(differences: &[Difference], applied: bool) -> anyhow::Result<()> {
    if differences.is_empty() {
        let how = if applied {
            "All of it is declared and bound."
        } else {
            "The broker has all of these exchanges and queues."
        };
        output::print_line(how)?;
        if !applied {
            output::hint("RabbitMQ does not tell bindings; --apply makes them in any case, and harms none.");
        }
        return Ok(());
    }
    for difference in differences {
        output::print_line(&line(difference))?;
    }
    Ok(())
}

/// Formats one difference with its remedy; `hookline check --connect` prints the same.
pub(crate) fn line(difference: &Difference) -> String {
    let remedy = difference.remedy();
    match difference {
        Difference::Missing { object } => format!("missing  {object}; {remedy}"),
        Difference::Other { object, words } => format!("other    {object}: {words}; {remedy}"),
        Difference::Unknown { object, words } => format!("unknown  {object}: {words}; {remedy}"),
        Difference::LeftOver { object } => format!("left     {object}; {remedy}"),
    }
}

fn document(topology: &Topology, differences: &[Difference]) -> Value {
    json!({
        "broker": "rabbitmq",
        "exchanges": topology.exchanges.iter().map(|exchange| json!({
            "name": exchange.name, "type": exchange.kind.as_str(), "alternate": exchange.alternate,
        })).collect::<Vec<_>>(),
        "queues": topology.queues.iter().map(|queue| json!({
            "name": queue.queue.name(),
            "arguments": queue.arguments.iter().map(|(name, value)| ((*name).to_owned(), json(value))).collect::<Map<_, _>>(),
        })).collect::<Vec<_>>(),
        "bindings": topology.bindings.iter().map(|binding| json!({
            "from": binding.source, "key": binding.key, "to": binding.queue.name(),
        })).collect::<Vec<_>>(),
        "differences": differences.iter().map(|difference| {
            let (what, object, words) = match difference {
                Difference::Missing { object } => ("missing", object, None),
                Difference::Other { object, words } => ("other", object, Some(words)),
                Difference::Unknown { object, words } => ("unknown", object, Some(words)),
                Difference::LeftOver { object } => ("left_over", object, None),
            };
            json!({ "what": what, "object": object, "detail": words, "remedy": difference.remedy() })
        }).collect::<Vec<_>>(),
    })
}

fn text(argument: &Argument) -> String {
    match argument {
        Argument::Text(text) => (*text).to_owned(),
        Argument::Number(number) => number.to_string(),
    }
}

fn json(argument: &Argument) -> Value {
    match argument {
        Argument::Text(text) => (*text).into(),
        Argument::Number(number) => (*number).into(),
    }
}
