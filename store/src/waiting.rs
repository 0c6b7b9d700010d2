//! How many deliveries wait and for how long: RabbitMQ tells neither the age of what its queues hold, nor what is parked or
//! handed out.

use hookline_common::names::HandlerName;
use hookline_common::time::Timestamp;
use sqlx::{AssertSqlSafe, Row as _};

use crate::error::StoreError;
use crate::{Store, row};

impl Store {
    /// How many deliveries each handler still has to do, as far as the store knows of them.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn waiting(&self) -> Result<Vec<(HandlerName, u64)>, StoreError> {
        // Named, the handlers are found by the index: what is done already, and that is nearly all, is not read.
        let handlers: Vec<String> = HandlerName::ALL.iter().map(|handler| format!("'{handler}'")).collect();
        let query = format!(
            "SELECT handler, COUNT(*) AS n FROM deliveries WHERE handler IN ({}) AND state = 'waiting' GROUP BY handler",
            handlers.join(", ")
        );
        let rows = self.db.rows(sqlx::query(AssertSqlSafe(query))).await?;
        rows.iter().map(|row| Ok((row::name(row, "handler")?, row::count(row, "n")?))).collect()
    }

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
