//! Which calls go first where a destination lets only so many through.

use hookline_common::names::HandlerName;

/// Which calls of a destination go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    #[default]
    OptOut,
    Contact,
    Note,
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
