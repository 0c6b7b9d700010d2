//! Lists of threads, for people.

use crate::Store;
use crate::db::error::StoreError;
use crate::db::page::{Page, page, position, rows_to_read};
use crate::db::row;
use crate::threads::model::{Thread, ThreadRow, WrittenPart};
use crate::threads::{parts, whole_thread};

impl Store {
    /// Returns a page of threads as one system of record has them, newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn threads(&self, system: &str, limit: u32, cursor: Option<&str>) -> Result<Page<ThreadRow>, StoreError> {
        let (created_ms, thread_id): (i64, String) = position(cursor, (i64::MAX, String::new()))?;
        let rows = self
            .db
            .rows(
                sqlx::query(
                    "SELECT t.thread_id, t.business_number, t.day, t.created_ms, w.person_id, w.parts, w.text,
                         w.written_ms
                     FROM threads t JOIN thread_writes w ON w.write_id = t.thread_id || ' ' || $1
                     WHERE (t.created_ms, t.thread_id) < ($2, $3)
                     ORDER BY t.created_ms DESC, t.thread_id DESC LIMIT $4",
                )
                .bind(system)
                .bind(created_ms)
                .bind(thread_id)
                .bind(rows_to_read(limit)),
            )
            .await?;
        let mut threads = Vec::with_capacity(rows.len());
        for row in &rows {
            let thread_id = row::text(row, "thread_id")?;
            let messages = self
                .db
                .rows(
                    sqlx::query(
                        "SELECT message_id FROM thread_messages WHERE thread_id = $1 ORDER BY occurred_ms, message_id",
                    )
                    .bind(thread_id.as_str()),
                )
                .await?;
            let thread = ThreadRow {
                thread_id,
                record_id: row::maybe_text(row, "person_id")?,
                business_number: row::maybe_text(row, "business_number")?,
                day: row::text(row, "day")?,
                message_ids: messages.iter().map(|row| row::text(row, "message_id")).collect::<Result<_, _>>()?,
                text: row::maybe_text(row, "text")?,
                remote_id: parts(row)?.into_iter().next().filter(WrittenPart::is_there).map(|part| part.id),
                written_at: row::maybe_time(row, "written_ms")?,
            };
            threads.push((thread, row::number(row, "created_ms")?));
        }
        let Page { rows, next } = page(threads, limit, |(thread, created_ms)| (*created_ms, thread.thread_id.clone()));
        Ok(Page { rows: rows.into_iter().map(|(thread, _)| thread).collect(), next })
    }

    /// Returns the thread of a message as it is now; `None` if no thread has the message.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn thread_of(&self, message_id: &str) -> Result<Option<Thread>, StoreError> {
        let row = self
            .db
            .row(sqlx::query("SELECT thread_id FROM thread_messages WHERE message_id = $1").bind(message_id))
            .await?;
        let Some(row) = row else { return Ok(None) };
        self.thread_if_there(&row::text(&row, "thread_id")?).await
    }

    /// Returns a whole thread; `None` if it was erased a moment ago.
    pub(super) async fn thread_if_there(&self, thread_id: &str) -> Result<Option<Thread>, StoreError> {
        let mut reader = self.db.reader().await?;
        // After a deadline the connection may still have an answer to come, so it is not given back.
        let whole = self.db.within(whole_thread(&mut reader.connection, thread_id)).await?;
        reader.give_back();
        Ok(whole.map(|(thread, _version)| thread))
    }
}
