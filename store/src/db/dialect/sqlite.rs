//! SQLite: one file in `data_dir`, WAL, one writer at a time.

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hookline_common::held_file::HeldFile;
use sqlx::any::AnyConnectOptions;
use sqlx::error::DatabaseError;
use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, Connection as _, Executor, Row};

use super::{Connection, Judgement};
use crate::db::error::StoreError;

const FILE: &str = "store.db";
/// Takes the write lock at once: a deferred transaction that becomes a writer can fail without waiting.
pub(super) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";
/// Jobs that wait while a commit is on its way to the disk share the next one.
pub(super) const JOBS_TOGETHER: usize = 64;
/// Lists are read beside the writer. A second reader keeps one long list from holding up a look-up.
pub(super) const READERS: usize = 2;
/// The busy time-out: longer than any of our transactions, including those of `hookline` commands beside `run`.
pub(super) const BUSY: Duration = Duration::from_secs(10);
/// Not 0 if migrations were applied.
pub(super) const MADE: &str = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
/// The busy time-out of a checkpoint. It is short because nobody else can write while a checkpoint waits for readers.
const BUSY_CHECKPOINT: Duration = Duration::from_secs(1);

/// Says what a caller may do about an error (<https://www.sqlite.org/rescode.html>).
pub(super) fn judge(error: &dyn DatabaseError) -> Judgement {
    judge_code(code(error))
}

/// Judges an extended result code, whose low byte is the primary one.
const fn judge_code(code: i32) -> Judgement {
    match code {
        // IOERR_NOMEM and IOERR_SHMSIZE: memory or disk was short before anything was written.
        3082 | 4874 => Judgement::Later,
        _ => match code & 0xff {
            // BUSY, LOCKED, NOMEM, FULL, CANTOPEN, PROTOCOL.
            5 | 6 | 7 | 13 | 14 | 15 => Judgement::Later,
            // READONLY, IOERR, CORRUPT, NOTADB. A person repairs it, and no delivery may be given up for it.
            8 | 10 | 11 | 26 => Judgement::Failed,
            _ => Judgement::Final,
        },
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| matches!(code(error) & 0xff, 5 | 6))
}

fn code(error: &dyn DatabaseError) -> i32 {
    error.code().unwrap_or(Cow::Borrowed("")).parse().unwrap_or_default()
}

/// The connection options of the file.
#[derive(Clone)]
pub(crate) struct Sqlite {
    options: AnyConnectOptions,
    /// The file as it was when the store was opened.
    file: HeldFile,
    log: PathBuf,
}

impl Sqlite {
    /// Creates the directory and the file if missing. The file has mode 0600, which SQLite gives the WAL too.
    pub(super) fn new(data_dir: &Path) -> Result<Self, StoreError> {
        let path = data_dir.join(FILE);
        let failed = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
        fs::create_dir_all(data_dir).map_err(failed)?;
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        Self::at(&path)
    }

    /// `None` if there is no file.
    pub(super) fn if_there(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = data_dir.join(FILE);
        match path.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) => Self::at(&path).map(Some),
            Err(error) => Err(StoreError::Unavailable(format!("{}: {error}", path.display()))),
        }
    }

    fn at(path: &Path) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let absolute =
            fs::canonicalize(path).map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
        let url = url_of(&absolute)?;
        let options = url.parse::<AnyConnectOptions>()?.disable_statement_logging();
        let file =
            HeldFile::at(&absolute).map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
        let mut log = absolute.into_os_string();
        log.push("-wal");
        Ok(Self { options, file, log: log.into() })
    }

    pub(super) fn lost_file(&self) -> Option<String> {
        self.file.lost()
    }

    pub(super) fn log(&self) -> Option<HeldFile> {
        HeldFile::at(&self.log).ok()
    }

    /// Opens the connection of the one writer.
    pub(super) async fn connect_writer(&self) -> Result<Connection, StoreError> {
        let mut connection = self.options.connect().await?;
        // FULL: a commit is on the disk when it returns. A cache of 512 KiB holds the upper levels of every index.
        // `secure_delete` overwrites deleted and erased data instead of only unlinking it.
        let pragmas = format!(
            "PRAGMA busy_timeout = {}; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; \
             PRAGMA secure_delete = ON; PRAGMA cache_size = -512; PRAGMA journal_size_limit = 16777216",
            BUSY.as_millis()
        );
        connection.execute(sqlx::AssertSqlSafe(pragmas)).await?;
        switch_to_wal(&mut connection).await?;
        Ok(connection)
    }

    pub(super) async fn connect_reader(&self) -> Result<Connection, StoreError> {
        let mut connection = self.options.connect().await?;
        let pragmas =
            format!("PRAGMA busy_timeout = {}; PRAGMA query_only = 1; PRAGMA cache_size = -256", BUSY.as_millis());
        connection.execute(sqlx::AssertSqlSafe(pragmas)).await?;
        Ok(connection)
    }
}

