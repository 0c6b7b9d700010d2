//! Where each delivery (one event, one handler) stands, and the log of its attempts.
//!
//! A row is made by whichever of history and handler sees the event first. `done` is for good; everything else may
//! still become `done`. Counts are counted from the rows, never added or subtracted.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use hookline_common::broker::Again;
use hookline_common::event::{Event, EventId};
use hookline_common::names::{DeliveryState, HandlerName};
use hookline_common::time::Timestamp;
use sqlx::{AssertSqlSafe, Row};

use crate::db::Turn;
use crate::dialect::Connection;
use crate::erasure::ERASED;
use crate::error::StoreError;
use crate::model::{AttemptRecord, Begin, DeliveryRow, Ending, HandlerCounts};
use crate::{Store, row};

/// Rows per statement when waiting deliveries are made.
const ROWS: usize = 128;

impl Store {
    /// Counts the attempt, unless the delivery is settled or a later attempt has begun.
    ///
    /// `again` lets a redrive or replay begin anew where the delivery was skipped or discarded; a dead-lettered one
    /// begins only after [`Store::mark_redriving`], a done or erased one never.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn begin(
        &self,
        event: &Event,
        handler: HandlerName,
        attempt: u32,
        again: Option<Again>,
    ) -> Result<Begin, StoreError> {
        let turn = Turn::delivery(event.id.as_str(), handler.as_str());
        self.db
            .write(turn, (event.id.clone(), handler, i64::from(attempt), again.is_some()), |connection, arguments| {
                let (event_id, handler, attempt, again) = arguments;
                Box::pin(begin(connection, event_id, *handler, *attempt, *again))
            })
            .await
    }

    /// Settles the delivery and logs its last attempt. What is done stays done, and `Done` replaces anything;
    /// `Skipped` leaves a dead letter or a discarded delivery as it is.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn finish(&self, record: &AttemptRecord, ending: Ending) -> Result<(), StoreError> {
        let turn = Turn::delivery(record.event_id.as_str(), record.handler.as_str());
        self.db
            .write(turn, (record.clone(), ending), |connection, (record, ending)| {
                Box::pin(async move {
                    settle(connection, record, *ending).await?;
                    log(connection, record).await
                })
            })
            .await
    }

    /// Logs an attempt that did not settle the delivery: parked, released, dead-lettered.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn log_attempt(&self, record: &AttemptRecord) -> Result<(), StoreError> {
        let turn = Turn::row("attempts", &[record.event_id.as_str()]);
        self.db.write(turn, record.clone(), |connection, record| Box::pin(log(connection, record))).await
    }

    /// Every handler, from zero.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn counts(&self) -> Result<Vec<HandlerCounts>, StoreError> {
        let rows = self
            .db
            .rows(sqlx::query("SELECT handler, state, COUNT(*) AS n FROM deliveries GROUP BY handler, state"))
            .await?;
        let mut all: Vec<HandlerCounts> = HandlerName::ALL
            .iter()
            .map(|&handler| HandlerCounts {
                handler,
                accepted: 0,
                done: 0,
                skipped: 0,
                dead_lettered: 0,
                discarded: 0,
                waiting: 0,
            })
            .collect();
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

    /// The events routed to a handler, in one state or in any: accounting by ids.
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

