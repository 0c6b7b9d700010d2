//! How many deliveries wait, and for how long. RabbitMQ reports neither the age of messages in its queues, nor parked
//! or unacknowledged deliveries.

use hookline_common::names::HandlerName;
use hookline_common::time::Timestamp;
use sqlx::{AssertSqlSafe, Row as _};

use crate::Store;
use crate::db::error::StoreError;
use crate::db::row;

/// A handler's outstanding deliveries, as far as the store knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub handler: HandlerName,
    pub deliveries: u64,
    /// When the oldest of their events was received.
    pub oldest: Timestamp,
    /// The same for those of which no attempt has begun; `None` if there are none.
    pub oldest_untouched: Option<Timestamp>,
}

impl Store {
    /// Returns one row for each handler that has waiting deliveries.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn waiting(&self) -> Result<Vec<Waiting>, StoreError> {
        // Naming the handlers lets the query use the index, so it does not read done deliveries, which are nearly all.
        let handlers: Vec<String> = HandlerName::ALL.iter().map(|handler| format!("'{handler}'")).collect();
        let query = format!(
            "SELECT d.handler AS handler, COUNT(*) AS n, MIN(COALESCE(e.received_ms, d.created_ms)) AS oldest_ms,
                    MIN(CASE WHEN d.attempt = 0 THEN COALESCE(e.received_ms, d.created_ms) END) AS untouched_ms
             FROM deliveries d LEFT JOIN events e ON e.event_id = d.event_id
             WHERE d.handler IN ({}) AND d.state = 'waiting' GROUP BY d.handler",
            handlers.join(", ")
        );
        let rows = self.db.rows(sqlx::query(AssertSqlSafe(query))).await?;
        let waiting = rows.iter().map(|row| {
            Ok(Waiting {
                handler: row::name(row, "handler")?,
                deliveries: row::count(row, "n")?,
                oldest: Timestamp::from_millis(row.try_get("oldest_ms")?),
                oldest_untouched: row::maybe_time(row, "untouched_ms")?,
            })
        });
        waiting.collect()
    }
}
