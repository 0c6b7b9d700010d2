//! Stores a batch of events in one statement, which is its own transaction: one `fdatasync` for all of them.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::rows::{IdBytes, MessageRow};

/// Publishes in one statement. A larger batch would make the next publishes wait longer, and gain nothing.
pub(super) const MAX_BATCH: usize = 256;
/// Bytes of bodies in one statement. SQLite holds them twice while the statement runs.
pub(super) const MAX_BATCH_BYTES: usize = 4 << 20;

/// One prepared statement per power of two. A batch takes the next larger one and leaves the remaining rows unbound,
/// which means NULL.
pub(super) struct Inserts {
    by_size: Vec<Arc<str>>,
}

impl Inserts {
    pub(super) fn new() -> Self {
        let sizes = (0..).map(|power| 1_usize << power).take_while(|size| *size <= MAX_BATCH);
        Self { by_size: sizes.map(|rows| statement(rows).into()).collect() }
    }

    /// Stores the events that were not seen before, and returns the ids of the others. The ids of a batch must be
    /// distinct. When this returns `Ok`, every event is durable.
    pub(super) async fn store(
        &self,
        conn: &mut SqliteConnection,
        batch: &[MessageRow],
        now_ms: i64,
    ) -> Result<HashSet<IdBytes>, sqlx::Error> {
        debug_assert!(batch.len() <= MAX_BATCH);
        let size = batch.len().next_power_of_two().trailing_zeros() as usize;
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone(&self.by_size[size]))).bind(now_ms);
        for row in batch {
            query = query
                .bind(row.event_id.to_vec())
                .bind(row.received_ms)
                .bind(row.routed)
                .bind(row.head.clone())
                .bind(row.body.to_vec());
        }
        let done = query.execute(&mut *conn).await?;

        let stored = usize::try_from(done.rows_affected()).unwrap_or_default();
        if stored == batch.len() {
            return Ok(HashSet::new());
        }
        if stored == 0 {
            return Ok(batch.iter().map(|row| row.event_id).collect());
        }
        // The rows of one statement have consecutive numbers, so rows with lower numbers were there before.
        let first = done.last_insert_rowid() - i64::try_from(stored).unwrap_or_default();
        seen_up_to(conn, batch, first).await
    }
}

async fn seen_up_to(
    conn: &mut SqliteConnection,
    batch: &[MessageRow],
    seq: i64,
) -> Result<HashSet<IdBytes>, sqlx::Error> {
    let ids: Vec<String> = batch.iter().map(|row| hex::encode(row.event_id)).collect();
    let before: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT event_id FROM seen WHERE event_id IN (SELECT unhex(value) FROM json_each(?)) AND seq <= ?",
    )
    .bind(serde_json::json!(ids).to_string())
    .bind(seq)
    .fetch_all(conn)
    .await?;
    Ok(before.into_iter().filter_map(|id| id.try_into().ok()).collect())
}

fn statement(rows: usize) -> String {
    let mut sql = String::from(
        "INSERT INTO messages (stored_ms, event_id, received_ms, routed, fan_out, head, body) \
         SELECT ?, column1, column2, column3, column3, column4, column5 FROM (VALUES ",
    );
    for row in 0..rows {
        let _ = write!(sql, "{}(?,?,?,?,?)", if row == 0 { "" } else { "," });
    }
    sql.push_str(") WHERE column1 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM seen WHERE seen.event_id = column1)");
    sql
}
