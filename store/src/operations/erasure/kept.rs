//! Payloads of erased people that their opt-outs still need. Each such delivery bears a mark, and the payload goes when
//! none that bears one can go on any more: sent, skipped or discarded. A dead letter may yet be redriven.

use std::collections::BTreeSet;

use hookline_common::event::EventId;
use hookline_common::names::HandlerName;
use sqlx::AssertSqlSafe;

use super::BATCH;
use crate::Store;
use crate::db::dialect::{self, Connection};
use crate::db::error::StoreError;
use crate::db::row;

/// `erased_copy` of such a delivery; 1 is that of a copy which the broker may hold.
const NEEDS_ITS_PAYLOAD: i64 = 2;

/// The payload goes when this delivery has ended.
pub(super) async fn mark(
    connection: &mut Connection,
    event_id: &EventId,
    handler: HandlerName,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE deliveries SET erased_copy = $3 WHERE event_id = $1 AND handler = $2")
        .bind(event_id.as_str())
        .bind(handler.as_str())
        .bind(NEEDS_ITS_PAYLOAD)
        .execute(connection)
        .await?;
    Ok(())
}

impl Store {
    /// Empties the payloads that erased people's opt-outs needed and need no more; how many went.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn empty_ended(&self) -> Result<u64, StoreError> {
        // Sorted here: asked to sort or to drop repeats, SQLite reads the whole table instead of the index of marks.
        let select = sqlx::query(
            "SELECT d.event_id FROM deliveries d
             WHERE d.erased_copy = $1 AND d.state NOT IN ('waiting', 'dead_lettered')
               AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.event_id = d.event_id AND o.erased_copy = $1
                               AND o.state IN ('waiting', 'dead_lettered')) LIMIT $2",
        );
        let rows = self.db.rows(select.bind(NEEDS_ITS_PAYLOAD).bind(i64::try_from(BATCH).unwrap_or(i64::MAX))).await?;
        // Most of the time there is nothing to write.
        if rows.is_empty() {
            return Ok(0);
        }
        let ended = rows.iter().map(row::event_id).collect::<Result<BTreeSet<_>, _>>()?;
        let emptied = self
            .db
            .write_long(ended, |connection, ended| {
                Box::pin(async move {
                    let mut emptied = 0;
                    for event_id in ended {
                        emptied += empty(connection, event_id).await?;
                    }
                    Ok(emptied)
                })
            })
            .await?;
        self.empty_log().await?;
        Ok(emptied)
    }
}

/// Looks again, under the lock that every delivery takes to go on.
async fn empty(connection: &mut Connection, event_id: &EventId) -> Result<u64, StoreError> {
    let statement = format!(
        "SELECT state FROM deliveries WHERE event_id = $1 AND erased_copy = $2 ORDER BY handler {}",
        dialect::for_update(connection)
    );
    let select = sqlx::query(AssertSqlSafe(statement)).bind(event_id.as_str()).bind(NEEDS_ITS_PAYLOAD);
    for row in &select.fetch_all(&mut *connection).await? {
        if ["waiting", "dead_lettered"].contains(&row::text(row, "state")?.as_str()) {
            return Ok(0);
        }
    }
    sqlx::query("UPDATE deliveries SET erased_copy = NULL WHERE event_id = $1 AND erased_copy = $2")
        .bind(event_id.as_str())
        .bind(NEEDS_ITS_PAYLOAD)
        .execute(&mut *connection)
        .await?;
    let emptied = sqlx::query(super::EVENTS.empty).bind(event_id.as_str()).execute(connection).await?;
    Ok(emptied.rows_affected())
}
