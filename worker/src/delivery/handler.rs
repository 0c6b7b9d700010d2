//! Defines a handler: it takes one event, writes to one destination and returns how that ended. Retries,
//! acknowledgements, metrics and logs happen around it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::event::Event;
use hookline_common::names::{DeadReason, Destination, HandlerName, OperationClass, SkipReason};
use hookline_common::time::Timestamp;
use hookline_store::StoreError;
use hookline_store::model::{Claim, ClaimRequest, CompletedEffect, Ending};

use crate::calls::log::CallLog;
use crate::destinations::error::{DestinationError, Disposition};
use crate::gate::Gate;
use crate::textus::payload::Unreadable;

/// Does one thing for the event types that `topology::event_types` names.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    fn name(&self) -> HandlerName;

    /// Returns the gates that the handler's calls pass, with the classes of these calls. While a gate holds such calls,
    /// the consumer takes no work, so that deliveries wait in the queue instead of being parked again and again.
    fn gates(&self) -> Vec<(Arc<Gate>, &'static [OperationClass])>;

    /// Returns the effect that an attempt would claim before anything else. The store claims it in the same write that
    /// begins the attempt, and [`Attempt::first_claim`] holds the answer.
    fn first_claim<'a>(&'a self, _event: &'a Event, _owner: &'a str) -> Option<ClaimRequest<'a>> {
        None
    }

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, Failure>;
}

/// One attempt at a delivery, as a handler sees it.
pub struct Attempt<'a> {
    pub event: &'a Event,
    /// Unique to this delivery in this process; holds claims and locks.
    pub owner: &'a str,
    /// Logs the requests that the attempt makes, for `events show`.
    pub calls: &'a CallLog,
    /// The answer to [`Handler::first_claim`]; `None` if the handler asked for no claim.
    pub first_claim: Option<Claim>,
}

impl Attempt<'_> {
    /// Returns a key by which a destination can recognise a repeat of one write.
    #[must_use]
    pub fn idempotency_key(&self, handler: HandlerName, step: &str) -> String {
        format!("{}/{handler}/{step}", self.event.id)
    }
}

/// How an attempt that did not fail ended, and what it did.
#[derive(Debug)]
pub struct Outcome {
    pub ending: Ending,
    /// Recorded in the same write as the end of the attempt.
    pub effects: Vec<CompletedEffect>,
    /// Sentences for people who follow the event's progress. They contain no personal data.
    pub remarks: Vec<String>,
}

impl Outcome {
    #[must_use]
    pub fn done() -> Self {
        Self::ended(Ending::Done)
    }

    #[must_use]
    pub fn skipped(reason: SkipReason) -> Self {
        Self::ended(Ending::Skipped(reason))
    }

    fn ended(ending: Ending) -> Self {
        Self { ending, effects: Vec::new(), remarks: Vec::new() }
    }

    #[must_use]
    pub fn with_effects(mut self, effects: impl IntoIterator<Item = CompletedEffect>) -> Self {
        self.effects.extend(effects);
        self
    }

    #[must_use]
    pub fn with_remarks(mut self, remarks: impl IntoIterator<Item = String>) -> Self {
        self.remarks.extend(remarks);
        self
    }
}

/// How an attempt failed, and which of its effects took place anyway.
#[derive(Debug)]
pub struct Failure {
    pub error: HandlerError,
    /// Recorded in the same write as the end of the attempt.
    pub effects: Vec<CompletedEffect>,
}

impl<E: Into<HandlerError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), effects: Vec::new() }
    }
}

/// Why an attempt ended without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    #[error("{destination}: {error}")]
    Destination { destination: Destination, error: DestinationError },
    /// The store is away or refuses. While it is away, the delivery is held without spending an attempt. A refusal is
    /// retried like any failure.
    #[error("the store is not available")]
    Store(#[from] StoreError),
    /// Another delivery holds what this one needs, or it is too early to look. The delivery comes back at `until`
    /// without spending an attempt.
    #[error("{why}")]
    Wait { until: Timestamp, why: &'static str },
    /// Something isn't there yet; a retry may cure this.
    #[error("{why}")]
    TryAgain { after: Duration, destination: Destination, why: &'static str },
    /// No retry can cure this.
    #[error("{detail}")]
    GiveUp { reason: DeadReason, destination: Option<Destination>, status: Option<u16>, detail: String },
}

impl HandlerError {
    #[must_use]
    pub fn textus(error: DestinationError) -> Self {
        Self::Destination { destination: Destination::TextUs, error }
    }

    /// Returns whether the error would also meet all other targets of the same event, so that trying them in this
    /// attempt is pointless.
    #[must_use]
    pub fn blocks_everything(&self) -> bool {
        match self {
            Self::Destination { error, .. } => matches!(error.disposition(), Disposition::Hold { .. }),
            Self::Store(_) => true,
            Self::Wait { .. } | Self::TryAgain { .. } | Self::GiveUp { .. } => false,
        }
    }

    /// Returns whether a person has to decide. Waiting or retrying cures every other error.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Destination { error, .. } => matches!(error.disposition(), Disposition::DeadLetter { .. }),
            Self::GiveUp { .. } => true,
            Self::Store(_) | Self::Wait { .. } | Self::TryAgain { .. } => false,
        }
    }

    /// Names the kind of this error, for logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Destination { error, .. } => error.kind(),
            Self::Store(error) if error.is_unavailable() => "store_away",
            Self::Store(_) => "store_refused",
            Self::Wait { why, .. } | Self::TryAgain { why, .. } => why,
            Self::GiveUp { reason, .. } => reason.as_str(),
        }
    }

    /// Returns the paused destination that keeps the delivery waiting.
    #[must_use]
    pub fn paused_destination(&self) -> Option<Destination> {
        match self {
            Self::Destination { destination, error } => error.is_paused().then_some(*destination),
            Self::Store(_) | Self::Wait { .. } | Self::TryAgain { .. } | Self::GiveUp { .. } => None,
        }
    }
}

impl From<Unreadable> for HandlerError {
    fn from(unreadable: Unreadable) -> Self {
        Self::GiveUp { reason: DeadReason::Unreadable, destination: None, status: None, detail: unreadable.to_string() }
    }
}
