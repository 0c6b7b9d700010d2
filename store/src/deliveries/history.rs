//! The history: received events, with their payloads until `retention`, and the outcome of their deliveries.

use std::time::Duration;

use futures::TryStreamExt;
use hookline_broker::DeadLetterInfo;
use hookline_common::event::{Event, EventId, EventType, Keyword};
use hookline_common::names::{DeadReason, HandlerName};
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::{self, Connection, DbRow};
use crate::db::error::StoreError;
use crate::db::page::{Page, page, position, rows_to_read};
use crate::db::row;
use crate::deliveries::dead_letters;
use crate::deliveries::delivery::{delivery, expect_deliveries};
use crate::deliveries::model::{AttemptRecord, EventFilter, EventRow, Expired, Payload};
use crate::deliveries::undelivered::OF_THIS_VERSION_MS;

/// Events per statement.
const ROWS: usize = 64;
/// Rows that one short transaction of `expire` touches.
const BATCH: u64 = 500;
/// The detail of a dead letter whose event's body no handler can read.
const UNPARSED_DETAIL: &str = "the body is signed, and is no JSON object with an `action`: no handler took it; look at what \
     was sent in TextUs, do by hand what it asks for, and discard this";
/// How long effects and their deliveries and events are kept at least, so that a repeat finds them.
const EFFECTS_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

