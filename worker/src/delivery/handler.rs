//! What a handler is: one event in, one destination written to, and a word on how it ended. Retries,
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

    /// The gates that its calls pass, and of which classes these are. While one holds such calls the consumer takes no
    /// work, so that deliveries wait in the queue instead of going round.
    fn gates(&self) -> Vec<(Arc<Gate>, &'static [OperationClass])>;

    /// The effect that an attempt would claim before anything else: it is claimed with the attempt's begin, in one
    /// write, and the answer is [`Attempt::first_claim`].
    fn first_claim<'a>(&'a self, _event: &'a Event, _owner: &'a str) -> Option<ClaimRequest<'a>> {
        None
    }

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, Failure>;
}

/// One try at a delivery, as a handler sees it.
pub struct Attempt<'a> {
    pub event: &'a Event,
    /// Unique to this delivery in this process: who holds claims and locks.
    pub owner: &'a str,
    /// The requests that the attempt makes, for `events show`.
    pub calls: &'a CallLog,
    /// The answer to [`Handler::first_claim`]; `None` where nothing was asked for.
    pub first_claim: Option<Claim>,
}

impl Attempt<'_> {
    /// What a destination can recognise a repeat of one write by.
    #[must_use]
    pub fn idempotency_key(&self, handler: HandlerName, step: &str) -> String {
        format!("{}/{handler}/{step}", self.event.id)
    }
}

/// How an attempt that did not fail ended, and what it did.
#[derive(Debug)]
pub struct Outcome {
    pub ending: Ending,
    /// Recorded with the end of the attempt, in one write.
    pub effects: Vec<CompletedEffect>,
    /// Sentences for whoever follows the event's progress. Nothing personal is in them.
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

/// How an attempt failed, and which of its effects were made all the same.
#[derive(Debug)]
pub struct Failure {
    pub error: HandlerError,
    /// Recorded with the end of the attempt, in one write.
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
    /// The store is away or refuses: a `Hold`, no attempt spent.
    #[error("the store is not available")]
    Store(#[from] StoreError),
    /// Somebody else is at it, or it is too early to look: come back then, no attempt spent.
    #[error("{why}")]
    Wait { until: Timestamp, why: &'static str },
    /// Not there yet; a failure that a retry may cure.
    #[error("{why}")]
    TryAgain { after: Duration, destination: Destination, why: &'static str },
    /// No retry can cure it.
    #[error("{detail}")]
    GiveUp { reason: DeadReason, destination: Option<Destination>, status: Option<u16>, detail: String },
}

impl HandlerError {
    #[must_use]
    pub fn textus(error: DestinationError) -> Self {
        Self::Destination { destination: Destination::TextUs, error }
    }

    /// Whether trying other targets of the same event in this attempt makes sense.
    #[must_use]
    pub fn blocks_everything(&self) -> bool {
        match self {
            Self::Destination { error, .. } => matches!(error.disposition(), Disposition::Hold { .. }),
            Self::Store(_) => true,
            Self::Wait { .. } | Self::TryAgain { .. } | Self::GiveUp { .. } => false,
        }
    }

    /// Whether a person has to decide; anything else comes right by waiting or trying again.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Destination { error, .. } => matches!(error.disposition(), Disposition::DeadLetter { .. }),
            Self::GiveUp { .. } => true,
            Self::Store(_) | Self::Wait { .. } | Self::TryAgain { .. } => false,
        }
    }

    /// The destination that is paused and keeps the delivery waiting.
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
