//! The state of each delivery (one event, one handler).
//!
//! The history or the handler makes the row, whichever sees the event first. `done` is final; every other state may
//! still become `done`. Counts come from counting the rows; no counter is kept.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use hookline_common::event::EventId;
use hookline_common::names::{DeliveryState, HandlerName};
use hookline_common::time::Timestamp;
use sqlx::{AssertSqlSafe, Row};

use crate::Store;
use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::row;
use crate::deliveries::model::{DeliveryRow, HandlerCounts};

/// Rows per statement that inserts waiting deliveries.
const ROWS: usize = 128;

impl Store {
    /// Returns the counts of every handler, including handlers without deliveries.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn counts(&self) -> Result<Vec<HandlerCounts>, StoreError> {
        let rows = self
            .db
            .rows(sqlx::query("SELECT handler, state, COUNT(*) AS n FROM deliveries GROUP BY handler, state"))
            .await?;
        let mut all: Vec<HandlerCounts> = HandlerName::ALL.iter().copied().map(HandlerCounts::none).collect();
        for row in rows {
            let name = row::text(&row, "handler")?;
            // A newer version may know more handlers.
            let Some(counts) = all.iter_mut().find(|counts| counts.handler.as_str() == name) else { continue };
            let n = row::count(&row, "n")?;
            counts.accepted += n;
            match row::name::<DeliveryState>(&row, "state")? {
                DeliveryState::Waiting => counts.waiting += n,
                DeliveryState::Done => counts.done += n,
                DeliveryState::Skipped => counts.skipped += n,
                DeliveryState::DeadLettered => counts.dead_lettered += n,
                DeliveryState::Discarded => counts.discarded += n,
            }
        }
        Ok(all)
    }

    /// Returns the ids of all events routed to a handler, in one state or in any, for accounting by ids.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delivery_ids(
        &self,
        handler: HandlerName,
        state: Option<DeliveryState>,
    ) -> Result<Vec<EventId>, StoreError> {
        let mut reader = self.db.reader().await?;
        let mut rows = sqlx::query(
            "SELECT event_id FROM deliveries WHERE handler = $1 AND ($2 = '' OR state = $2) ORDER BY event_id",
        )
        .bind(handler.as_str())
        .bind(state.map_or("", DeliveryState::as_str))
        .fetch(&mut reader.connection);
        let mut ids = Vec::new();
        while let Some(row) = self.db.within(rows.try_next()).await? {
            ids.push(row::event_id(&row)?);
        }
        drop(rows);
        reader.give_back();
        Ok(ids)
    }
}

/// Inserts the waiting rows of routed events; existing rows keep their state. If the same transaction writes the events
/// themselves (`recorded`), it also completes the history's own deliveries.
pub(crate) async fn expect_deliveries(
    connection: &mut Connection,
    routed: &[(&EventId, HandlerName)],
    recorded: bool,
) -> Result<(), StoreError> {
    // No handler has an empty name.
    let done = if recorded { HandlerName::RecordHistory.as_str() } else { "" };
    let now = Timestamp::now().as_millis();
    // Each row occurs once, in the order in which all jobs lock deliveries.
    let routed: BTreeSet<(&str, &str)> =
        routed.iter().map(|(event_id, handler)| (event_id.as_str(), handler.as_str())).collect();
    let routed: Vec<_> = routed.into_iter().collect();
    for rows in routed.chunks(ROWS) {
        let values: Vec<String> = (0..rows.len()).map(|i| format!("(${}, ${})", 2 * i + 3, 2 * i + 4)).collect();
        let statement = format!(
            "INSERT INTO deliveries (event_id, handler, state, attempt, created_ms)
             SELECT column1, column2, CASE column2 WHEN $2 THEN 'done' ELSE 'waiting' END,
                    CASE column2 WHEN $2 THEN 1 ELSE 0 END, $1
             FROM (VALUES {}) AS routed WHERE TRUE
             ON CONFLICT (event_id, handler) DO UPDATE SET state = 'done', reason = NULL, attempt = 1
             WHERE excluded.state = 'done' AND deliveries.state <> 'done'",
            values.join(", ")
        );
        // The statement's text depends on the number of rows; only the full one is worth keeping prepared.
        let mut insert = sqlx::query(AssertSqlSafe(statement)).persistent(rows.len() == ROWS).bind(now).bind(done);
        for (event_id, handler) in rows {
            insert = insert.bind(*event_id).bind(*handler);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Reads the delivery of a joined row; `None` if there is none, or if its handler belongs to a newer version.
pub(crate) fn delivery(row: &crate::db::dialect::DbRow) -> Result<Option<DeliveryRow>, StoreError> {
    let Some(handler) = row.try_get::<Option<String>, _>("handler")? else { return Ok(None) };
    let Ok(handler) = handler.parse() else { return Ok(None) };
    Ok(Some(DeliveryRow {
        handler,
        state: row::name(row, "state")?,
        reason: row::maybe_text(row, "reason")?,
        attempts: row::small(row, "attempt")?,
    }))
}
