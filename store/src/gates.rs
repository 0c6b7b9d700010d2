//! Whether calls to a destination may be made, shared by all processes.

use hookline_common::names::Destination;
use hookline_common::time::Timestamp;

use crate::db::Turn;
use crate::error::StoreError;
use crate::model::{GateRow, GateStanding};
use crate::{Store, row};

impl Store {
    /// Every destination, open where nothing was said.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn gates(&self) -> Result<Vec<GateRow>, StoreError> {
        let rows = self
            .db
            .rows(sqlx::query("SELECT destination, paused, reason, closed_until, call_limit, remaining, per_minute, failing FROM gates",
            ))
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
                            standing: GateStanding {
                                limit: row::maybe_number(row, "call_limit")?,
                                remaining: row::maybe_number(row, "remaining")?,
                                per_minute: row::maybe_number(row, "per_minute")?,
                                failing: row::flag(row, "failing")?,
                            },
                        });
                    }
                }
                Ok(GateRow {
                    destination,
                    paused: false,
                    reason: None,
                    closed_until: None,
                    standing: GateStanding::default(),
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

    /// What is known of a destination's pace, for `status`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn gate_standing(&self, destination: Destination, standing: GateStanding) -> Result<(), StoreError> {
        self.db
            .write(gate_turn(destination), (destination, standing), |connection, (destination, standing)| {
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO gates (destination, paused, call_limit, remaining, per_minute, failing)
                         VALUES ($1, 0, $2, $3, $4, $5)
                         ON CONFLICT (destination) DO UPDATE SET call_limit = excluded.call_limit,
                             remaining = excluded.remaining, per_minute = excluded.per_minute,
                             failing = excluded.failing",
                    )
                    .bind(destination.as_str())
                    .bind(standing.limit)
                    .bind(standing.remaining)
                    .bind(standing.per_minute)
                    .bind(i64::from(standing.failing))
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Changes what all processes know of a destination's budget, under its row's lock. `change` gets it, `None` where
    /// nothing is known, and the store's time in milliseconds; it may be called again where a transaction is.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn change_ration<T, F>(&self, destination: Destination, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(Option<&str>, i64) -> (String, T) + Send + Sync + 'static,
    {
        let clock = self.db.clock().clone();
        self.db
            .write(Turn::Alone, (destination, change), move |connection, (destination, change)| {
                let clock = clock.clone();
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO gates (destination, paused) VALUES ($1, 0) ON CONFLICT (destination) DO NOTHING",
                    )
                    .bind(destination.as_str())
                    .execute(&mut *connection)
                    .await?;
                    let row = sqlx::query("UPDATE gates SET ration = ration WHERE destination = $1 RETURNING ration")
                        .bind(destination.as_str())
                        .fetch_one(&mut *connection)
                        .await?;
                    let before = row::maybe_text(&row, "ration")?;
                    let (after, result) = change(before.as_deref(), clock.now().as_millis());
                    sqlx::query("UPDATE gates SET ration = $2 WHERE destination = $1")
                        .bind(destination.as_str())
                        .bind(after)
                        .execute(connection)
                        .await?;
                    Ok(result)
                })
            })
            .await
    }
}

fn gate_turn(destination: Destination) -> Turn {
    Turn::row("gates", &[destination.as_str()])
}
