//! What ends a store for good: its file is gone, its disk fails, or a task of its own panicked. From then on every request
//! fails at once, so that no request is answered from what no restart finds again.

use std::sync::Arc;

use tokio::sync::watch;

use crate::db::error::StoreError;

/// The first failure, if there was one. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirstFailure(Arc<watch::Sender<Option<String>>>);

impl FirstFailure {
    pub(crate) fn report(&self, why: &str) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(why.to_owned());
            }
            is_first
        });
    }

    /// Remembers `error` if it ends the store.
    pub(crate) fn see(&self, error: &StoreError) {
        if let StoreError::Failed(why) = error {
            self.report(why);
        }
    }

    /// # Errors
    /// The first failure, if there was one.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.0.borrow().clone().map_or(Ok(()), |why| Err(StoreError::Failed(why)))
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}
