//! The requests of one attempt, as `events show` tells them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hookline_store::model::RequestRecord;

use super::redact::personal_texts;

/// Collects requests; clones write to the same list.
#[derive(Clone, Default)]
pub struct CallLog {
    records: Arc<Mutex<Vec<RequestRecord>>>,
    /// The payload that the calls are about.
    about: Bytes,
}

impl CallLog {
    /// For the calls that a payload leads to: what is personal in it must not come back in a destination's words.
    #[must_use]
    pub fn about(payload: Bytes) -> Self {
        Self { records: Arc::default(), about: payload }
    }

    /// The texts that a destination's words must not repeat.
    #[must_use]
    pub(super) fn personal(&self) -> Vec<String> {
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
