//! The closed sets of names that appear in queues, metrics, the store and JSON documents (docs/reference.md).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Implements the text forms of a closed set of names, so that each name is written once.
macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vmeta])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|name| name.as_str() == text)
                    .ok_or_else(|| UnknownName {
                        given: text.chars().take(64).collect(),
                        known: Self::ALL.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
                    })
            }
        }
    };
}

/// A name that is not in its closed set.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{given:?} is not one of {known}")]
pub struct UnknownName {
    pub given: String,
    pub known: String,
}

closed_set! {
    /// The code that does one thing for one kind of event; each handler has its own queue.
    HandlerName {
        RecordOptOut = "record_opt_out",
        FlagOptOut = "flag_opt_out",
        LogNote = "log_note",
        CreateContact = "create_contact",
        SyncContact = "sync_contact",
        RecordHistory = "record_history",
    }
}

closed_set! {
    /// Where effects are written.
    Destination {
        TextUs = "textus",
        SystemOfRecord = "system_of_record",
        Store = "store",
    }
}

closed_set! {
    /// The state of one delivery (one event, one handler).
    DeliveryState {
        Waiting = "waiting",
        Done = "done",
        Skipped = "skipped",
        DeadLettered = "dead_lettered",
        Discarded = "discarded",
    }
}

closed_set! {
    /// How one attempt was settled.
    Verdict {
        Done = "done",
        Skipped = "skipped",
        Parked = "parked",
        DeadLettered = "dead_lettered",
        Released = "released",
    }
}

closed_set! {
    /// Why a handler had nothing to do.
    SkipReason {
        Duplicate = "duplicate",
        Echo = "echo",
        Stale = "stale",
        Unchanged = "unchanged",
        AlreadyDone = "already_done",
        UnknownContact = "unknown_contact",
        OptIn = "opt_in",
        NoAction = "no_action",
    }
}

closed_set! {
    /// Why a delivery was dead-lettered.
    DeadReason {
        Rejected = "rejected",
        NotFound = "not_found",
        AttemptsExhausted = "attempts_exhausted",
        TooOld = "too_old",
        OutcomeUnknown = "outcome_unknown",
        UnknownContact = "unknown_contact",
        AmbiguousContact = "ambiguous_contact",
        Unreadable = "unreadable",
        DeliveryLimit = "delivery_limit",
    }
}

closed_set! {
    /// The purpose of a call to a destination; a metric label.
    Operation {
        PutOptOut = "put_opt_out",
        GetOptOut = "get_opt_out",
        GetMessage = "get_message",
        GetConversation = "get_conversation",
        FindContactPhones = "find_contact_phones",
        GetContact = "get_contact",
        CreateContact = "create_contact",
        CheckToken = "check_token",
        GetToken = "get_token",
        ListIntegrations = "list_integrations",
        CreateIntegration = "create_integration",
        UpdateIntegration = "update_integration",
        FindPerson = "find_person",
        UpsertPerson = "upsert_person",
        FindNote = "find_note",
        FindOwner = "find_owner",
        LogNote = "log_note",
        SetOptOut = "set_opt_out",
        ReadSetUp = "read_set_up",
        ChangeSetUp = "change_set_up",
    }
}

closed_set! {
    /// What we know about this endpoint's subscription at TextUs.
    SubscriptionState {
        NotKnown = "not_known",
        Complete = "complete",
        /// TextUs does not send an event type that a handler needs.
        Incomplete = "incomplete",
        /// Every event type is subscribed, but events do not arrive or are not accepted.
        Unhealthy = "unhealthy",
    }
}

closed_set! {
    /// Calls that fail and recover together: each class has its own breaker.
    OperationClass {
        OptOutWrites = "opt_out_writes",
        ContactWrites = "contact_writes",
        Reads = "reads",
    }
}

impl Operation {
    #[must_use]
    pub const fn class(self) -> OperationClass {
        match self {
            Self::PutOptOut | Self::SetOptOut => OperationClass::OptOutWrites,
            Self::CreateContact
            | Self::UpsertPerson
            | Self::LogNote
            | Self::ChangeSetUp
            | Self::CreateIntegration
            | Self::UpdateIntegration => OperationClass::ContactWrites,
            Self::GetOptOut
            | Self::GetMessage
            | Self::GetConversation
            | Self::FindContactPhones
            | Self::GetContact
            | Self::CheckToken
            | Self::GetToken
            | Self::ListIntegrations
            | Self::FindPerson
            | Self::FindNote
            | Self::FindOwner
            | Self::ReadSetUp => OperationClass::Reads,
        }
    }

    /// Whether the outcome of this operation says nothing about other calls, and theirs nothing about it. Few tokens
    /// may see the account's integrations or the owners of records, and a token that may not is good for everything
    /// else.
    #[must_use]
    pub const fn stands_alone(self) -> bool {
        matches!(self, Self::ListIntegrations | Self::CreateIntegration | Self::UpdateIntegration | Self::FindOwner)
    }
}

impl OperationClass {
    /// The name in sentences.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::OptOutWrites => "opt-out writes",
            Self::ContactWrites => "contact writes",
            Self::Reads => "reads",
        }
    }

    /// The row of this class in a table with one row per class.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::OptOutWrites => 0,
            Self::ContactWrites => 1,
            Self::Reads => 2,
        }
    }
}

/// A queue that Hookline consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// Deliveries that a handler still has to process.
    Work(HandlerName),
    /// Dead letters on their way into the store's `dead_letters`.
    Dead(HandlerName),
}

impl Queue {
    #[must_use]
    pub const fn handler(self) -> HandlerName {
        match self {
            Self::Work(handler) | Self::Dead(handler) => handler,
        }
    }

    /// The AMQP name, which is also the metric label: `hookline.work.log_note`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Work(handler) => format!("hookline.work.{handler}"),
            Self::Dead(handler) => format!("hookline.dead.{handler}"),
        }
    }
}
