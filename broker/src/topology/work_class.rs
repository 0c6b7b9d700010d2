//! Classes of work that are published apart from each other, so that a queue which stops confirming holds up its own
//! class alone.

use hookline_common::event::EventType;
use hookline_common::names::HandlerName;

use super::takes;

/// The queue of `record_history` takes the events of every class: while that queue does not confirm, no class is stored in
/// RabbitMQ (docs/guarantees.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkClass {
    OptOuts,
    Contacts,
    /// Notes, keyword texts and everything that only the history takes. Keyword texts (STOP, START) are here because the queue
    /// of `log_note` takes them too: while it does not confirm, they must not hold up other opt-outs.
    Others,
}

impl WorkClass {
    pub const ALL: [Self; 3] = [Self::OptOuts, Self::Contacts, Self::Others];

    /// The class of a delivery to one handler.
    #[must_use]
    pub const fn of_handler(handler: HandlerName) -> Self {
        match handler {
            HandlerName::RecordOptOut | HandlerName::FlagOptOut => Self::OptOuts,
            HandlerName::CreateContact | HandlerName::SyncContact => Self::Contacts,
            HandlerName::LogNote | HandlerName::RecordHistory => Self::Others,
        }
    }

    /// The class of an event for all its handlers.
    #[must_use]
    pub fn of_event(event_type: &EventType) -> Self {
        if takes(HandlerName::LogNote, event_type) {
            Self::Others
        } else if takes(HandlerName::RecordOptOut, event_type) {
            Self::OptOuts
        } else if takes(HandlerName::CreateContact, event_type) {
            Self::Contacts
        } else {
            Self::Others
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OptOuts => "opt-outs",
            Self::Contacts => "contacts",
            Self::Others => "notes and others",
        }
    }
}
