//! The requests of one attempt, as `events show` tells them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hookline_store::model::RequestRecord;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::destinations::priority::Priority;
use crate::destinations::redact::personal_texts;

/// Collects requests; clones write to the same list.
#[derive(Clone, Default)]
pub struct CallLog {
    records: Arc<Mutex<Vec<RequestRecord>>>,
    /// The payload that the calls are about.
    about: Bytes,
    turn: Turn,
}

/// When a call's turn is: at most so many of one handler are in flight, and the gate lets some go first. Without a bound:
/// any number.
#[derive(Clone, Default)]
pub(crate) struct Turn {
    in_flight: Option<Arc<Semaphore>>,
    pub(crate) priority: Priority,
}

impl Turn {
    /// Waits for a place; dropping it gives it back.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.in_flight.as_ref()?).acquire_owned().await.ok()
    }
}

impl CallLog {
    /// For the calls that a payload leads to: what is personal in it must not come back in a destination's words.
    #[must_use]
    pub fn about(payload: Bytes) -> Self {
        Self { about: payload, ..Self::default() }
    }

    /// No more calls at once than `in_flight` has places, of all who share it, and with this priority at the gate.
    #[must_use]
    pub fn within(self, in_flight: Arc<Semaphore>, priority: Priority) -> Self {
        Self { turn: Turn { in_flight: Some(in_flight), priority }, ..self }
    }

    pub(crate) fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// The texts that a destination's words must not repeat.
    #[must_use]
    pub(crate) fn personal(&self) -> Vec<String> {
        personal_texts(&self.about)
    }

    /// Adds a request that was made. Its path has phone numbers masked already.
    pub fn push(&self, record: RequestRecord) {
        self.lock().push(record);
    }

    /// What was made so far, oldest first.
    #[must_use]
    pub fn records(&self) -> Vec<RequestRecord> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RequestRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for CallLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallLog").field("records", &self.records()).finish_non_exhaustive()
    }
}
