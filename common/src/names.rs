//! The closed sets of names that appear in queues, metrics, the store and JSON documents (docs/reference.md).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Implements text forms for a closed set of names, so that each is written once.
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
    /// The code that does one thing for one kind of event; each has a queue of its own.
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
    /// Where one delivery (one event, one handler) stands.
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
    /// Why we stopped trying.
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
    /// What a call to a destination is for; a metric label.
    Operation {
        PutOptOut = "put_opt_out",
        GetOptOut = "get_opt_out",
        GetMessage = "get_message",
        GetConversation = "get_conversation",
        FindContactPhones = "find_contact_phones",
        GetContact = "get_contact",
        CreateContact = "create_contact",
        CheckToken = "check_token",
        ListIntegrations = "list_integrations",
        CreateIntegration = "create_integration",
        UpdateIntegration = "update_integration",
        FindPerson = "find_person",
        UpsertPerson = "upsert_person",
        LogNote = "log_note",
        SetOptOut = "set_opt_out",
    }
}

closed_set! {
    /// What is known of this endpoint's subscription at TextUs.
    SubscriptionState {
        NotKnown = "not_known",
        Complete = "complete",
        /// An event type that a handler needs is not sent here.
        Incomplete = "incomplete",
        /// Everything is subscribed, and does not arrive or is not taken.
        Unhealthy = "unhealthy",
    }
}

closed_set! {
    /// Calls that fail and recover together: each class has a breaker of its own.
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
            | Self::CreateIntegration
            | Self::UpdateIntegration => OperationClass::ContactWrites,
            Self::GetOptOut
            | Self::GetMessage
            | Self::GetConversation
            | Self::FindContactPhones
            | Self::GetContact
            | Self::CheckToken
            | Self::ListIntegrations
            | Self::FindPerson => OperationClass::Reads,
        }
    }

    /// Whether how it ends says nothing of other calls, and theirs nothing of it: few tokens may see the account's
    /// integrations, and one that may not is good for all else.
    #[must_use]
    pub const fn stands_alone(self) -> bool {
        matches!(self, Self::ListIntegrations | Self::CreateIntegration | Self::UpdateIntegration)
    }
}

impl OperationClass {
    /// As sentences name it.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::OptOutWrites => "opt-out writes",
            Self::ContactWrites => "contact writes",
            Self::Reads => "reads",
        }
    }

    /// Its place in a table of one row a class.
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
