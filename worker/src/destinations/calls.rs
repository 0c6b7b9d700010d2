//! The requests of one attempt, as `events show` tells them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookline_store::model::RequestRecord;

/// Collects requests; clones write to the same list.
#[derive(Clone, Debug, Default)]
pub struct CallLog(Arc<Mutex<Vec<RequestRecord>>>);

impl CallLog {
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
