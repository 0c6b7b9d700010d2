//! What earlier versions declared on RabbitMQ and this one does not use: `hookline topology` names it, and `--apply`
//! removes it.
//!
//! An earlier version may still run, and declares it again: then an event reaches a queue by two ways, of which RabbitMQ
//! takes one. So nothing here is ever in the way, and an operator removes it when the last older process has gone.

use hookline_common::names::{HandlerName, Queue};

use super::rabbitmq::event_keys;

/// An exchange that an earlier version declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOver {
    pub exchange: String,
    /// The keys by which `hookline.events` is bound to the exchange.
    pub event_keys: Vec<String>,
    /// The queue that is bound to the exchange, with an empty key.
    pub queue: Option<String>,
}

impl LeftOver {
    /// Everything that an earlier version may have left, whatever handlers are switched on now.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let guards = HandlerName::ALL.iter().map(|handler| Self::guard(*handler));
        guards.chain([Self::control()]).collect()
    }

    /// The fanout exchange that stood between `hookline.events` and a handler's work queue, named as the queue is.
    fn guard(handler: HandlerName) -> Self {
        let name = Queue::Work(handler).name();
        Self { exchange: name.clone(), event_keys: event_keys(handler), queue: Some(name) }
    }

    /// The exchange on which processes were to wake each other. None ever did.
    fn control() -> Self {
        Self { exchange: "hookline.control".to_owned(), event_keys: Vec::new(), queue: None }
    }
}
