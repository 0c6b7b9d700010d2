//! Opt-outs whose people have to be searched again: the index of a CRM does not have a fresh record yet.

use std::time::Duration;

use hookline_common::event::EventId;
use hookline_common::time::Timestamp;

use crate::Store;
use crate::db::dialect;
use crate::db::error::StoreError;
use crate::db::row;

impl Store {
    /// Plans the first search after the one that was just made, unless one is planned.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn plan_flag_check(&self, event_id: &EventId, after: Duration) -> Result<(), StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write(event_id.clone(), move |connection, event_id| {
                let due = clock.now().plus(after);
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO flag_checks (event_id, step, due_ms) VALUES ($1, 0, $2)
                         ON CONFLICT (event_id) DO NOTHING",
                    )
                    .bind(event_id.as_str())
                    .bind(due.as_millis())
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Takes up to `limit` searches that are due, with the number of those made before. Nobody else gets them for
    /// `lease`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn take_flag_checks(&self, lease: Duration, limit: u32) -> Result<Vec<(EventId, usize)>, StoreError> {
        let (clock, lock) = (self.db.clock().clone(), dialect::for_removal(self.db.dialect()));
        let statement = format!(
            "UPDATE flag_checks SET due_ms = $2 WHERE event_id IN
                 (SELECT event_id FROM flag_checks WHERE due_ms <= $1 ORDER BY due_ms LIMIT $3 {lock})
             RETURNING event_id, step"
        );
        self.db
            .write((statement, limit), move |connection, (statement, limit)| {
                let now: Timestamp = clock.now();
                Box::pin(async move {
                    let rows = sqlx::query(sqlx::AssertSqlSafe(statement.as_str()))
                        .bind(now.as_millis())
                        .bind(now.plus(lease).as_millis())
                        .bind(i64::from(*limit))
                        .fetch_all(connection)
                        .await?;
                    rows.iter().map(|row| Ok((row::event_id(row)?, row::small::<usize>(row, "step")?))).collect()
                })
            })
            .await
    }

    /// Records that a search was made, and when the next one is due; `None` if that was the last.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn flag_checked(&self, event_id: &EventId, next: Option<Duration>) -> Result<(), StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write((event_id.clone(), next), move |connection, (event_id, next)| {
                let due = next.map(|after| clock.now().plus(after).as_millis());
                Box::pin(async move {
                    let query = match due {
                        Some(due) => {
                            sqlx::query("UPDATE flag_checks SET step = step + 1, due_ms = $1 WHERE event_id = $2")
                                .bind(due)
                        }
                        None => sqlx::query("DELETE FROM flag_checks WHERE event_id = $1"),
                    };
                    query.bind(event_id.as_str()).execute(connection).await?;
                    Ok(())
                })
            })
            .await
    }
}
