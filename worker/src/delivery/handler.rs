//! What a handler is: one event in, one destination written to, and a word on how it ended. Retries,
//! acknowledgements, metrics and logs happen around it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::event::Event;
use hookline_common::names::{DeadReason, Destination, HandlerName, OperationClass, SkipReason};
use hookline_common::time::Timestamp;
use hookline_store::StoreError;
use hookline_store::model::{Claim, ClaimRequest, CompletedEffect};

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
    /// write, and handed over by [`Attempt::take_claimed`].
    fn first_claim<'a>(&'a self, _attempt: &'a Attempt<'_>) -> Option<ClaimRequest<'a>> {
        None
    }

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, HandlerError>;
}

/// One try at a delivery, as a handler sees it.
pub struct Attempt<'a> {
    pub event: &'a Event,
    /// Unique to this delivery in this process: who holds claims and locks.
    pub owner: &'a str,
    /// The requests it made, for `events show`.
    pub calls: &'a CallLog,
    remarks: Mutex<Vec<String>>,
    claimed: Mutex<Option<Claim>>,
    made: Mutex<Vec<CompletedEffect>>,
}

impl<'a> Attempt<'a> {
    #[must_use]
    pub fn new(event: &'a Event, owner: &'a str, calls: &'a CallLog) -> Self {
        Self { event, owner, calls, remarks: Mutex::default(), claimed: Mutex::default(), made: Mutex::default() }
    }

    /// The same attempt at the event as the history has it.
    pub(crate) fn about<'b>(self, event: &'b Event) -> Attempt<'b>
    where
        'a: 'b,
    {
        Attempt { event, ..self }
    }

    /// Adds a sentence for whoever follows the event's journey. Nothing personal in it.
    pub fn remark(&self, text: impl Into<String>) {
        self.remarks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text.into());
    }

    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        std::mem::take(&mut self.remarks.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// What [`Handler::first_claim`] asked for has this answer.
    pub fn claimed(&self, claim: Claim) {
        *self.claimed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(claim);
    }

    /// `None` where nothing was asked for, or it was taken.
    #[must_use]
    pub fn take_claimed(&self) -> Option<Claim> {
        self.claimed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    /// An effect was made, and there is nothing left to do about it: noted with the end of the attempt, in one write.
    pub fn made(&self, made: CompletedEffect) {
        self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(made);
    }

    #[must_use]
    pub fn take_made(&self) -> Vec<CompletedEffect> {
        std::mem::take(&mut self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// What a destination can recognise a repeat of one write by.
    #[must_use]
    pub fn idempotency_key(&self, handler: HandlerName, step: &str) -> String {
        format!("{}/{handler}/{step}", self.event.id)
    }
}

/// How an attempt that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Skipped(SkipReason),
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
}

impl From<Unreadable> for HandlerError {
    fn from(unreadable: Unreadable) -> Self {
        Self::GiveUp { reason: DeadReason::Unreadable, destination: None, status: None, detail: unreadable.to_string() }
    }
}
