//! The maintenance writes: redrive and replay, erasure, forgetting old ids, and what a new owner does first. Each is
//! one script and one transaction.

use futures::TryStreamExt;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Executor, Sqlite};

use hookline_common::names::HandlerName;
use hookline_common::time::Timestamp;

use super::rows::{self, IdBytes, MessageRow};
use crate::{Again, Resumed};

/// The first byte of ids: they are hashes, so each slice holds a 256th of them.
pub(super) type Slice = u8;

/// Stores the event if it is no longer there, without fanning it out, and then its one queue row. A waiting row stays
/// as it is; a row in the dead queue becomes the redriven one. The row is due at once by any clock, because the owner's
/// clock may differ from this process's.
const AGAIN: &str = "
     BEGIN IMMEDIATE;
     DELETE FROM seen WHERE event_id = ?1 AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.seq = seen.seq);
     INSERT INTO messages (event_id, received_ms, stored_ms, routed, head, body)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM seen WHERE event_id = ?1);
     INSERT INTO queue (id, handler, due_ms, again) SELECT seq * 16 + ?7, ?7, 0, ?8 FROM seen WHERE event_id = ?1
         ON CONFLICT (id) DO UPDATE SET dead = 0, lease = 0, due_ms = 0, attempt = 1, deliveries = 0, again = ?8,
             first_attempt_ms = NULL, last = NULL, dead_info = NULL WHERE dead = 1;
     COMMIT";

/// The same for a delivery that continues where it was. If the row exists, it knows that better than the store.
const ANEW: &str = "
     BEGIN IMMEDIATE;
     DELETE FROM seen WHERE event_id = ?1 AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.seq = seen.seq);
     INSERT INTO messages (event_id, received_ms, stored_ms, routed, head, body)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM seen WHERE event_id = ?1);
     INSERT INTO queue (id, handler, due_ms, attempt, first_attempt_ms)
         SELECT seq * 16 + ?7, ?7, 0, ?8, ?9 FROM seen WHERE event_id = ?1
         ON CONFLICT (id) DO UPDATE SET due_ms = 0 WHERE dead = 0 AND lease = 0;
     COMMIT";

pub(super) async fn publish_again(
    conn: &mut SqliteConnection,
    message: &MessageRow,
    handler: HandlerName,
    why: Again,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let query = of_one_handler(AGAIN, message, handler, now_ms).bind(again_text(why));
    conn.fetch_many(query).try_for_each(|_| std::future::ready(Ok(()))).await
}

pub(super) async fn publish_anew(
    conn: &mut SqliteConnection,
    message: &MessageRow,
    handler: HandlerName,
    from: Resumed,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let query = of_one_handler(ANEW, message, handler, now_ms)
        .bind(i64::from(from.attempt.max(1)))
        .bind(from.first_attempt_at.map(Timestamp::as_millis));
    conn.fetch_many(query).try_for_each(|_| std::future::ready(Ok(()))).await
}

fn of_one_handler(
    script: &'static str,
    message: &MessageRow,
    handler: HandlerName,
    now_ms: i64,
) -> Query<'static, Sqlite, SqliteArguments> {
    sqlx::query(script)
        .bind(message.event_id.to_vec())
        .bind(message.received_ms)
        .bind(now_ms)
        .bind(message.routed)
        .bind(message.head.clone())
        .bind(message.body.to_vec())
        .bind(rows::code(handler))
}

pub(super) const fn again_text(why: Again) -> &'static str {
    match why {
        Again::Redrive => "redrive",
        Again::Replay => "replay",
    }
}

pub(super) fn read_again(text: &str) -> Option<Again> {
    [Again::Redrive, Again::Replay].into_iter().find(|why| again_text(*why) == text)
}

/// Removes a queue row; `true` if there was one, waiting or handed out. Its holder has then lost it.
pub(super) async fn remove(
    conn: &mut SqliteConnection,
    event_id: &IdBytes,
    handler: HandlerName,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("DELETE FROM queue WHERE id = (SELECT seq * 16 + ?2 FROM seen WHERE event_id = ?1)")
        .bind(event_id.to_vec())
        .bind(rows::code(handler))
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Forgets ids that were stored before `before_ms` and wait in no queue; returns how many.
pub(super) async fn forget(conn: &mut SqliteConnection, slice: Slice, before_ms: i64) -> Result<u64, sqlx::Error> {
    let (from, to) = (vec![slice], [vec![slice], vec![0xff; 16]].concat());
    let done = sqlx::query(
        "DELETE FROM seen WHERE event_id >= ?1 AND event_id <= ?2 AND stored_ms < ?3
             AND NOT EXISTS (SELECT 1 FROM queue WHERE id BETWEEN seen.seq * 16 AND seen.seq * 16 + 15)",
    )
    .bind(from)
    .bind(to)
    .bind(before_ms)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Tries a real write, about as big as a small batch of events, that changes nothing anybody reads. If it succeeds,
/// events can be stored.
pub(super) async fn probe(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    // The bytes are random, because SQLite would skip writing the same bytes again.
    conn.execute(
        "INSERT INTO meta (name, value) VALUES ('probe', randomblob(32768))
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .await
    .map(|_| ())
}

/// The latest time that was written into the file, to the second.
pub(super) async fn latest_ms(conn: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT MAX((SELECT value FROM meta WHERE name = 'clock'),
                    COALESCE((SELECT stored_ms FROM messages ORDER BY seq DESC LIMIT 1), 0))",
    )
    .fetch_one(conn)
    .await
}

/// Makes this process the owner: voids all leases of former owners. Their deliveries stay counted. Returns the epoch
/// with which this owner's tokens start.
pub(super) async fn take_over(conn: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    conn.execute(
        "UPDATE queue SET lease = 0, first_attempt_ms = CASE WHEN attempt > 1 THEN first_attempt_ms END
             WHERE lease <> 0",
    )
    .await?;
    sqlx::query_scalar("UPDATE meta SET value = value + 1 WHERE name = 'epoch' RETURNING value").fetch_one(conn).await
}
