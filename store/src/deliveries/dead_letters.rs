//! Deliveries that we stopped trying, each with its event, until a person decides: redrive, discard or resolve.
//!
//! A redrive takes three steps, because the queue is another system: mark (`redriving`), publish with confirmation,
//! remove. A crash in between leaves a row in [`Store::redriving`], and publishing again is harmless.

use hookline_broker::DeadLetterInfo;
use hookline_common::event::{Event, EventId, Keyword};
use hookline_common::names::{DeadReason, Destination, HandlerName};
use hookline_common::time::Timestamp;
use sha2::{Digest, Sha256};

use crate::Store;
use crate::db::dialect::{self, Connection, DbRow};
use crate::db::error::StoreError;
use crate::db::page::{Page, page, position, rows_to_read};
use crate::db::row;
use crate::deliveries::delivery::expect_deliveries;
use crate::deliveries::model::{DeadLetterFilter, DeadLetterRow};
use crate::operations::audit;
use crate::operations::erasure::{self, ERASED};

/// The columns of a [`DeadLetterRow`]. Lists do not read the payloads.
const SHOWN: &str = "l.id, l.event_id, l.handler, l.reason, l.destination, l.status, l.detail, l.attempts, l.dead_ms";

impl Store {
    /// Stores a dead letter with its event and marks the delivery, unless the delivery is done or erased. There is one
    /// dead letter per event and handler: a new one replaces one that is being redriven, and a repeat of the same one
    /// (by its time) changes nothing. The deliveries of the event in `routed_to` get their waiting rows, as in the
    /// history.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn insert_dead_letter(
        &self,
        event: &Event,
        handler: HandlerName,
        info: &DeadLetterInfo,
        routed_to: &[HandlerName],
    ) -> Result<(), StoreError> {
        let arguments = (event.clone(), handler, info.clone(), routed_to.to_vec());
        self.db
            .write(arguments, |connection, (event, handler, info, routed_to)| {
                Box::pin(async move {
                    let routed: Vec<_> = routed_to.iter().map(|&handler| (&event.id, handler)).collect();
                    expect_deliveries(connection, &routed, false).await?;
                    if mark_dead_lettered(connection, &event.id, *handler, info).await? {
                        keep(connection, event, *handler, info).await?;
                    } else {
                        // If the delivery was erased, this copy of its event is dropped.
                        erasure::copy_gone(connection, &event.id, *handler).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Returns a page of dead letters, newest first, without those that are being redriven.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<DeadLetterRow>, StoreError> {
        let (dead_ms, id): (i64, String) = position(cursor, (i64::MAX, String::new()))?;
        let statement = format!(
            "SELECT {SHOWN} FROM dead_letters l
             JOIN deliveries d ON d.event_id = l.event_id AND d.handler = l.handler AND d.state = 'dead_lettered'
             WHERE l.state = 'dead' AND l.dead_ms >= $1 AND (l.dead_ms, l.id) < ($2, $3)
               AND ($4 = '' OR l.handler = $4) AND ($5 = '' OR l.reason = $5) AND ($6 = '' OR l.destination = $6)
             ORDER BY l.dead_ms DESC, l.id DESC LIMIT $7"
        );
        let rows = self
            .db
            .rows(
                sqlx::query(sqlx::AssertSqlSafe(statement))
                    .bind(filter.since.map_or(i64::MIN, Timestamp::as_millis))
                    .bind(dead_ms)
                    .bind(id)
                    .bind(filter.handler.map_or("", HandlerName::as_str))
                    .bind(filter.reason.map_or("", DeadReason::as_str))
                    .bind(filter.destination.map_or("", Destination::as_str))
                    .bind(rows_to_read(limit)),
            )
            .await?;
        let rows = rows.iter().map(dead_letter_row).collect::<Result<Vec<_>, _>>()?;
        Ok(page(rows, limit, |row| (row.info.dead_lettered_at.as_millis(), row.id.clone())))
    }

    /// Finds dead letters by their own id (one) or by event id (one per handler), including those being redriven.
    /// Returns an empty list if there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn dead_letter(&self, id_or_event_id: &str) -> Result<Vec<DeadLetterRow>, StoreError> {
        let statement =
            format!("SELECT {SHOWN} FROM dead_letters l WHERE l.id = $1 OR l.event_id = $1 ORDER BY l.handler");
        let rows = self.db.rows(sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id_or_event_id)).await?;
        rows.iter().map(dead_letter_row).collect()
    }

    /// Returns the event of a dead letter; `None` if there is no such dead letter or its payload is gone.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn dead_letter_event(&self, id: &str) -> Result<Option<Event>, StoreError> {
        let select = sqlx::query(
            "SELECT event_id, source, source_event_id, event_type, keyword, received_ms, content_type, request_id,
                 traceparent, body FROM dead_letters WHERE id = $1",
        );
        let row = self.db.row(select.bind(id)).await?;
        row.map_or(Ok(None), |row| row::event(&row))
    }

    /// First step of a redrive: the delivery waits again, at attempt 0. Returns the event and handler to publish, or
    /// `None` if there is no such dead letter or its payload was erased. A repeated call returns the same.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn mark_redriving(&self, id: &str) -> Result<Option<(Event, HandlerName)>, StoreError> {
        self.db
            .write(id.to_owned(), |connection, id| {
                Box::pin(async move {
                    lock_delivery(connection, id).await?;
                    let row = sqlx::query(
                        "UPDATE dead_letters SET state = 'redriving' WHERE id = $1 AND body IS NOT NULL
                         RETURNING event_id, handler, source, source_event_id, event_type, keyword, received_ms,
                             content_type, request_id, traceparent, body",
                    )
                    .bind(id.as_str())
                    .fetch_optional(&mut *connection)
                    .await?;
                    let Some(row) = row else { return Ok(None) };
                    let Some(event) = row::event(&row)? else { return Ok(None) };
                    let handler = row::name(&row, "handler")?;
                    // Only from `dead_lettered`: a resumed redrive must not undo progress of its first copy.
                    sqlx::query(
                        "UPDATE deliveries SET state = 'waiting', reason = NULL, attempt = 0, republished_ms = $3,
                             due_ms = NULL, due_attempt = NULL, first_attempt_ms = NULL, held_by = NULL
                         WHERE event_id = $1 AND handler = $2 AND state = 'dead_lettered'",
                    )
                    .bind(event.id.as_str())
                    .bind(HandlerName::as_str(handler))
                    .bind(Timestamp::now().as_millis())
                    .execute(&mut *connection)
                    .await?;
                    audit::note(connection, "redrive", id, None).await?;
                    Ok(Some((event, handler)))
                })
            })
            .await
    }

    /// Last step of a redrive, after the queue confirmed the event. Keeps a dead letter that came back meanwhile.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn redriven(&self, id: &str) -> Result<(), StoreError> {
        self.db
            .write(id.to_owned(), |connection, id| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM dead_letters WHERE id = $1 AND state = 'redriving'")
                        .bind(id.as_str())
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Returns the ids of redrives that began and did not end. Their process may be at work or dead.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn redriving(&self) -> Result<Vec<String>, StoreError> {
        let rows = self
            .db
            .rows(sqlx::query("SELECT id FROM dead_letters WHERE state = 'redriving' ORDER BY dead_ms, id"))
            .await?;
        rows.iter().map(|row| row::text(row, "id")).collect()
    }

    /// Gives the delivery up for good, for a reason in a person's words. Returns `false` if there is no such dead
    /// letter.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn discard(&self, id: &str, reason: &str) -> Result<bool, StoreError> {
        self.db
            .write((id.to_owned(), reason.to_owned()), |connection, (id, reason)| {
                Box::pin(async move {
                    lock_delivery(connection, id).await?;
                    let row = sqlx::query(
                        "DELETE FROM dead_letters WHERE id = $1 AND state = 'dead' RETURNING event_id, handler",
                    )
                    .bind(id.as_str())
                    .fetch_optional(&mut *connection)
                    .await?;
                    let Some(row) = row else { return Ok(false) };
                    sqlx::query(
                        "UPDATE deliveries SET state = 'discarded', reason = $3
                         WHERE event_id = $1 AND handler = $2 AND state = 'dead_lettered'",
                    )
                    .bind(row::text(&row, "event_id")?)
                    .bind(row::text(&row, "handler")?)
                    .bind(reason.as_str())
                    .execute(&mut *connection)
                    .await?;
                    audit::note(connection, "discard", id, Some(reason)).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Records a person's finding that the effect exists: marks effect and delivery done, and removes the dead letter.
    /// Returns `false` if there is no such dead letter, or its outcome was never in doubt.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn resolve_done(&self, id: &str) -> Result<bool, StoreError> {
        self.db
            .write(id.to_owned(), |connection, id| {
                Box::pin(async move {
                    lock_delivery(connection, id).await?;
                    let row = sqlx::query(
                        "DELETE FROM dead_letters WHERE id = $1 AND state = 'dead' AND reason = 'outcome_unknown'
                         RETURNING event_id, handler",
                    )
                    .bind(id.as_str())
                    .fetch_optional(&mut *connection)
                    .await?;
                    let Some(row) = row else { return Ok(false) };
                    for statement in [
                        "UPDATE effects SET state = 'done', unknown_ms = NULL, write_again = 0
                         WHERE event_id = $1 AND handler = $2 AND state <> 'done'",
                        "UPDATE deliveries SET state = 'done', reason = NULL WHERE event_id = $1 AND handler = $2",
                    ] {
                        sqlx::query(statement)
                            .bind(row::text(&row, "event_id")?)
                            .bind(row::text(&row, "handler")?)
                            .execute(&mut *connection)
                            .await?;
                    }
                    audit::note(connection, "resolve_done", id, None).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Records a person's finding that the effect does not exist: the next claim may write, and the caller redrives.
    /// Returns `false` if there is no such dead letter, or its outcome was never in doubt.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn resolve_write_again(&self, id: &str) -> Result<bool, StoreError> {
        self.db
            .write(id.to_owned(), |connection, id| {
                Box::pin(async move {
                    lock_delivery(connection, id).await?;
                    let row = sqlx::query(
                        "SELECT event_id, handler FROM dead_letters
                         WHERE id = $1 AND state = 'dead' AND reason = 'outcome_unknown'",
                    )
                    .bind(id.as_str())
                    .fetch_optional(&mut *connection)
                    .await?;
                    let Some(row) = row else { return Ok(false) };
                    sqlx::query(
                        "UPDATE effects SET state = 'unknown', unknown_ms = COALESCE(unknown_ms, lease_until),
                             write_again = 1
                         WHERE event_id = $1 AND handler = $2 AND state <> 'done'",
                    )
                    .bind(row::text(&row, "event_id")?)
                    .bind(row::text(&row, "handler")?)
                    .execute(&mut *connection)
                    .await?;
                    audit::note(connection, "resolve_write_again", id, None).await?;
                    Ok(true)
                })
            })
            .await
    }
}

/// Locks a dead letter's delivery. Every job that makes or changes a dead letter locks its delivery first.
async fn lock_delivery(connection: &mut Connection, id: &str) -> Result<(), StoreError> {
    let statement = format!(
        "SELECT 1 FROM deliveries WHERE (event_id, handler) IN (SELECT event_id, handler FROM dead_letters WHERE id = $1)
         {}",
        dialect::for_update(connection)
    );
    sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id).fetch_optional(connection).await?;
    Ok(())
}

/// Derives the id from event and handler, so that a repeat finds its row.
fn dead_letter_id(event_id: &EventId, handler: HandlerName) -> String {
    let digest = Sha256::digest(format!("{event_id} {handler}").as_bytes());
    format!("dl_{}", hex::encode(&digest[..8]))
}

/// Returns `false` if the delivery is done or erased, or if this repeats its last dead letter.
async fn mark_dead_lettered(
    connection: &mut Connection,
    event_id: &EventId,
    handler: HandlerName,
    info: &DeadLetterInfo,
) -> Result<bool, StoreError> {
    let marked = sqlx::query(
        "INSERT INTO deliveries (event_id, handler, state, reason, attempt, dead_ms, created_ms)
         VALUES ($1, $2, 'dead_lettered', $3, $4, $5, $6)
         ON CONFLICT (event_id, handler) DO UPDATE SET
             state = excluded.state, reason = excluded.reason, dead_ms = excluded.dead_ms,
             attempt = CASE WHEN deliveries.attempt > excluded.attempt
                            THEN deliveries.attempt ELSE excluded.attempt END
         WHERE deliveries.state <> 'done' AND (deliveries.dead_ms IS NULL OR deliveries.dead_ms <> excluded.dead_ms)
           AND NOT (deliveries.state = 'discarded' AND COALESCE(deliveries.reason, '') = $7)",
    )
    .bind(event_id.as_str())
    .bind(handler.as_str())
    .bind(info.reason.as_str())
    .bind(i64::from(info.attempts))
    .bind(info.dead_lettered_at.as_millis())
    .bind(Timestamp::now().as_millis())
    .bind(ERASED)
    .execute(connection)
    .await?;
    Ok(marked.rows_affected() == 1)
}

/// Gives up a waiting delivery and stores its dead letter. Returns `false` if the delivery does not wait.
pub(crate) async fn give_up_waiting(
    connection: &mut Connection,
    event: &Event,
    handler: HandlerName,
    info: &DeadLetterInfo,
) -> Result<bool, StoreError> {
    let marked = sqlx::query(
        "UPDATE deliveries SET state = 'dead_lettered', reason = $3, attempt = attempt + 1, dead_ms = $4
         WHERE event_id = $1 AND handler = $2 AND state = 'waiting'",
    )
    .bind(event.id.as_str())
    .bind(handler.as_str())
    .bind(info.reason.as_str())
    .bind(info.dead_lettered_at.as_millis())
    .execute(&mut *connection)
    .await?;
    let waited = marked.rows_affected() == 1;
    if waited {
        keep(connection, event, handler, info).await?;
    }
    Ok(waited)
}

async fn keep(
    connection: &mut Connection,
    event: &Event,
    handler: HandlerName,
    info: &DeadLetterInfo,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO dead_letters (id, event_id, handler, state, reason, destination, status, detail, attempts, dead_ms,
             source, source_event_id, event_type, keyword, received_ms, content_type, request_id, traceparent, body)
         VALUES ($1, $2, $3, 'dead', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, COALESCE(
             (SELECT e.body FROM events e JOIN deliveries d ON d.event_id = e.event_id
              WHERE e.event_id = $2 AND d.handler = $3 AND d.masked = 1), $18))
         ON CONFLICT (event_id, handler) DO UPDATE SET state = 'dead', reason = excluded.reason,
             destination = excluded.destination, status = excluded.status, detail = excluded.detail,
             attempts = excluded.attempts, dead_ms = excluded.dead_ms, body = excluded.body",
    )
    .bind(dead_letter_id(&event.id, handler))
    .bind(event.id.as_str())
    .bind(handler.as_str())
    .bind(info.reason.as_str())
    .bind(info.destination.map(Destination::as_str))
    .bind(info.status.map(i64::from))
    .bind(row::clean(&info.detail).as_ref())
    .bind(i64::from(info.attempts))
    .bind(info.dead_lettered_at.as_millis())
    .bind(event.source.as_str())
    .bind(row::maybe_clean(event.source_event_id.as_deref()))
    .bind(row::clean(event.event_type.as_str()).as_ref())
    .bind(event.event_type.keyword().map(Keyword::as_str))
    .bind(event.received_at.as_millis())
    .bind(event.content_type.as_deref())
    .bind(event.request_id.as_deref())
    .bind(event.traceparent.as_deref())
    .bind(event.body.as_ref())
    .execute(connection)
    .await?;
    Ok(())
}

fn dead_letter_row(row: &DbRow) -> Result<DeadLetterRow, StoreError> {
    let destination = row::maybe_text(row, "destination")?;
    Ok(DeadLetterRow {
        id: row::text(row, "id")?,
        event_id: row::event_id(row)?,
        handler: row::name(row, "handler")?,
        info: DeadLetterInfo {
            reason: row::name(row, "reason")?,
            // A newer version may know more destinations.
            destination: destination.and_then(|name| name.parse().ok()),
            status: row::maybe_number(row, "status")?.and_then(|status| u16::try_from(status).ok()),
            detail: row::text(row, "detail")?,
            attempts: row::small(row, "attempts")?,
            dead_lettered_at: row::time(row, "dead_ms")?,
        },
    })
}