/// Returns `sqlite://` and the path, with the characters that would end a URL's path percent-encoded.
fn url_of(path: &Path) -> Result<String, StoreError> {
    let text = path.to_str().ok_or_else(|| StoreError::Invalid("data_dir is not valid UTF-8".to_owned()))?;
    let encoded: String = text
        .chars()
        .map(|c| match c {
            '%' => "%25".to_owned(),
            '?' => "%3F".to_owned(),
            '#' => "%23".to_owned(),
            ' ' => "%20".to_owned(),
            other => other.to_string(),
        })
        .collect();
    Ok(format!("sqlite://{encoded}"))
}

/// Switching a new file to WAL does not wait for other connections, whatever the busy time-out, so we retry.
async fn switch_to_wal(connection: &mut Connection) -> Result<(), StoreError> {
    let deadline = Instant::now() + BUSY;
    loop {
        match connection.execute("PRAGMA journal_mode = WAL").await {
            Ok(_) => return Ok(()),
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Empties the write-ahead log into the file; until then the log still holds erased data. Returns `false` if other
/// connections kept the log busy for too long (<https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>: the answer's
/// first column).
pub(super) async fn checkpoint(connection: &mut Connection) -> Result<bool, StoreError> {
    wait_when_busy(connection, BUSY_CHECKPOINT).await?;
    let answer = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
    wait_when_busy(connection, BUSY).await?;
    match answer {
        Ok(row) => Ok(row.try_get::<i64, _>(0)? == 0),
        Err(error) if is_busy(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn wait_when_busy(connection: &mut Connection, time: Duration) -> Result<(), StoreError> {
    let pragma = format!("PRAGMA busy_timeout = {}", time.as_millis());
    connection.execute(sqlx::AssertSqlSafe(pragma)).await?;
    Ok(())
}

/// Migrates the tables to this program's version. Several processes may try at once.
pub(super) async fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    // Checking and applying must be one step. Each migration becomes a savepoint inside this transaction.
    let mut transaction = connection.begin_with(BEGIN_WRITE).await?;
    super::apply(migrator(), &mut transaction).await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) fn migrator() -> Migrator {
    sqlx::migrate!("migrations/sqlite")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_lost_a_write_ends_the_store_and_what_passes_does_not() {
        for (code, name) in [
            (5, "BUSY"),
            (6, "LOCKED"),
            (7, "NOMEM"),
            (13, "FULL"),
            (14, "CANTOPEN"),
            (3082, "IOERR_NOMEM"),
            (4874, "IOERR_SHMSIZE"),
        ] {
            assert_eq!(judge_code(code), Judgement::Later, "{name}");
        }
        for (code, name) in [
            (8, "READONLY"),
            (10, "IOERR"),
            (11, "CORRUPT"),
            (26, "NOTADB"),
            (522, "IOERR_SHORT_READ"),
            (778, "IOERR_WRITE"),
            (1034, "IOERR_FSYNC"),
        ] {
            assert_eq!(judge_code(code), Judgement::Failed, "{name}");
        }
        for (code, name) in [(1, "ERROR"), (19, "CONSTRAINT"), (20, "MISMATCH")] {
            assert_eq!(judge_code(code), Judgement::Final, "{name}");
        }
    }
}