async fn begin(
    connection: &mut Connection,
    event_id: &EventId,
    handler: HandlerName,
    attempt: i64,
    again: bool,
) -> Result<Begin, StoreError> {
    // A redrive or replay of something settled starts counting at its own attempt: kept at the old run's, its
    // retries would look like stale copies.
    let counted = sqlx::query(
        "INSERT INTO deliveries (event_id, handler, state, attempt, created_ms) VALUES ($1, $2, 'waiting', $3, $4)
         ON CONFLICT (event_id, handler) DO UPDATE SET
             attempt = CASE WHEN deliveries.state = 'waiting' AND deliveries.attempt > excluded.attempt
                            THEN deliveries.attempt ELSE excluded.attempt END,
             state = 'waiting', reason = NULL
         WHERE (deliveries.state = 'waiting' AND (deliveries.attempt <= excluded.attempt OR $5 = 1))
            OR (deliveries.state IN ('skipped', 'discarded') AND $5 = 1 AND COALESCE(deliveries.reason, '') <> $6)
         RETURNING attempt",
    )
    .bind(event_id.as_str())
    .bind(handler.as_str())
    .bind(attempt)
    .bind(Timestamp::now().as_millis())
    .bind(i64::from(again))
    .bind(ERASED)
    .fetch_optional(&mut *connection)
    .await?;
    if counted.is_some() {
        return Ok(Begin::Go);
    }
    let row = sqlx::query("SELECT state FROM deliveries WHERE event_id = $1 AND handler = $2")
        .bind(event_id.as_str())
        .bind(handler.as_str())
        .fetch_one(connection)
        .await?;
    Ok(match row::name::<DeliveryState>(&row, "state")? {
        DeliveryState::Waiting => Begin::StaleCopy,
        settled @ (DeliveryState::Done
        | DeliveryState::Skipped
        | DeliveryState::DeadLettered
        | DeliveryState::Discarded) => Begin::AlreadySettled(settled),
    })
}

async fn settle(connection: &mut Connection, record: &AttemptRecord, ending: Ending) -> Result<(), StoreError> {
    let (state, reason) = match ending {
        Ending::Done => (DeliveryState::Done, None),
        Ending::Skipped(reason) => (DeliveryState::Skipped, Some(reason.as_str())),
    };
    sqlx::query(
        "INSERT INTO deliveries (event_id, handler, state, reason, attempt, created_ms) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (event_id, handler) DO UPDATE SET state = excluded.state, reason = excluded.reason,
             attempt = CASE WHEN deliveries.attempt > excluded.attempt
                            THEN deliveries.attempt ELSE excluded.attempt END
         WHERE deliveries.state IN ('waiting', 'skipped') OR (excluded.state = 'done' AND deliveries.state <> 'done')",
    )
    .bind(record.event_id.as_str())
    .bind(record.handler.as_str())
    .bind(state.as_str())
    .bind(reason)
    .bind(i64::from(record.attempt))
    .bind(Timestamp::now().as_millis())
    .execute(connection)
    .await?;
    Ok(())
}

async fn log(connection: &mut Connection, record: &AttemptRecord) -> Result<(), StoreError> {
    let requests = serde_json::to_string(&record.requests).map_err(|_| StoreError::unreadable("request list"))?;
    sqlx::query(
        "INSERT INTO attempts (event_id, handler, attempt, started_ms, duration_ms, verdict, detail, requests)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(record.event_id.as_str())
    .bind(record.handler.as_str())
    .bind(i64::from(record.attempt))
    .bind(record.started_at.as_millis())
    .bind(i64::try_from(record.duration.as_millis()).unwrap_or(i64::MAX))
    .bind(record.verdict.as_str())
    .bind(row::maybe_clean(record.detail.as_deref()))
    .bind(requests)
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes the waiting rows of routed events; rows that are there keep their state. Where the events themselves are
/// written in the same transaction (`recorded`), the history's own deliveries are done by that.
pub(crate) async fn expect_deliveries(
    connection: &mut Connection,
    routed: &[(&EventId, HandlerName)],
    recorded: bool,
) -> Result<(), StoreError> {
    // No handler has an empty name.
    let done = if recorded { HandlerName::RecordHistory.as_str() } else { "" };
    let now = Timestamp::now().as_millis();
    // Each once, and in the order in which everybody locks them.
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
        // Its text is another for each number of rows: only the full one is worth keeping prepared.
        let mut insert = sqlx::query(AssertSqlSafe(statement)).persistent(rows.len() == ROWS).bind(now).bind(done);
        for (event_id, handler) in rows {
            insert = insert.bind(*event_id).bind(*handler);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// A delivery of a joined row; `None` where there is none, or a newer version's handler.
pub(crate) fn delivery(row: &crate::dialect::DbRow) -> Result<Option<DeliveryRow>, StoreError> {
    let Some(handler) = row.try_get::<Option<String>, _>("handler")? else { return Ok(None) };
    let Ok(handler) = handler.parse() else { return Ok(None) };
    Ok(Some(DeliveryRow {
        handler,
        state: row::name(row, "state")?,
        reason: row::maybe_text(row, "reason")?,
        attempts: row::small(row, "attempt")?,
    }))
}
