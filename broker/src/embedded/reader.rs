//! Reads beside the writer: leased events, and how full the queues are.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};

use hookline_common::event::Event;
use hookline_common::names::{HandlerName, Queue};
use hookline_common::time::Timestamp;

use super::clock::Clock;
use super::rows;
use crate::QueueDepth;

/// An event and the handlers it was routed to.
pub(super) type Routed = (Arc<Event>, Vec<HandlerName>);

/// How much waits in all queues, whatever it waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub events: u64,
    /// The size of the events' bodies.
    pub bytes: u64,
}

pub(super) async fn held(conn: &mut SqliteConnection) -> Result<Held, sqlx::Error> {
    let row = sqlx::query("SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM messages").fetch_one(conn).await?;
    Ok(Held { events: row.try_get(0)?, bytes: row.try_get(1)? })
}

pub(super) async fn oldest(conn: &mut SqliteConnection, clock: Clock) -> Result<Option<Timestamp>, sqlx::Error> {
    let select = "SELECT received_ms, stored_ms FROM messages ORDER BY seq LIMIT 1";
    let first: Option<(i64, i64)> = sqlx::query_as(select).fetch_optional(conn).await?;
    Ok(first.map(|(received, stored)| received_at(clock, received, stored)))
}

/// When an event was received, which is not after it was stored: the wall clock may have been set back since.
fn received_at(clock: Clock, received_ms: i64, stored_ms: i64) -> Timestamp {
    clock.unless_ahead(Timestamp::from_millis(received_ms), stored_ms)
}

/// The events of these message numbers, without those that are gone or cannot be read.
pub(super) async fn events(conn: &mut SqliteConnection, seqs: &[i64]) -> Result<HashMap<i64, Routed>, sqlx::Error> {
    let found = sqlx::query(
        "SELECT seq, event_id, received_ms, routed, head, body FROM messages
         WHERE seq IN (SELECT value FROM json_each(?))",
    )
    .bind(serde_json::json!(seqs).to_string())
    .fetch_all(conn)
    .await?;
    let mut events = HashMap::with_capacity(found.len());
    for row in &found {
        match rows::event(row) {
            Ok((seq, routed, event)) => drop(events.insert(seq, (Arc::new(event), rows::handlers_in(routed)))),
            Err(error) => {
                tracing::error!(%error, "an event in the queue cannot be read; upgrade to the version that wrote it")
            }
        }
    }
    Ok(events)
}

/// Counts each queue's rows: ready or parked ones from its index, then those that are handed out. A single `GROUP BY`
/// over all rows would sort them, and take ten times as long with a million rows.
static COUNTS: LazyLock<Arc<str>> = LazyLock::new(|| {
    let ready = rows::each_slot(|_, handler, dead| {
        format!(
            "SELECT {handler}, {dead}, COUNT(*), MIN(id) FROM queue \
             WHERE lease = 0 AND handler = {handler} AND dead = {dead} UNION ALL "
        )
    });
    let out = "SELECT handler, dead, COUNT(*), MIN(id) FROM queue WHERE lease <> 0 GROUP BY handler, dead";
    (ready.concat() + out).into()
});

/// The depths of both queues of every enabled handler, and of every other queue that holds something.
pub(super) async fn depths(
    conn: &mut SqliteConnection,
    enabled: &[HandlerName],
    clock: Clock,
) -> Result<Vec<QueueDepth>, sqlx::Error> {
    let counts = sqlx::query(AssertSqlSafe(Arc::clone(&COUNTS))).fetch_all(&mut *conn).await?;
    // Ids grow with time, so the smallest id is the oldest.
    let mut held: BTreeMap<Queue, (u64, i64)> = BTreeMap::new();
    for row in &counts {
        let (Some(handler), Some(first)) = (rows::handler(row.try_get(0)?), row.try_get::<Option<i64>, _>(3)?) else {
            continue;
        };
        let entry = held.entry(rows::queue(handler, row.try_get::<i64, _>(1)? == 1)).or_insert((0, first));
        *entry = (entry.0 + row.try_get::<u64, _>(2)?, entry.1.min(first));
    }
    let firsts: Vec<i64> = held.values().map(|(_, first)| rows::message_of_row(*first)).collect();
    let select = "SELECT seq, received_ms, stored_ms FROM messages WHERE seq IN (SELECT value FROM json_each(?))";
    let firsts = sqlx::query_as(select).bind(serde_json::json!(firsts).to_string()).fetch_all(conn).await?;
    let received: HashMap<i64, Timestamp> =
        firsts.into_iter().map(|(seq, received, stored)| (seq, received_at(clock, received, stored))).collect();

    let all = HandlerName::ALL.iter().flat_map(|handler| [Queue::Work(*handler), Queue::Dead(*handler)]);
    let shown = all.filter(|queue| enabled.contains(&queue.handler()) || held.contains_key(queue));
    let depth = |queue| match held.get(&queue) {
        Some((messages, first)) => {
            let oldest = received.get(&rows::message_of_row(*first)).copied();
            QueueDepth { queue, messages: *messages, oldest, consumers: None }
        }
        None => QueueDepth { queue, messages: 0, oldest: None, consumers: None },
    };
    Ok(shown.map(depth).collect())
}