impl Store {
    /// Stores events and the rows of the deliveries they were routed to, in one transaction. The rows are waiting, and
    /// done for `record_history` itself. Known events stay as they are: of two bodies with one id, the first counts.
    ///
    /// An event without a readable type also becomes a dead letter of `record_history`: no other handler takes it, and
    /// a person has to look at it. Returns the ids of the events that now became one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn record_events(&self, events: &[(Event, Vec<HandlerName>)]) -> Result<Vec<EventId>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        // This is the order in which all jobs lock events and deliveries. The sort is stable, so the first of two
        // events with one id stays first.
        let mut events = events.to_vec();
        events.sort_by(|(a, _), (b, _)| a.id.as_str().cmp(b.id.as_str()));
        self.db
            .write(events, |connection, events| {
                Box::pin(async move {
                    for events in events.chunks(ROWS) {
                        insert_events(connection, events).await?;
                    }
                    let (unparsed, parsed): (Vec<_>, Vec<_>) =
                        events.iter().partition(|(event, _)| event.event_type.is_unparsed());
                    // Locking parsed events before unparsed ones is safe too: no other job waits for more than one
                    // unparsed event.
                    expect_deliveries(connection, &routed(&parsed), true).await?;
                    expect_deliveries(connection, &routed(&unparsed), false).await?;
                    leave_to_this_version(connection, &parsed).await?;
                    give_up_unparsed(connection, &unparsed).await
                })
            })
            .await
    }

    /// Returns a page of events, newest first, each with its deliveries. `since` is inclusive, `until` exclusive.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn events(
        &self,
        filter: &EventFilter,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<EventRow>, StoreError> {
        let until = filter.until.map_or(i64::MAX, Timestamp::as_millis);
        let (received_ms, event_id): (i64, String) = position(cursor, (i64::MAX, String::new()))?;
        // Two statement texts, so that each can use the index that fits it.
        let of_type = if filter.event_type.is_some() { "event_type = $6 AND" } else { "" };
        let statement = format!(
            "SELECT e.event_id, e.source, e.source_event_id, e.event_type, e.keyword, e.received_ms, e.has_payload,
                    d.handler, d.state, d.reason, d.attempt
             FROM (SELECT event_id, source, source_event_id, event_type, keyword, received_ms,
                          CASE WHEN body IS NULL THEN 0 ELSE 1 END AS has_payload
                   FROM events
                   WHERE {of_type} received_ms >= $1 AND received_ms < $2 AND (received_ms, event_id) < ($3, $4)
                   ORDER BY received_ms DESC, event_id DESC LIMIT $5) e
             LEFT JOIN deliveries d ON d.event_id = e.event_id
             ORDER BY e.received_ms DESC, e.event_id DESC, d.handler"
        );
        let mut select = sqlx::query(AssertSqlSafe(statement))
            .bind(filter.since.map_or(i64::MIN, Timestamp::as_millis))
            .bind(until)
            .bind(received_ms)
            .bind(event_id)
            .bind(rows_to_read(limit));
        if let Some(event_type) = &filter.event_type {
            select = select.bind(row::clean(EventType::new(event_type).as_str()).into_owned());
        }
        // Rows are read one by one: as database rows, a long page would take many times its size.
        let mut reader = self.db.reader().await?;
        let mut rows = select.fetch(&mut reader.connection);
        let mut events = Vec::new();
        while let Some(row) = self.db.within(rows.try_next()).await? {
            gather(&mut events, &row)?;
        }
        drop(rows);
        reader.give_back();
        Ok(page(events, limit, |row| (row.received_at.as_millis(), row.event_id.as_str().to_owned())))
    }

    /// Returns one event with its deliveries, and its attempts in the order they were logged.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn event(&self, id: &EventId) -> Result<Option<(EventRow, Vec<AttemptRecord>)>, StoreError> {
        let mut reader = self.db.reader().await?;
        let mut snapshot = reader.snapshot().await?;
        let rows = sqlx::query(
            "SELECT e.event_id, e.source, e.source_event_id, e.event_type, e.keyword, e.received_ms,
                    CASE WHEN e.body IS NULL THEN 0 ELSE 1 END AS has_payload,
                    d.handler, d.state, d.reason, d.attempt
             FROM events e LEFT JOIN deliveries d ON d.event_id = e.event_id
             WHERE e.event_id = $1 ORDER BY d.handler",
        )
        .bind(id.as_str())
        .fetch_all(&mut *snapshot);
        let rows = self.db.within(rows).await?;
        let attempts = sqlx::query(
            "SELECT event_id, handler, attempt, started_ms, duration_ms, verdict, detail, requests FROM attempts
             WHERE event_id = $1 ORDER BY seq",
        )
        .bind(id.as_str())
        .fetch_all(&mut *snapshot);
        let attempts = self.db.within(attempts).await?;
        self.db.within(snapshot.rollback()).await?;
        reader.give_back();
        let mut events = Vec::new();
        for row in &rows {
            gather(&mut events, row)?;
        }
        let Some(event) = events.pop() else { return Ok(None) };
        let attempts = attempts.iter().map(attempt_record).collect::<Result<_, _>>()?;
        Ok(Some((event, attempts)))
    }

    /// Returns the event as received, for a replay.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn event_payload(&self, id: &EventId) -> Result<Payload, StoreError> {
        let row = self.db.row(sqlx::query(
            "SELECT event_id, source, source_event_id, event_type, keyword, received_ms, content_type, request_id,
                 traceparent, body FROM events WHERE event_id = $1",
        )
            .bind(id.as_str())).await?;
        let Some(row) = row else { return Ok(Payload::Unknown) };
        Ok(row::event(&row)?.map_or(Payload::Gone, Payload::Here))
    }

    /// Removes payloads and attempts older than `retention`. Also removes settled deliveries, their effects and events
    /// once they are older than both `retention` and 90 days. The transactions are short, so that others can write in
    /// between.
    ///
    /// # Errors
    /// See [`StoreError`]; earlier removals stay.
    pub async fn expire(&self, retention: Duration, now: Timestamp) -> Result<Expired, StoreError> {
        let old = now.minus(retention);
        let very_old = now.minus(retention.max(EFFECTS_KEPT));
        let payloads = self
            .in_batches(
                old,
                "UPDATE events SET body = NULL WHERE event_id IN (SELECT event_id FROM events
                 WHERE body IS NOT NULL AND received_ms < $1 ORDER BY received_ms LIMIT $2 {})",
            )
            .await?;
        let attempts = self
            .in_batches(
                old,
                "DELETE FROM attempts WHERE seq IN (SELECT seq FROM attempts WHERE started_ms < $1 LIMIT $2 {})",
            )
            .await?;
        for statement in [
            "UPDATE threads SET closed_ms = $1 WHERE thread_id IN
                 (SELECT t.thread_id FROM threads t WHERE t.closed_ms IS NULL AND EXISTS
                      (SELECT 1 FROM thread_messages m WHERE m.thread_id = t.thread_id AND m.created_ms < $1)
                  LIMIT $2 {})",
            // The built-in system of record keeps what was written; elsewhere the note itself is kept.
            "UPDATE thread_writes SET text = NULL WHERE write_id IN
                 (SELECT write_id FROM thread_writes WHERE text IS NOT NULL AND system <> 'system_of_record'
                  AND written_ms < $1 LIMIT $2 {})",
            "DELETE FROM thread_messages WHERE message_id IN
                 (SELECT m.message_id FROM thread_messages m WHERE m.created_ms < $1 AND EXISTS
                      (SELECT 1 FROM threads t WHERE t.thread_id = m.thread_id AND t.closed_ms IS NOT NULL)
                  LIMIT $2 {})",
        ] {
            self.in_batches(old, statement).await?;
        }
        for statement in [
            "DELETE FROM effects WHERE (handler, target, effect_key) IN
                 (SELECT handler, target, effect_key FROM effects WHERE created_ms < $1 AND state = 'done' LIMIT $2 {})",
            "DELETE FROM deliveries WHERE (event_id, handler) IN (SELECT event_id, handler FROM deliveries
             WHERE created_ms < $1 AND state IN ('done', 'skipped', 'discarded') LIMIT $2 {})",
            "DELETE FROM events WHERE event_id IN (SELECT e.event_id FROM events e WHERE e.received_ms < $1
             AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.event_id) LIMIT $2 {})",
            "DELETE FROM thread_writes WHERE write_id IN (SELECT write_id FROM thread_writes
             WHERE system <> 'system_of_record' AND text IS NULL AND written_ms < $1 LIMIT $2 {})",
            "DELETE FROM thread_writes WHERE write_id IN (SELECT w.write_id FROM thread_writes w
             WHERE w.written_ms IS NULL AND EXISTS
                 (SELECT 1 FROM threads t WHERE t.thread_id = w.thread_id AND t.closed_ms < $1) LIMIT $2 {})",
            "DELETE FROM threads WHERE thread_id IN (SELECT t.thread_id FROM threads t WHERE t.closed_ms < $1
             AND NOT EXISTS (SELECT 1 FROM thread_writes w WHERE w.thread_id = t.thread_id) LIMIT $2 {})",
        ] {
            self.in_batches(very_old, statement).await?;
        }
        Ok(Expired { payloads, attempts })
    }

    /// Repeats a statement ($1: the time limit, $2: the most rows, `{}`: the lock clause) until no rows are left. Rows
    /// that other jobs hold are left for the next hour.
    async fn in_batches(&self, before: Timestamp, statement: &'static str) -> Result<u64, StoreError> {
        let statement = statement.replace("{}", dialect::for_removal(self.db.dialect()));
        let mut total = 0;
        loop {
            let changed = self
                .db
                .write_long((before, statement.clone()), |connection, (before, statement)| {
                    Box::pin(async move {
                        let done = sqlx::query(AssertSqlSafe(statement.as_str()))
                            .bind(before.as_millis())
                            .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
                            .execute(connection)
                            .await?;
                        Ok(done.rows_affected())
                    })
                })
                .await?;
            total += changed;
            if changed < BATCH {
                return Ok(total);
            }
        }
    }
}

