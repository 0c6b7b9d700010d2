//! Copies of erased deliveries in the broker. RabbitMQ gives nothing out of the middle of a queue, so each copy is counted
//! until it has come.

use std::collections::BTreeSet;

use hookline_common::event::EventId;
use hookline_common::names::HandlerName;
use sqlx::AssertSqlSafe;

use super::{BATCH, ERASED};
use crate::Store;
use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::row;

impl Store {
    /// Counts the copies of erased deliveries, of all people, that the broker may still hold: those that have not come
    /// and been dropped.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn erased_copies(&self) -> Result<u64, StoreError> {
        let row = self.db.row(sqlx::query("SELECT COUNT(*) AS n FROM deliveries WHERE erased_copy = 1")).await?;
        row.map_or(Ok(0), |row| row::count(&row, "n"))
    }

    /// Returns the events of such copies of one handler, `most` of them at most.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn erased_copies_of(&self, handler: HandlerName, most: u16) -> Result<Vec<EventId>, StoreError> {
        let select = sqlx::query("SELECT event_id FROM deliveries WHERE handler = $1 AND erased_copy = 1 LIMIT $2");
        let rows = self.db.rows(select.bind(handler.as_str()).bind(i64::from(most))).await?;
        rows.iter().map(row::event_id).collect()
    }

    /// Returns those of these events whose delivery to one handler was erased. Their copies are to be dropped.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn erased_among(
        &self,
        handler: HandlerName,
        event_ids: &[EventId],
    ) -> Result<BTreeSet<EventId>, StoreError> {
        let mut erased = BTreeSet::new();
        for event_ids in event_ids.chunks(BATCH) {
            let statement = format!(
                "SELECT event_id FROM deliveries WHERE event_id IN {} AND handler = ${}
                   AND state = 'discarded' AND reason = ${}",
                crate::db::statements::list(event_ids.len()),
                event_ids.len() + 1,
                event_ids.len() + 2
            );
            let mut select = sqlx::query(AssertSqlSafe(statement)).persistent(false);
            for event_id in event_ids {
                select = select.bind(event_id.as_str().to_owned());
            }
            let rows = self.db.rows(select.bind(handler.as_str()).bind(ERASED)).await?;
            for row in &rows {
                erased.insert(row::event_id(row)?);
            }
        }
        Ok(erased)
    }

    /// Returns whether the broker may hold copies of this handler's erased deliveries that are due by now.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn has_erased_copies(&self, handler: HandlerName) -> Result<bool, StoreError> {
        let row = self
            .db
            .row(
                sqlx::query(
                    "SELECT 1 FROM deliveries WHERE handler = $1 AND erased_copy = 1
                       AND (due_attempt IS NULL OR COALESCE(due_ms, 0) <= $2) LIMIT 1",
                )
                .bind(handler.as_str())
                .bind(hookline_common::time::Timestamp::now().as_millis()),
            )
            .await?;
        Ok(row.is_some())
    }

    /// Notes that the broker holds no copy of these erased deliveries any more.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn copies_gone(&self, deliveries: &[(EventId, HandlerName)]) -> Result<(), StoreError> {
        let mut deliveries = deliveries.to_vec();
        // Everybody locks deliveries in this order.
        deliveries.sort_by(|one, other| (one.0.as_str(), one.1.as_str()).cmp(&(other.0.as_str(), other.1.as_str())));
        for deliveries in deliveries.chunks(BATCH) {
            self.db
                .write_long(deliveries.to_vec(), |connection, deliveries| {
                    Box::pin(async move {
                        for (event_id, handler) in deliveries {
                            copy_gone(connection, event_id, *handler).await?;
                        }
                        Ok(())
                    })
                })
                .await?;
        }
        Ok(())
    }
}

pub(crate) async fn copy_gone(
    connection: &mut Connection,
    event_id: &EventId,
    handler: HandlerName,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE deliveries SET erased_copy = NULL
         WHERE event_id = $1 AND handler = $2 AND erased_copy = 1",
    )
    .bind(event_id.as_str())
    .bind(handler.as_str())
    .execute(connection)
    .await?;
    Ok(())
}
