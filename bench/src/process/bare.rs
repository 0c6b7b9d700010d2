//! Shared code of the programs that use lapin directly: a connection, and queues equal to ours.

use anyhow::{Context as _, bail};
use hookline_broker::topology::rabbitmq::{Argument, EVENTS, RabbitQueue, Topology};
use hookline_common::names::{HandlerName, Queue};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, ConnectionProperties};
use serde::{Deserialize, Serialize};

use crate::samples::SOURCE;

/// The queue that the reference worker consumes.
pub(crate) const REFERENCE_WORK_QUEUE: &str = "hookline.bench.work";

/// Connects to the first URL that answers.
///
/// # Errors
/// Fails when none answers. The error doesn't contain the URLs, because they may contain a password.
pub(crate) async fn connect(urls: &[String]) -> anyhow::Result<Connection> {
    let mut last = None;
    for url in urls {
        match Connection::connect(url, ConnectionProperties::default()).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(error.to_string()),
        }
    }
    match last {
        Some(error) => bail!("cannot connect to RabbitMQ: {error}"),
        None => bail!("no broker URL"),
    }
}

/// Event types by the number of queues they go to when every handler is enabled.
pub(crate) const EVENT_TYPES: [(usize, &str); 3] =
    [(1, "message.failed"), (2, "message.received"), (3, "contact.opted_out")];

/// The exchanges by which a reference publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Route {
    /// The shortest way into queues equal to ours.
    Short,
    /// Our exchanges: `hookline.events`, with its bindings to the handlers' queues.
    Ours,
}

/// Returns the type of an event that goes to this many queues.
pub(crate) fn event_type(queues: usize) -> &'static str {
    EVENT_TYPES.iter().find(|(number, _)| *number == queues).map_or(EVENT_TYPES[0].1, |(_, event_type)| event_type)
}

/// Returns the exchange and routing key by which a reference reaches this many queues.
pub(crate) fn route(route: Route, queues: usize) -> (ShortString, ShortString) {
    match (route, queues) {
        (Route::Ours, _) => (EVENTS.into(), format!("{SOURCE}.{}", event_type(queues)).into()),
        // A single queue needs no exchange of its own.
        (Route::Short, 0 | 1) => ("".into(), reference_queue(1)),
        (Route::Short, more) => (format!("hookline.bench.fanout.{more}").into(), "".into()),
    }
}

/// Returns the queues that [`Route::Short`] reaches.
pub(crate) fn reference_queues(queues: usize) -> Vec<ShortString> {
    (1..=queues.max(1)).map(reference_queue).collect()
}

fn reference_queue(number: usize) -> ShortString {
    format!("hookline.bench.q{number}").into()
}

/// Returns the arguments of one of our work queues, so that the references' queues cost the broker the same.
pub(crate) fn work_queue_arguments() -> FieldTable {
    let ours = RabbitQueue::Of(Queue::Work(HandlerName::RecordHistory));
    let queues = Topology::of(&[HandlerName::RecordHistory]).queues;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    for (name, value) in queues.into_iter().filter(|queue| queue.queue == ours).flat_map(|queue| queue.arguments) {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(text.into()),
            Argument::Number(number) => AMQPValue::LongLongInt(number),
        };
        arguments.insert(name.into(), value);
    }
    arguments
}

/// Opens a publishing channel in confirm mode.
pub(crate) async fn confirming(connection: &Connection) -> anyhow::Result<lapin::Channel> {
    let channel = connection.create_channel().await.context("opening a channel")?;
    channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.context("confirm mode")?;
    Ok(channel)
}