fn routed<'a>(events: &[&'a (Event, Vec<HandlerName>)]) -> Vec<(&'a EventId, HandlerName)> {
    events.iter().flat_map(|(event, handlers)| handlers.iter().map(|&handler| (&event.id, handler))).collect()
}

/// Keeps workers of the previous version from republishing a keyword event that nobody has begun. Such a worker would
/// publish it as a plain text, which its handlers cannot read.
async fn leave_to_this_version(
    connection: &mut Connection,
    events: &[&(Event, Vec<HandlerName>)],
) -> Result<(), StoreError> {
    for (event, _) in events.iter().filter(|(event, _)| event.event_type.keyword().is_some()) {
        sqlx::query(
            "UPDATE deliveries SET republished_ms = $2 WHERE event_id = $1
             AND handler IN ('record_opt_out', 'flag_opt_out') AND state = 'waiting' AND republished_ms IS NULL",
        )
        .bind(event.id.as_str())
        .bind(OF_THIS_VERSION_MS)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Turns the waiting deliveries of unparsed events into dead letters. A repeat's delivery no longer waits, so its
/// outcome stays.
async fn give_up_unparsed(
    connection: &mut Connection,
    events: &[&(Event, Vec<HandlerName>)],
) -> Result<Vec<EventId>, StoreError> {
    let mut given_up = Vec::new();
    for (event, _) in events {
        let info = DeadLetterInfo {
            reason: DeadReason::Unreadable,
            destination: None,
            status: None,
            detail: UNPARSED_DETAIL.to_owned(),
            attempts: 1,
            dead_lettered_at: Timestamp::now(),
        };
        if dead_letters::give_up_waiting(connection, event, HandlerName::RecordHistory, &info).await? {
            given_up.push(event.id.clone());
        }
    }
    Ok(given_up)
}

async fn insert_events(connection: &mut Connection, events: &[(Event, Vec<HandlerName>)]) -> Result<(), StoreError> {
    const COLUMNS: usize = 10;
    let values: Vec<String> = (0..events.len())
        .map(|i| {
            let parameters: Vec<String> = (1..=COLUMNS).map(|n| format!("${}", i * COLUMNS + n)).collect();
            format!("({})", parameters.join(", "))
        })
        .collect();
    let statement = format!(
        "INSERT INTO events (event_id, source, source_event_id, event_type, keyword, received_ms, content_type,
             request_id, traceparent, body)
         VALUES {} ON CONFLICT (event_id) DO NOTHING",
        values.join(", ")
    );
    // The statement's text depends on the number of rows; only the full one is worth keeping prepared.
    let mut insert = sqlx::query(AssertSqlSafe(statement)).persistent(events.len() == ROWS);
    for (event, _) in events {
        insert = insert
            .bind(event.id.as_str())
            .bind(event.source.as_str())
            .bind(row::maybe_clean(event.source_event_id.as_deref()))
            .bind(row::clean(event.event_type.as_str()).as_ref())
            .bind(event.event_type.keyword().map(Keyword::as_str))
            .bind(event.received_at.as_millis())
            .bind(event.content_type.as_deref())
            .bind(event.request_id.as_deref())
            .bind(event.traceparent.as_deref())
            .bind(event.body.as_ref());
    }
    insert.execute(connection).await?;
    Ok(())
}

/// Adds a row of one event and one delivery to `events`. Rows come in the events' order.
fn gather(events: &mut Vec<EventRow>, row: &DbRow) -> Result<(), StoreError> {
    let event_id = row::event_id(row)?;
    if events.last().is_none_or(|event| event.event_id != event_id) {
        events.push(EventRow {
            event_id,
            source: row::source(row)?,
            source_event_id: row::maybe_text(row, "source_event_id")?,
            event_type: row::event_type(row)?,
            received_at: row::time(row, "received_ms")?,
            has_payload: row::flag(row, "has_payload")?,
            deliveries: Vec::new(),
        });
    }
    if let (Some(event), Some(delivery)) = (events.last_mut(), delivery(row)?) {
        event.deliveries.push(delivery);
    }
    Ok(())
}

fn attempt_record(row: &DbRow) -> Result<AttemptRecord, StoreError> {
    Ok(AttemptRecord {
        event_id: row::event_id(row)?,
        handler: row::name(row, "handler")?,
        attempt: row::small(row, "attempt")?,
        started_at: row::time(row, "started_ms")?,
        duration: Duration::from_millis(row::count(row, "duration_ms")?),
        verdict: row::name(row, "verdict")?,
        detail: row::maybe_text(row, "detail")?,
        requests: serde_json::from_str(&row::text(row, "requests")?)
            .map_err(|_| StoreError::unreadable("request list"))?,
    })
}
