//! The file's tables, and how each kind of connection opens it. Changes to the tables are expand/contract and counted
//! in `user_version`: a command line of the next version may open the file while this version runs.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Executor};

/// The size to which the log is cut when it restarts. A log that keeps its size is overwritten, which makes a commit
/// about 0.07 ms cheaper than growing it.
const LOG_BYTES: u32 = 64 << 20;

/// Version 2 added the row `clock` of `meta`, the latest time of a round, to the second.
const VERSION: i64 = 2;

/// `seen` remembers every id for exact duplicates; a row of `messages` lives as long as one of its `queue` rows. The
/// tables are separate, so that a settled body frees whole pages. A queue row's id is `seq * 16 + handler`, which makes
/// (event, handler) unique without another index. `head` is the event without its body.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT OR IGNORE INTO meta VALUES ('epoch', 0);
    INSERT OR IGNORE INTO meta VALUES ('clock', 0);
    CREATE TABLE IF NOT EXISTS handlers (code INTEGER PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS seen (
        event_id BLOB PRIMARY KEY, seq INTEGER NOT NULL, stored_ms INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id BLOB NOT NULL, received_ms INTEGER NOT NULL,
        stored_ms INTEGER NOT NULL, routed INTEGER NOT NULL, fan_out INTEGER, head TEXT NOT NULL, body BLOB NOT NULL
    );
    CREATE TABLE IF NOT EXISTS queue (
        id INTEGER PRIMARY KEY, handler INTEGER NOT NULL, dead INTEGER NOT NULL DEFAULT 0, due_ms INTEGER NOT NULL,
        lease INTEGER NOT NULL DEFAULT 0, deliveries INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 1,
        first_attempt_ms INTEGER, again TEXT, last TEXT, dead_info TEXT
    );
    CREATE INDEX IF NOT EXISTS queue_ready ON queue (handler, dead, due_ms) WHERE lease = 0;
    CREATE TRIGGER IF NOT EXISTS message_stored AFTER INSERT ON messages BEGIN
        INSERT INTO seen (event_id, seq, stored_ms) VALUES (NEW.event_id, NEW.seq, NEW.stored_ms);
        INSERT INTO queue (id, handler, due_ms) SELECT NEW.seq * 16 + code, code, NEW.stored_ms FROM handlers
            WHERE (NEW.fan_out >> code) & 1;
        DELETE FROM messages WHERE seq = NEW.seq AND NEW.fan_out = 0;
    END;
    CREATE TRIGGER IF NOT EXISTS queue_settled AFTER DELETE ON queue
        WHEN NOT EXISTS (SELECT 1 FROM queue WHERE id BETWEEN (OLD.id & ~15) AND (OLD.id | 15)) BEGIN
        DELETE FROM messages WHERE seq = OLD.id >> 4;
    END;
    PRAGMA user_version = 2;
";

/// The purpose of a connection; it decides how much memory the connection may take and who checkpoints.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    /// The owner's writer: a separate task makes the checkpoints.
    OwnersWriter,
    /// The command line's writer: there may be no owner, so this connection keeps the log short itself.
    GuestsWriter,
    Reader,
    Checkpointer,
}

/// Opens a connection; `busy_timeout` is how long a statement waits for another connection's lock.
pub(super) async fn connect(
    file: &Path,
    purpose: Use,
    busy_timeout: Duration,
) -> Result<SqliteConnection, sqlx::Error> {
    let (cache_kib, autocheckpoint) = match purpose {
        Use::OwnersWriter => (2048, "0"),
        Use::GuestsWriter => (2048, "1000"),
        Use::Reader => (1024, "0"),
        Use::Checkpointer => (256, "0"),
    };
    SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(busy_timeout)
        .foreign_keys(false)
        .pragma("cache_size", format!("-{cache_kib}"))
        .pragma("wal_autocheckpoint", autocheckpoint)
        .pragma("journal_size_limit", LOG_BYTES.to_string())
        .pragma("temp_store", "MEMORY")
        // Erasure needs this: a settled body leaves no readable copy in the file's free space.
        .pragma("secure_delete", "ON")
        // Rows are read in batches of hundreds: a short channel would switch threads every 50 rows.
        .row_buffer_size(512)
        .thread_name(move |_| format!("broker-{purpose:?}"))
        .disable_statement_logging()
        .connect()
        .await
}

/// Creates what is missing, in one transaction.
pub(super) async fn create(conn: &mut SqliteConnection, codes: impl Iterator<Item = i64>) -> Result<(), sqlx::Error> {
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *conn).await?;
    let handlers = codes.map(|code| format!("({code})")).collect::<Vec<_>>().join(",");
    let known: i64 = if version == 0 {
        0
    } else {
        sqlx::query_scalar("SELECT COUNT(*) FROM handlers").fetch_one(&mut *conn).await?
    };
    if version >= VERSION && known as usize >= handlers.split(',').count() {
        return Ok(());
    }
    let script = format!("BEGIN IMMEDIATE;{TABLES}INSERT OR IGNORE INTO handlers VALUES {handlers};COMMIT;");
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(script))).await.map(|_| ())
}
