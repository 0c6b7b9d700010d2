//! Every queue name, every delay tier, and which handler takes which event type (design.md sections 1 and 4);
//! [`rabbitmq`] has the exchanges, and how all of it is wired there.

pub mod rabbitmq;
mod tier;

pub use self::tier::Tier;

use crate::event::{EventType, START_RECEIVED, STOP_RECEIVED};
use crate::names::HandlerName;

/// A delivery handed out this often without being settled is dead-lettered with `delivery_limit`: it probably
/// takes the process down with it. Retries don't count: they are settled.
pub const DELIVERY_LIMIT: u32 = 20;

/// A queue that Hookline consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// What a handler still has to do.
    Work(HandlerName),
    /// What was given up, on its way into the store's `dead_letters`.
    Dead(HandlerName),
}

impl Queue {
    #[must_use]
    pub const fn handler(self) -> HandlerName {
        match self {
            Self::Work(handler) | Self::Dead(handler) => handler,
        }
    }

    /// The AMQP name, also the metric label: `hookline.work.log_note`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Work(handler) => format!("hookline.work.{handler}"),
            Self::Dead(handler) => format!("hookline.dead.{handler}"),
        }
    }
}

/// What a handler takes: the words of routing keys after the source ([`EventType::routing_words`]). `None`: every event,
/// of unknown types too.
#[must_use]
pub const fn event_types(handler: HandlerName) -> Option<&'static [&'static str]> {
    match handler {
        HandlerName::RecordOptOut | HandlerName::FlagOptOut => {
            Some(&["contact.opted_out", "contact.opted_in", STOP_RECEIVED, START_RECEIVED])
        }
        HandlerName::LogNote => Some(&["message.delivered", "message.received", STOP_RECEIVED, START_RECEIVED]),
        HandlerName::CreateContact | HandlerName::SyncContact => Some(&["contact.created"]),
        HandlerName::RecordHistory => None,
    }
}

/// Whether `handler` takes events of this type.
#[must_use]
pub fn takes(handler: HandlerName, event_type: &EventType) -> bool {
    event_types(handler).is_none_or(|types| types.contains(&&*event_type.routing_words()))
}
