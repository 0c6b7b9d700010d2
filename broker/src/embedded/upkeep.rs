//! The owner's tasks besides the writer: they keep the log short and forget old ids.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use hookline_common::time::Timestamp;

use super::ops::{EmbeddedContext, Maintenance, Op};
use super::schema::{self, Use};

/// How often the log is checked.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);
/// How long a checkpoint waits for other connections. It is short, because some checkpoints block writers while they
/// wait.
const MOMENT: Duration = Duration::from_millis(100);
const EMPTYING_TRIES: u32 = 5;
/// Pages of 4 KiB in the log above which we restart it; from then on the log is overwritten in place.
const LOG_PAGES: i64 = 2000;
/// How often one slice, a 256th of all ids, is checked: all of them once in an hour, and none of them for long.
const FORGET_EVERY: Duration = Duration::from_secs(14);

/// Copies the log into the file in the background. Only the writer can restart the log, and only when all of it was
/// copied: the writer copies the few pages that came meanwhile.
pub(super) async fn keep_log_short(file: PathBuf, ops: mpsc::UnboundedSender<Op>, context: Arc<EmbeddedContext>) {
    let mut conn = None;
    let mut looked_at = 0;
    loop {
        tokio::select! {
            () = context.stop.cancelled() => break,
            () = sleep(CHECKPOINT_EVERY) => {}
        }
        let commits = context.commits.load(Ordering::Relaxed);
        if commits == looked_at {
            continue;
        }
        match checkpoint(&mut conn, &file).await {
            Ok(pages) => {
                looked_at = commits;
                if pages > LOG_PAGES && ops.send(Op::Maintenance(Maintenance::Checkpoint)).is_err() {
                    break;
                }
            }
            // We only log the fault: the writer meets the same fault where it matters.
            Err(error) => {
                tracing::debug!(%error, "the log was not copied");
                conn = None;
            }
        }
    }
    if let Some(conn) = conn {
        drop(conn.close().await);
    }
}

/// Copies the whole log into the file and truncates it, so that it holds no former content; `false` if readers kept
/// blocking it.
pub(super) async fn empty_log(file: &Path) -> Result<bool, sqlx::Error> {
    let mut conn = schema::connect(file, Use::Checkpointer, MOMENT).await?;
    let mut busy = true;
    for _ in 0..EMPTYING_TRIES {
        busy = sqlx::query_scalar::<_, i64>("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut conn).await? != 0;
        if !busy {
            break;
        }
        sleep(MOMENT).await;
    }
    conn.close().await?;
    Ok(!busy)
}

/// Copies the log as far as possible without blocking; returns the number of pages in the log.
async fn checkpoint(conn: &mut Option<SqliteConnection>, file: &Path) -> Result<i64, sqlx::Error> {
    let conn = match conn {
        Some(conn) => conn,
        None => conn.insert(schema::connect(file, Use::Checkpointer, MOMENT).await?),
    };
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(conn).await?.try_get(1)
}

/// Forgets ids older than `retention`, slice by slice, for ever.
pub(super) async fn forget(retention: Duration, ops: mpsc::UnboundedSender<Op>, context: Arc<EmbeddedContext>) {
    for slice in (0..=u8::MAX).cycle() {
        tokio::select! {
            () = context.stop.cancelled() => return,
            () = sleep(FORGET_EVERY) => {}
        }
        forget_slice(slice, retention, &ops).await;
    }
}

pub(super) async fn forget_slice(slice: u8, retention: Duration, ops: &mpsc::UnboundedSender<Op>) -> u64 {
    let (reply, forgotten) = oneshot::channel();
    let before_ms = Timestamp::now().minus(retention).as_millis();
    if ops.send(Op::Maintenance(Maintenance::Forget { slice, before_ms, reply })).is_err() {
        return 0;
    }
    forgotten.await.unwrap_or(0)
}
