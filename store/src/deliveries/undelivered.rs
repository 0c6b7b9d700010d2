//! Deliveries that are probably in no queue any more: nobody has begun a delivery that the history routed, or a parked
//! or running delivery is long overdue. Also deliveries held by a pause, once the pause has ended.

use std::time::Duration;

use hookline_broker::Resumed;
use hookline_common::event::EventId;
use hookline_common::names::{Destination, HandlerName};
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::DbRow;
use crate::db::error::StoreError;
use crate::db::{dialect, row};
use crate::deliveries::model::{Overdue, Undelivered};

/// `republished_ms` of a delivery that only this version and later ones may republish. For earlier versions, this value
/// is a time in the year 2255.
pub(crate) const OF_THIS_VERSION_MS: i64 = 9_000_000_000_000;
/// How long after its creation a delivery counts as due if an older version parked it without a due time. The older
/// version lets nothing wait longer.
const UNKNOWN_DUE: Duration = Duration::from_hours(24);
/// The columns of an [`Undelivered`]. The delivery continues with the attempt it was parked for or, if an attempt was
/// under way, with that attempt again.
const STANDING: &str = "event_id, handler, COALESCE(due_attempt, attempt) AS next_attempt, first_attempt_ms,
     COALESCE(copy_ms, 0) AS copy_ms";

impl Store {
    /// Takes at most `most` deliveries of a handler that are [`Overdue`] and whose payloads still exist. A taken
    /// delivery is given again after `overdue.again`, to whichever process asks; so is a redriven one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn take_undelivered(
        &self,
        handler: HandlerName,
        overdue: Overdue,
        most: u32,
    ) -> Result<Vec<Undelivered>, StoreError> {
        // Without an order, because sorting would read all waiting deliveries.
        let statement = format!(
            "UPDATE deliveries SET republished_ms = $1 WHERE (event_id, handler) IN
                 (SELECT d.event_id, d.handler FROM deliveries d
                  WHERE d.handler = $2 AND d.state = 'waiting'
                    AND ((d.attempt = 0 AND d.created_ms <= $3)
                      OR (d.attempt > 0 AND COALESCE(d.due_ms, d.created_ms + $4) <= $5))
                    AND (COALESCE(d.republished_ms, 0) <= $6 OR d.republished_ms = $8)
                    AND EXISTS (SELECT 1 FROM events e WHERE e.event_id = d.event_id AND e.body IS NOT NULL)
                  LIMIT $7 {})
             RETURNING {STANDING}",
            dialect::for_removal(self.db.dialect())
        );
        self.db
            .write_long(
                (statement, handler, Timestamp::now(), overdue, most),
                |connection, (statement, handler, now, overdue, most)| {
                    Box::pin(async move {
                        let rows = sqlx::query(AssertSqlSafe(statement.as_str()))
                            .bind(now.as_millis())
                            .bind(handler.as_str())
                            .bind(now.minus(overdue.not_begun).as_millis())
                            .bind(i64::try_from(UNKNOWN_DUE.as_millis()).unwrap_or(i64::MAX))
                            .bind(now.minus(overdue.due).as_millis())
                            .bind(now.minus(overdue.again).as_millis())
                            .bind(i64::from(*most))
                            .bind(OF_THIS_VERSION_MS)
                            .fetch_all(connection)
                            .await?;
                        rows.iter().map(|row| undelivered(row, *now)).collect()
                    })
                },
            )
            .await
    }

    /// Counts the deliveries that are parked for this destination's pause.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn held(&self, destination: Destination) -> Result<u64, StoreError> {
        let asked = sqlx::query("SELECT COUNT(*) AS n FROM deliveries WHERE held_by = $1 AND state = 'waiting'");
        let row = self.db.row(asked.bind(destination.as_str())).await?;
        row.map_or(Ok(0), |row| row::count(&row, "n"))
    }

    /// Takes at most `most` deliveries that were parked for this destination's pause, each once. A delivery that is
    /// published and held again is parked anew.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn take_held(&self, destination: Destination, most: u32) -> Result<Vec<Undelivered>, StoreError> {
        let statement = format!(
            "UPDATE deliveries SET held_by = NULL, due_ms = $1 WHERE (event_id, handler) IN
                 (SELECT d.event_id, d.handler FROM deliveries d
                  WHERE d.held_by = $2 AND d.state = 'waiting'
                    AND EXISTS (SELECT 1 FROM events e WHERE e.event_id = d.event_id AND e.body IS NOT NULL)
                  LIMIT $3 {})
             RETURNING {STANDING}",
            dialect::for_removal(self.db.dialect())
        );
        self.db
            .write_long(
                (statement, destination, Timestamp::now(), most),
                |connection, (statement, destination, now, most)| {
                    Box::pin(async move {
                        let rows = sqlx::query(AssertSqlSafe(statement.as_str()))
                            .bind(now.as_millis())
                            .bind(destination.as_str())
                            .bind(i64::from(*most))
                            .fetch_all(connection)
                            .await?;
                        rows.iter().map(|row| undelivered(row, *now)).collect()
                    })
                },
            )
            .await
    }

    /// Returns taken deliveries that could not be published, so that the next caller gets them again; `held_by` names
    /// the destination for those from [`Store::take_held`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_back(&self, given: &[Undelivered], held_by: Option<Destination>) -> Result<(), StoreError> {
        let mut keys: Vec<(EventId, HandlerName)> =
            given.iter().map(|given| (given.event_id.clone(), given.handler)).collect();
        // This is the order in which all jobs lock deliveries.
        keys.sort_by(|one, other| (one.0.as_str(), one.1.as_str()).cmp(&(other.0.as_str(), other.1.as_str())));
        self.db
            .write((keys, held_by), |connection, (keys, held_by)| {
                Box::pin(async move {
                    for (event_id, handler) in keys {
                        sqlx::query(
                            "UPDATE deliveries SET republished_ms = NULL, held_by = COALESCE($3, held_by)
                             WHERE event_id = $1 AND handler = $2 AND state = 'waiting'",
                        )
                        .bind(event_id.as_str())
                        .bind(handler.as_str())
                        .bind(held_by.map(Destination::as_str))
                        .execute(&mut *connection)
                        .await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

fn undelivered(row: &DbRow, now: Timestamp) -> Result<Undelivered, StoreError> {
    let before = row::number(row, "copy_ms")?;
    let from = Resumed {
        // A delivery that nobody began has attempt 0.
        attempt: row::small::<u32>(row, "next_attempt")?.max(1),
        first_attempt_at: row::maybe_time(row, "first_attempt_ms")?,
        // The copy must be newer than the ones before it, whatever clock dated them.
        copy: Timestamp::from_millis(now.as_millis().max(before + 1)),
    };
    Ok(Undelivered { event_id: row::event_id(row)?, handler: row::name(row, "handler")?, from })
}
