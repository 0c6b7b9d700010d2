//! Every exchange, queue and binding on RabbitMQ, as data. The broker declares them, and `hookline topology` prints
//! them (docs/reference.md, "RabbitMQ").
//!
//! ```text
//! hookline.events ──(event types)──▶ hookline.work.<handler>
//! hookline.delay ──(<tier>.#)──▶ hookline.delay.<tier> ──(time is over)──▶ hookline.work ──(*.<handler>)──▶ ″
//! hookline.dead ──(<handler>)──▶ hookline.dead.<handler>
//! whatever an exchange cannot route ──▶ hookline.unrouted
//! ```
//!
//! - An alternate exchange acts only if *no* queue takes the message, and `record_history` takes every event. Events
//!   that another handler misses because its queue is missing are therefore published anew from the history
//!   (docs/decisions/0009-no-guard-exchanges.md).
//! - Settings that safety needs are fixed arguments, which no policy can weaken. Settings that operators tune are left
//!   to policies.

use hookline_common::names::{HandlerName, Queue};

use crate::topology::{DELIVERY_LIMIT, Tier, event_types};

/// The exchange to which ingest publishes; the key is `<source>.<event type>`.
pub const EVENTS: &str = "hookline.events";
/// The exchange for deliveries that return from a delay or are redriven; the key is `<handler>` or `<tier>.<handler>`.
pub const WORK: &str = "hookline.work";
/// The exchange for deliveries that must wait; the key is `<tier>.<handler>`.
pub const DELAY: &str = "hookline.delay";
/// The exchange for dead letters; the key is `<handler>`.
pub const DEAD: &str = "hookline.dead";
/// The exchange and queue for messages that no other queue took.
pub const UNROUTED: &str = "hookline.unrouted";

/// Stands for no limit. Without it the limit is 20 (from 4.0 on), and then RabbitMQ drops the message
/// (<https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling>).
const UNLIMITED_DELIVERIES: i64 = (1 << 31) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    Topic,
    Fanout,
}

impl ExchangeKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Fanout => "fanout",
        }
    }
}

/// An exchange that is durable, not internal, and not deleted automatically.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub name: &'static str,
    pub kind: ExchangeKind,
    /// The exchange that gets the messages which this one cannot route.
    pub alternate: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    Text(&'static str),
    Number(i64),
}

/// A queue on RabbitMQ: one that workers consume, or one that only holds messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RabbitQueue {
    Of(Queue),
    /// Deliveries of every handler that wait for their next attempt.
    Delay(Tier),
    /// Messages that no queue took, because a queue or a binding was missing.
    Unrouted,
}

impl RabbitQueue {
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Of(queue) => queue.name(),
            Self::Delay(tier) => format!("{DELAY}.{tier}"),
            Self::Unrouted => UNROUTED.to_owned(),
        }
    }
}

/// A durable quorum queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDeclaration {
    pub queue: RabbitQueue,
    /// The arguments besides `x-queue-type=quorum`.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// Makes the exchange `source` route messages whose key matches `key` to `queue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub source: &'static str,
    pub queue: RabbitQueue,
    pub key: String,
}

impl Binding {
    fn new(source: &'static str, queue: RabbitQueue, key: impl Into<String>) -> Self {
        Self { source, queue, key: key.into() }
    }
}

/// The whole topology for a set of handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    pub exchanges: Vec<Exchange>,
    pub queues: Vec<QueueDeclaration>,
    pub bindings: Vec<Binding>,
}

/// The key with which a delivery waits in `tier` and comes back.
#[must_use]
pub fn delay_key(tier: Tier, handler: HandlerName) -> String {
    format!("{tier}.{handler}")
}

/// The bindings of a handler's work queue to `hookline.events`.
#[must_use]
pub fn event_bindings(handler: HandlerName) -> Vec<Binding> {
    let queue = RabbitQueue::Of(Queue::Work(handler));
    event_keys(handler).into_iter().map(|key| Binding::new(EVENTS, queue, key)).collect()
}

/// The keys on `hookline.events` of the events that a handler takes.
pub(super) fn event_keys(handler: HandlerName) -> Vec<String> {
    match event_types(handler) {
        Some(types) => types.iter().map(|event_type| format!("*.{event_type}")).collect(),
        None => vec!["#".to_owned()],
    }
}

impl Topology {
    /// The objects that these handlers need, in an order in which they can be declared.
    #[must_use]
    pub fn of(handlers: &[HandlerName]) -> Self {
        let mut topology = Self { exchanges: shared_exchanges(), queues: Vec::new(), bindings: Vec::new() };
        // Without it a length limit of a policy would drop the oldest message.
        let arguments = vec![("x-overflow", Argument::Text("reject-publish")), unlimited()];
        topology.queues.push(QueueDeclaration { queue: RabbitQueue::Unrouted, arguments });
        topology.bindings.push(Binding::new(UNROUTED, RabbitQueue::Unrouted, ""));
        for handler in handlers {
            topology.add_handler(*handler);
        }
        for tier in Tier::ALL {
            let mut arguments = at_least_once(WORK);
            let millis = i64::try_from(tier.time().as_millis()).unwrap_or(i64::MAX);
            arguments.push(("x-message-ttl", Argument::Number(millis)));
            let queue = RabbitQueue::Delay(*tier);
            topology.queues.push(QueueDeclaration { queue, arguments });
            topology.bindings.push(Binding::new(DELAY, queue, format!("{tier}.#")));
        }
        topology
    }

    fn add_handler(&mut self, handler: HandlerName) {
        let (work, dead) = (RabbitQueue::Of(Queue::Work(handler)), RabbitQueue::Of(Queue::Dead(handler)));
        self.queues.push(QueueDeclaration {
            queue: dead,
            arguments: vec![("x-overflow", Argument::Text("reject-publish")), unlimited()],
        });
        self.bindings.push(Binding::new(DEAD, dead, handler.as_str()));

        let mut arguments = at_least_once(DEAD);
        arguments.push(("x-dead-letter-routing-key", Argument::Text(handler.as_str())));
        arguments.push(("x-delivery-limit", Argument::Number(i64::from(DELIVERY_LIMIT))));
        self.queues.push(QueueDeclaration { queue: work, arguments });
        for key in [handler.as_str().to_owned(), format!("*.{handler}")] {
            self.bindings.push(Binding::new(WORK, work, key));
        }
        self.bindings.extend(event_bindings(handler));
    }
}

fn shared_exchanges() -> Vec<Exchange> {
    let topic = |name| Exchange { name, kind: ExchangeKind::Topic, alternate: Some(UNROUTED) };
    let unrouted = Exchange { name: UNROUTED, kind: ExchangeKind::Fanout, alternate: None };
    vec![unrouted, topic(EVENTS), topic(WORK), topic(DELAY), topic(DEAD)]
}

fn at_least_once(dead_letter_exchange: &'static str) -> Vec<(&'static str, Argument)> {
    vec![
        ("x-dead-letter-exchange", Argument::Text(dead_letter_exchange)),
        ("x-dead-letter-strategy", Argument::Text("at-least-once")),
        ("x-overflow", Argument::Text("reject-publish")),
    ]
}

const fn unlimited() -> (&'static str, Argument) {
    ("x-delivery-limit", Argument::Number(UNLIMITED_DELIVERIES))
}
