//! The running workers and what they have seen. A command asks a question, which is only a growing number. Each worker
//! answers once it has read the store again, and adds what only the worker knows.

use std::time::Duration;

use crate::Store;
use crate::db::error::StoreError;
use crate::db::row;
use crate::operations::model::{Question, WorkerAnswer};

/// How long a worker must be silent to be forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

impl Store {
    /// Records that a worker process is alive, and forgets workers that have been silent for over a minute.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn heartbeat(&self, worker_id: &str) -> Result<(), StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write(worker_id.to_owned(), move |connection, worker_id| {
                let now = clock.now();
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO workers (worker_id, heartbeat_ms) VALUES ($1, $2)
                         ON CONFLICT (worker_id) DO UPDATE SET heartbeat_ms = excluded.heartbeat_ms",
                    )
                    .bind(worker_id.as_str())
                    .bind(now.as_millis())
                    .execute(&mut *connection)
                    .await?;
                    sqlx::query("DELETE FROM workers WHERE heartbeat_ms < $1")
                        .bind(now.minus(FORGOTTEN_AFTER).as_millis())
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Records that the worker ended, so that nobody waits for its answers.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn worker_left(&self, worker_id: &str) -> Result<(), StoreError> {
        self.db
            .write(worker_id.to_owned(), |connection, worker_id| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM workers WHERE worker_id = $1")
                        .bind(worker_id.as_str())
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Asks every worker to read the store again. A worker that answers has seen everything written before.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ask_workers(&self) -> Result<Question, StoreError> {
        self.db
            .write((), |connection, ()| {
                Box::pin(async move {
                    let row =
                        sqlx::query("UPDATE worker_question SET number = number + 1 WHERE id = 1 RETURNING number")
                            .fetch_one(connection)
                            .await?;
                    Ok(Question(row::number(&row, "number")?))
                })
            })
            .await
    }

    /// Returns the last question.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn latest_question(&self) -> Result<Question, StoreError> {
        let row = self.db.row(sqlx::query("SELECT number FROM worker_question WHERE id = 1")).await?;
        Ok(Question(row.map(|row| row::number(&row, "number")).transpose()?.unwrap_or(0)))
    }

    /// Records that a worker has read the store since `question` was asked. `held_history` is how many deliveries of
    /// `record_history` the worker holds; the broker does not count them as waiting.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn answer(&self, worker_id: &str, question: Question, held_history: i64) -> Result<(), StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write(
                (worker_id.to_owned(), question, held_history),
                move |connection, (worker_id, question, held_history)| {
                    let now = clock.now();
                    Box::pin(async move {
                        sqlx::query(
                            "INSERT INTO workers (worker_id, heartbeat_ms, answered, held_history)
                             VALUES ($1, $2, $3, $4)
                             ON CONFLICT (worker_id) DO UPDATE SET heartbeat_ms = excluded.heartbeat_ms,
                                 answered = excluded.answered, held_history = excluded.held_history
                             WHERE workers.answered <= excluded.answered",
                        )
                        .bind(worker_id.as_str())
                        .bind(now.as_millis())
                        .bind(question.0)
                        .bind(*held_history)
                        .execute(connection)
                        .await?;
                        Ok(())
                    })
                },
            )
            .await
    }

    /// Returns every known worker, and whether it has answered this question or a newer one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn answers(&self, question: Question) -> Result<Vec<WorkerAnswer>, StoreError> {
        let rows = self
            .db
            .rows(sqlx::query("SELECT worker_id, heartbeat_ms, answered, held_history FROM workers ORDER BY worker_id"))
            .await?;
        rows.iter()
            .map(|row| {
                Ok(WorkerAnswer {
                    worker_id: row::text(row, "worker_id")?,
                    heartbeat_at: self.db.clock().here(row::time(row, "heartbeat_ms")?),
                    answered: row::number(row, "answered")? >= question.0,
                    held_history: row::number(row, "held_history")?,
                })
            })
            .collect()
    }
}
