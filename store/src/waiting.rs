//! How long deliveries have been waiting: RabbitMQ does not tell the age of what its queues hold.

use hookline_common::names::HandlerName;
use hookline_common::time::Timestamp;
use sqlx::Row as _;

use crate::error::StoreError;
use crate::{Store, row};

impl Store {
    /// Of each handler that has deliveries waiting: when the oldest of their events was received.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn oldest_waiting(&self) -> Result<Vec<(HandlerName, Timestamp)>, StoreError> {
        let query = sqlx::query(
            "SELECT d.handler AS handler, MIN(COALESCE(e.received_ms, d.created_ms)) AS oldest_ms
             FROM deliveries d LEFT JOIN events e ON e.event_id = d.event_id
             WHERE d.state = 'waiting' GROUP BY d.handler",
        );
        let rows = self.db.rows(query).await?;
        let mut oldest = Vec::with_capacity(rows.len());
        for row in rows {
            // A newer version may know more handlers.
            let Ok(handler) = row::text(&row, "handler")?.parse() else { continue };
            oldest.push((handler, Timestamp::from_millis(row.try_get("oldest_ms")?)));
        }
        Ok(oldest)
    }
}
