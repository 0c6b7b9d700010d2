//! Every exchange, queue and binding on RabbitMQ, as data: the broker declares them, `hookline topology` prints them
//! (docs/reference.md, "RabbitMQ").
//!
//! ```text
//! hookline.events ──(event types)──▶ hookline.work.<handler>, the guard ──▶ hookline.work.<handler>
//! hookline.delay ──(<tier>.#)──▶ hookline.delay.<tier> ──(time is over)──▶ hookline.work ──(*.<handler>)──▶ ″
//! hookline.dead ──(<handler>)──▶ hookline.dead.<handler>
//! whatever an exchange cannot route ──▶ hookline.unrouted
//! ```
//!
//! - **Guards**: an alternate exchange acts only where *no* queue takes the message. `record_history` takes everything,
//!   so without a guard of its own a handler's deleted queue would lose its events without a sign.
//! - What safety needs is in fixed arguments, which no policy can weaken. What an operator tunes is left to policies.
//! - `hookline.control` has no alternate exchange: a wake-up that nobody hears is no event that got lost.

use hookline_common::names::{HandlerName, Queue};

use crate::topology::{DELIVERY_LIMIT, Tier, event_types};

/// Where ingest publishes; the key is `<source>.<event type>`.
pub const EVENTS: &str = "hookline.events";
/// Back from a delay, or redriven; the key is `<handler>` or `<tier>.<handler>`.
pub const WORK: &str = "hookline.work";
/// To wait; the key is `<tier>.<handler>`.
pub const DELAY: &str = "hookline.delay";
/// Given up; the key is `<handler>`.
pub const DEAD: &str = "hookline.dead";
/// What nothing else took.
pub const UNROUTED: &str = "hookline.unrouted";
/// "Look at the store again": to whoever is there now.
pub const CONTROL: &str = "hookline.control";

/// No limit, where leaving it out means 20 (from 4.0 on) and then a drop
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

/// Durable, not internal, not deleted by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub name: String,
    pub kind: ExchangeKind,
    /// Gets what it cannot route.
    pub alternate: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    Text(&'static str),
    Number(i64),
}

/// A queue on RabbitMQ: one that is consumed, or one that only holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RabbitQueue {
    Of(Queue),
    /// What waits for its next attempt, of every handler.
    Delay(Tier),
    /// What no queue took: a queue or a binding was missing.
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
    /// Beside `x-queue-type=quorum`.
    pub arguments: Vec<(&'static str, Argument)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Queue(RabbitQueue),
    Exchange(String),
}

impl Target {
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Queue(queue) => queue.name(),
            Self::Exchange(name) => name.clone(),
        }
    }
}

/// `source` gives `target` what has a key like `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub source: String,
    pub target: Target,
    pub key: String,
}

/// All of it for some handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    pub exchanges: Vec<Exchange>,
    pub queues: Vec<QueueDeclaration>,
    pub bindings: Vec<Binding>,
}

/// The exchange that stands before a handler's work queue; named as the queue is.
#[must_use]
pub fn guard(handler: HandlerName) -> String {
    Queue::Work(handler).name()
}

/// The key under which a delivery waits for `tier`, and comes back.
#[must_use]
pub fn delay_key(tier: Tier, handler: HandlerName) -> String {
    format!("{tier}.{handler}")
}

/// What `hookline.events` sends to a handler's guard.
#[must_use]
pub fn event_bindings(handler: HandlerName) -> Vec<Binding> {
    let binding = |key: String| Binding { source: EVENTS.to_owned(), target: Target::Exchange(guard(handler)), key };
    match event_types(handler) {
        Some(types) => types.iter().map(|event_type| binding(format!("*.{event_type}"))).collect(),
        None => vec![binding("#".to_owned())],
    }
}

impl Topology {
    /// What must be there for these handlers, in the order in which it can be declared.
    #[must_use]
    pub fn of(handlers: &[HandlerName]) -> Self {
        let mut topology = Self { exchanges: shared_exchanges(), queues: Vec::new(), bindings: Vec::new() };
        topology.queues.push(QueueDeclaration { queue: RabbitQueue::Unrouted, arguments: vec![unlimited()] });
        topology.bind(UNROUTED, Target::Queue(RabbitQueue::Unrouted), "");
        for handler in handlers {
            topology.add_handler(*handler);
        }
        for tier in Tier::ALL {
            let mut arguments = at_least_once(WORK);
            let millis = i64::try_from(tier.time().as_millis()).unwrap_or(i64::MAX);
            arguments.push(("x-message-ttl", Argument::Number(millis)));
            topology.queues.push(QueueDeclaration { queue: RabbitQueue::Delay(*tier), arguments });
            topology.bind(DELAY, Target::Queue(RabbitQueue::Delay(*tier)), &format!("{tier}.#"));
        }
        topology
    }

    fn add_handler(&mut self, handler: HandlerName) {
        let (work, dead) = (RabbitQueue::Of(Queue::Work(handler)), RabbitQueue::Of(Queue::Dead(handler)));
        self.queues.push(QueueDeclaration {
            queue: dead,
            arguments: vec![("x-overflow", Argument::Text("reject-publish")), unlimited()],
        });
        self.bind(DEAD, Target::Queue(dead), handler.as_str());

        self.exchanges.push(Exchange { name: guard(handler), kind: ExchangeKind::Fanout, alternate: Some(UNROUTED) });
        let mut arguments = at_least_once(DEAD);
        arguments.push(("x-dead-letter-routing-key", Argument::Text(handler.as_str())));
        arguments.push(("x-delivery-limit", Argument::Number(i64::from(DELIVERY_LIMIT))));
        self.queues.push(QueueDeclaration { queue: work, arguments });
        self.bind(&guard(handler), Target::Queue(work), "");
        for key in [handler.as_str().to_owned(), format!("*.{handler}")] {
            self.bind(WORK, Target::Queue(work), &key);
        }
        // Last: before its queue is behind the guard, the guard would send its events to `hookline.unrouted`.
        self.bindings.extend(event_bindings(handler));
    }

    fn bind(&mut self, source: &str, target: Target, key: &str) {
        self.bindings.push(Binding { source: source.to_owned(), target, key: key.to_owned() });
    }
}

fn shared_exchanges() -> Vec<Exchange> {
    let fanout = |name: &str| Exchange { name: name.to_owned(), kind: ExchangeKind::Fanout, alternate: None };
    let topic = |name: &str| Exchange { name: name.to_owned(), kind: ExchangeKind::Topic, alternate: Some(UNROUTED) };
    vec![fanout(UNROUTED), fanout(CONTROL), topic(EVENTS), topic(WORK), topic(DELAY), topic(DEAD)]
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
