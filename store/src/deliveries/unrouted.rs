//! Copies of events that no queue took and that a person gave up.

use hookline_common::event::EventId;

use crate::Store;
use crate::db::error::StoreError;
use crate::operations::audit;

impl Store {
    /// Records that copies of these events were discarded, and why. Changes no delivery, because nobody can tell which
    /// handler missed its copy.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn unrouted_discarded(&self, events: &[EventId], reason: &str) -> Result<(), StoreError> {
        self.db
            .write((events.to_vec(), reason.to_owned()), |connection, (events, reason)| {
                Box::pin(async move {
                    for event in events {
                        audit::note(connection, "discard_unrouted", event.as_str(), Some(reason)).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}
