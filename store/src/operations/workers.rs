//! The running workers and what they have seen. A command asks a question, which is only a growing number. Each worker
//! answers once it has read the store again, and adds what only the worker knows.

use std::time::Duration;

use hookline_common::time::Timestamp;

use crate::Store;
use crate::db::error::StoreError;
use crate::db::row;
use crate::operations::model::{Question, WorkerAnswer, WorkerProcess};

/// How long a worker must be silent to be forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

impl Store {
    /// Records that a worker process is alive now, whatever `heartbeat_at` holds, and forgets workers that have been
    /// silent for over a minute.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn heartbeat(&self, worker: &WorkerProcess) -> Result<(), StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write(worker.clone(), move |connection, worker| {
                let now = clock.now();
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO workers (worker_id, heartbeat_ms, kind, version, since_ms)
                         VALUES ($1, $2, $3, $4, $5)
                         ON CONFLICT (worker_id) DO UPDATE SET heartbeat_ms = excluded.heartbeat_ms,
                             kind = excluded.kind, version = excluded.version, since_ms = excluded.since_ms",
                    )
                    .bind(worker.id.as_str())
                    .bind(now.as_millis())
                    .bind(worker.kind.as_deref())
                    .bind(worker.version.as_deref())
                    .bind(worker.since.map(Timestamp::as_millis))
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

    /// Returns the running worker processes.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn worker_processes(&self) -> Result<Vec<WorkerProcess>, StoreError> {
        let select = "SELECT worker_id, kind, version, since_ms, heartbeat_ms FROM workers ORDER BY worker_id";
        let rows = self.db.rows(sqlx::query(select)).await?;
        rows.iter()
            .map(|row| {
                Ok(WorkerProcess {
                    id: row::text(row, "worker_id")?,
                    kind: row::maybe_text(row, "kind")?,
                    version: row::maybe_text(row, "version")?,
                    since: row::maybe_time(row, "since_ms")?,
                    heartbeat_at: self.db.clock().here(row::time(row, "heartbeat_ms")?),
                })
            })
            .collect()
    }

    /// Returns the version of the database: PostgreSQL's or SQLite's.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn database_version(&self) -> Result<String, StoreError> {
        let select = if self.db.dialect().is_shared() {
            "SELECT current_setting('server_version') AS version"
        } else {
            "SELECT sqlite_version() AS version"
        };
        let row = self.db.row(sqlx::query(select)).await?;
        row.map_or_else(|| Err(StoreError::unreadable("version")), |row| row::text(&row, "version"))
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
