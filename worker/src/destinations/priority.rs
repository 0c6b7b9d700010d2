//! Which calls go first when a destination limits them.

use hookline_common::names::HandlerName;

/// The priority of a call, highest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    #[default]
    OptOut,
    Contact,
    Note,
    /// What nobody waits for: notes and flags that the history knows and the system of record lacks. Any other call goes
    /// first.
    BackFill,
}

impl From<HandlerName> for Priority {
    fn from(handler: HandlerName) -> Self {
        match handler {
            HandlerName::RecordOptOut | HandlerName::FlagOptOut => Self::OptOut,
            HandlerName::CreateContact | HandlerName::SyncContact => Self::Contact,
            HandlerName::LogNote | HandlerName::RecordHistory => Self::Note,
        }
    }
}
