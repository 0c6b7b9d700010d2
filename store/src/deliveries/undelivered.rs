//! Deliveries that are in no queue any more, as far as the store can tell: nobody has begun what the history knows to be
//! routed, or what is parked or in hand is long due. And those that a pause holds, once it has ended.

use std::time::Duration;

use hookline_broker::Resumed;
use hookline_common::event::EventId;
use hookline_common::names::{Destination, HandlerName};
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::DbRow;
use crate::db::error::StoreError;
use crate::db::{Turn, dialect, row};
use crate::deliveries::model::{Overdue, Undelivered};

/// `republished_ms` of a delivery that only this version and later ones may publish anew: for those before, it is in the
/// year 2255.
pub(crate) const OF_THIS_VERSION_MS: i64 = 9_000_000_000_000;
/// An older version parked it and did not say until when: longer than it lets anything wait.
const UNKNOWN_DUE: Duration = Duration::from_hours(24);
/// Where it goes on: the attempt that it comes back with or, where one was under way, that one again.
const STANDING: &str = "event_id, handler, COALESCE(due_attempt, attempt) AS next_attempt, first_attempt_ms,
     COALESCE(copy_ms, 0) AS copy_ms";

impl Store {
    /// Deliveries of a handler that are [`Overdue`], with their payloads still here. Those that are given are given again
    /// after `overdue.again`, to whichever process asks; so are those of a redrive.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn take_undelivered(
        &self,
        handler: HandlerName,
        overdue: Overdue,
        most: u32,
    ) -> Result<Vec<Undelivered>, StoreError> {
        // In no order: sorting would read all that waits.
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
            .write(
                Turn::Long,
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

    /// How many deliveries are parked for this destination's pause.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn held(&self, destination: Destination) -> Result<u64, StoreError> {
        let asked = sqlx::query("SELECT COUNT(*) AS n FROM deliveries WHERE held_by = $1 AND state = 'waiting'");
        let row = self.db.row(asked.bind(destination.as_str())).await?;
        row.map_or(Ok(0), |row| row::count(&row, "n"))
    }

    /// Deliveries that were parked for this destination's pause, each given once: what is published and held again is
    /// parked anew.
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
            .write(
                Turn::Long,
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

    /// Deliveries that were given and could not be published: they are given again to who asks next; `held_by`: by
    /// [`Store::take_held`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_back(&self, given: &[Undelivered], held_by: Option<Destination>) -> Result<(), StoreError> {
        let mut keys: Vec<(EventId, HandlerName)> =
            given.iter().map(|given| (given.event_id.clone(), given.handler)).collect();
        // In the order in which everybody locks deliveries.
        keys.sort_by(|one, other| (one.0.as_str(), one.1.as_str()).cmp(&(other.0.as_str(), other.1.as_str())));
        self.db
            .write(Turn::Alone, (keys, held_by), |connection, (keys, held_by)| {
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
        // One that nobody began.
        attempt: row::small::<u32>(row, "next_attempt")?.max(1),
        first_attempt_at: row::maybe_time(row, "first_attempt_ms")?,
        // Newer than those before it, by whosever clock.
        copy: Timestamp::from_millis(now.as_millis().max(before + 1)),
    };
    Ok(Undelivered { event_id: row::event_id(row)?, handler: row::name(row, "handler")?, from })
}
