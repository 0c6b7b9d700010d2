//! Every queue name, every delay tier, and the event types that each handler takes, on every broker. [`rabbitmq`] has
//! the exchanges and bindings, [`left_over`] what earlier versions declared there; docs/reference.md describes them in
//! words.

pub mod left_over;
pub mod rabbitmq;
mod tier;
mod work_class;

pub use self::tier::Tier;
pub use self::work_class::WorkClass;

use hookline_common::event::{EventType, START_RECEIVED, STOP_RECEIVED};
use hookline_common::names::HandlerName;

/// A delivery that was handed out this often without being settled is dead-lettered with `delivery_limit`: it probably
/// crashes the process. Waiting (for a claim, a gate, a pause) in between changes no count; an attempt that fails by itself begins
/// it anew.
pub const DELIVERY_LIMIT: u32 = 20;

/// The event types that a handler takes: the words of routing keys after the source ([`EventType::routing_words`]).
/// `None` means every event, including unknown types.
#[must_use]
pub const fn event_types(handler: HandlerName) -> Option<&'static [&'static str]> {
    match handler {
        HandlerName::RecordOptOut | HandlerName::FlagOptOut => {
            Some(&["contact.opted_out", "contact.opted_in", STOP_RECEIVED, START_RECEIVED])
        }
        HandlerName::LogNote => {
            Some(&["message.delivered", "message.failed", "message.received", STOP_RECEIVED, START_RECEIVED])
        }
        HandlerName::CreateContact | HandlerName::SyncContact => Some(&["contact.created"]),
        HandlerName::RecordHistory => None,
    }
}

/// Whether `handler` takes events of this type.
#[must_use]
pub fn takes(handler: HandlerName, event_type: &EventType) -> bool {
    event_types(handler).is_none_or(|types| types.contains(&&*event_type.routing_words()))
}

/// The handlers that take events of this type.
pub fn takers(event_type: &EventType) -> impl Iterator<Item = HandlerName> {
    HandlerName::ALL.iter().copied().filter(|handler| takes(*handler, event_type))
}
