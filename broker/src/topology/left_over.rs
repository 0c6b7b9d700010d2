//! Objects that earlier versions declared on RabbitMQ and this one does not use. `hookline topology` names them, and
//! `--apply` removes them.
//!
//! A process of an earlier version may still run and declare them again. An event then reaches a queue by two paths,
//! and RabbitMQ delivers it once. So left-over objects do no harm, and an operator removes them when the last older
//! process has ended.

use hookline_common::names::{HandlerName, Queue};

use super::rabbitmq::event_keys;

/// An exchange that an earlier version declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOver {
    pub exchange: String,
    /// The keys with which the exchange is bound to `hookline.events`.
    pub event_keys: Vec<String>,
    /// The queue that is bound to the exchange, with an empty key.
    pub queue: Option<String>,
}

impl LeftOver {
    /// Everything that an earlier version may have left, whichever handlers are switched on now.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let guards = HandlerName::ALL.iter().map(|handler| Self::guard(*handler));
        guards.chain([Self::control()]).collect()
    }

    /// The fanout exchange that stood between `hookline.events` and a handler's work queue. It has the queue's name.
    fn guard(handler: HandlerName) -> Self {
        let name = Queue::Work(handler).name();
        Self { exchange: name.clone(), event_keys: event_keys(handler), queue: Some(name) }
    }

    /// The exchange on which processes were meant to wake each other. No version ever used it.
    fn control() -> Self {
        Self { exchange: "hookline.control".to_owned(), event_keys: Vec::new(), queue: None }
    }
}
