//! Logs the requests of one attempt, for `events show`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hookline_store::model::RequestRecord;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::destinations::priority::Priority;
use crate::destinations::redact::personal_texts;

/// Collects requests. Clones write to the same list.
#[derive(Clone, Default)]
pub struct CallLog {
    records: Arc<Mutex<Vec<RequestRecord>>>,
    /// The payload that the calls are about.
    about: Bytes,
    turn: Turn,
}

/// Decides when a call may go: a handler may have a bounded number of calls in flight, and the gate lets some
/// priorities go first. Without `in_flight` there is no bound.
#[derive(Clone, Default)]
pub(crate) struct Turn {
    in_flight: Option<Arc<Semaphore>>,
    pub(crate) priority: Priority,
}

impl Turn {
    /// Waits for a place. Dropping the permit gives the place back.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.in_flight.as_ref()?).acquire_owned().await.ok()
    }
}

impl CallLog {
    /// Creates a log for calls that a payload leads to. Errors mask the personal texts of that payload.
    #[must_use]
    pub fn about(payload: Bytes) -> Self {
        Self { about: payload, ..Self::default() }
    }

    /// Limits the calls in flight, over all logs that share `in_flight`, and sets the priority at the gate.
    #[must_use]
    pub fn within(self, in_flight: Arc<Semaphore>, priority: Priority) -> Self {
        Self { turn: Turn { in_flight: Some(in_flight), priority }, ..self }
    }

    pub(crate) fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// Returns the texts that must not appear in a destination's error.
    #[must_use]
    pub(crate) fn personal(&self) -> Vec<String> {
        personal_texts(&self.about)
    }

    /// Adds a request that was made. Phone numbers in its path are already masked.
    pub fn push(&self, record: RequestRecord) {
        self.lock().push(record);
    }

    /// Returns the requests made so far, oldest first.
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
