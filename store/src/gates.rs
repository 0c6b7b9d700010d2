//! Whether calls to a destination may be made, shared by all processes.

use hookline_common::names::Destination;
use hookline_common::time::Timestamp;

use crate::db::Turn;
use crate::error::StoreError;
use crate::model::GateRow;
use crate::{Store, row};

impl Store {
    /// Every destination, open where nothing was said.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn gates(&self) -> Result<Vec<GateRow>, StoreError> {
        let rows = self
            .db
            .rows(sqlx::query("SELECT destination, paused, reason, closed_until, call_limit, remaining FROM gates"))
            .await?;
        Destination::ALL
            .iter()
            .map(|&destination| {
                for row in &rows {
                    if row::text(row, "destination")? == destination.as_str() {
                        return Ok(GateRow {
                            destination,
                            paused: row::flag(row, "paused")?,
                            reason: row::maybe_text(row, "reason")?,
                            closed_until: row::maybe_time(row, "closed_until")?,
                            limit: row::maybe_number(row, "call_limit")?,
                            remaining: row::maybe_number(row, "remaining")?,
                        });
                    }
                }
                Ok(GateRow {
                    destination,
                    paused: false,
                    reason: None,
                    closed_until: None,
                    limit: None,
                    remaining: None,
                })
            })
            .collect()
    }

    /// Closes the gate until then; an earlier time than it is closed until already changes nothing. The reason of a
    /// pause stays.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn close_gate(&self, destination: Destination, until: Timestamp, reason: &str) -> Result<(), StoreError> {
        self.db
            .write(
                gate_turn(destination),
                (destination, until, reason.to_owned()),
                |connection, (destination, until, reason)| {
                    Box::pin(async move {
                        sqlx::query(
                            "INSERT INTO gates (destination, paused, reason, closed_until) VALUES ($1, 0, $2, $3)
                         ON CONFLICT (destination) DO UPDATE SET closed_until = excluded.closed_until,
                             reason = CASE WHEN gates.paused = 1 THEN gates.reason ELSE excluded.reason END
                         WHERE gates.closed_until IS NULL OR gates.closed_until < excluded.closed_until",
                        )
                        .bind(destination.as_str())
                        .bind(reason.as_str())
                        .bind(until.as_millis())
                        .execute(connection)
                        .await?;
                        Ok(())
                    })
                },
            )
            .await
    }

    /// Stops calls until [`Store::resume_gate`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn pause_gate(&self, destination: Destination, reason: &str) -> Result<(), StoreError> {
        self.db
            .write(gate_turn(destination), (destination, reason.to_owned()), |connection, (destination, reason)| {
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO gates (destination, paused, reason) VALUES ($1, 1, $2)
                         ON CONFLICT (destination) DO UPDATE SET paused = 1, reason = excluded.reason",
                    )
                    .bind(destination.as_str())
                    .bind(reason.as_str())
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Ends a pause. A Retry-After that has not passed still holds.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn resume_gate(&self, destination: Destination) -> Result<(), StoreError> {
        self.db
            .write(gate_turn(destination), destination, |connection, destination| {
                Box::pin(async move {
                    sqlx::query("UPDATE gates SET paused = 0, reason = NULL WHERE destination = $1")
                        .bind(destination.as_str())
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// What the destination said last about its rate limit, for `status`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn budget(&self, destination: Destination, limit: i64, remaining: i64) -> Result<(), StoreError> {
        self.db
            .write(
                gate_turn(destination),
                (destination, limit, remaining),
                |connection, (destination, limit, remaining)| {
                    Box::pin(async move {
                        sqlx::query(
                            "INSERT INTO gates (destination, paused, call_limit, remaining) VALUES ($1, 0, $2, $3)
                         ON CONFLICT (destination) DO UPDATE SET
                             call_limit = excluded.call_limit, remaining = excluded.remaining",
                        )
                        .bind(destination.as_str())
                        .bind(*limit)
                        .bind(*remaining)
                        .execute(connection)
                        .await?;
                        Ok(())
                    })
                },
            )
            .await
    }
}

fn gate_turn(destination: Destination) -> Turn {
    Turn::row("gates", &[destination.as_str()])
}
