//! All that differs between databases: how to connect, lock, migrate, and what an error means.
//!
//! Statements elsewhere keep to what SQLite and PostgreSQL both take: `$n` parameters, BIGINT, TEXT, BLOB, ON
//! CONFLICT … RETURNING, row values, CASE instead of the two-argument MAX; columns by name, because the plan of a
//! `SELECT *` that was prepared before another version's migration fails after it.

mod postgres;
mod sqlite;

use std::path::Path;
use std::time::Duration;

use hookline_common::secret::Secret;
use sha2::{Digest, Sha256};
use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgDatabaseError;
use sqlx::{Executor as _, Row};

use postgres::Postgres;
use sqlite::Sqlite;

use crate::db::error::StoreError;

pub(crate) type Connection = sqlx::AnyConnection;
pub(crate) type DbRow = sqlx::any::AnyRow;

/// The number of the newest migration this program has.
const SCHEMA: i64 = 10;
const POSTGRES: &str = "PostgreSQL";

/// Which tables of ours a database has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    Missing,
    /// Some migration of ours is not applied.
    Older,
    Present,
}

/// Where the database is, and how connections to it are made.
#[derive(Clone)]
pub(crate) enum Dialect {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// How many connections write which kind of job, and how many jobs share a transaction at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lanes {
    pub(crate) rows: Lane,
    /// `None`: the jobs of this kind go where the `rows` go.
    pub(crate) sorted: Option<Lane>,
    pub(crate) alone: Option<Lane>,
    pub(crate) ledger: Option<Lane>,
    pub(crate) long: Option<Lane>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) writers: usize,
    pub(crate) group: usize,
    pub(crate) begin: Begin,
    /// A transaction without an end by then is given up with its connection; `None`: the database sees to it.
    pub(crate) deadline: Option<Duration>,
}

/// How a transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Of jobs that share it: one that must wait for another process's lock must not hold up the others.
    Group,
    /// Of one job for many callers, which are better served one by one than held up by one of them.
    Sorted,
    /// Of one job, which has nobody to hold up.
    Alone,
    /// Of one job for many callers, which waits for other processes' jobs of its kind.
    Ledger,
    /// Of one job that touches many rows.
    Long,
    /// For reads that must all see the same moment.
    Snapshot,
}

/// What the caller may do about an error of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It stands: the statement or its values are wrong.
    Final,
    /// A person or time mends it.
    Later,
    /// Others were in the way, and nothing is wrong with the connection.
    Contended,
}

impl Dialect {
    pub(crate) fn sqlite(data_dir: &Path) -> Result<Self, StoreError> {
        Sqlite::new(data_dir).map(Self::Sqlite)
    }

    /// `None` where there is no file.
    pub(crate) fn sqlite_if_there(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        Ok(Sqlite::if_there(data_dir)?.map(Self::Sqlite))
    }

    pub(crate) fn postgres(url: &Secret) -> Result<Self, StoreError> {
        Postgres::new(url).map(Self::Postgres)
    }

    pub(crate) fn lanes(&self) -> Lanes {
        match self {
            Self::Sqlite(_) => sqlite::LANES,
            Self::Postgres(_) => postgres::LANES,
        }
    }

    /// A connection that writes.
    pub(crate) async fn connect_writer(&self) -> Result<Connection, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.connect_writer().await,
            Self::Postgres(postgres) => postgres.connect_writer().await,
        }
    }

    /// A connection that can only read.
    pub(crate) async fn connect_reader(&self) -> Result<Connection, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.connect_reader().await,
            Self::Postgres(postgres) => postgres.connect_reader().await,
        }
    }

    /// How many of those there are at most.
    pub(crate) const fn readers(&self) -> usize {
        match self {
            Self::Sqlite(_) => sqlite::READERS,
            Self::Postgres(_) => postgres::READERS,
        }
    }

    /// How long a reader is waited for.
    pub(crate) const fn reader_within(&self) -> Duration {
        match self {
            Self::Sqlite(_) => sqlite::BUSY,
            Self::Postgres(_) => postgres::CONNECT,
        }
    }

    pub(crate) const fn begin(&self, begin: Begin) -> &'static str {
        match self {
            Self::Sqlite(_) => match begin {
                Begin::Group | Begin::Sorted | Begin::Alone | Begin::Ledger | Begin::Long => sqlite::BEGIN_WRITE,
                Begin::Snapshot => "BEGIN",
            },
            Self::Postgres(_) => postgres::begin(begin),
        }
    }

    /// How long a read may take before its connection is given up; `None`: the database sees to it.
    pub(crate) const fn read_deadline(&self) -> Option<Duration> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(_) => Some(postgres::READ_DEADLINE),
        }
    }

    /// As `read_deadline`, for what looks at every row of a table.
    pub(crate) const fn long_deadline(&self) -> Option<Duration> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(_) => Some(postgres::LONG),
        }
    }

    /// Whether a connection that broke before its commit is replaced and the work done once more at once.
    pub(crate) const fn reconnects(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Whether other machines may work on it, so that nobody can know whose claims are those of the dead.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// How far the database's clock is ahead of this machine's, in milliseconds: leases of several machines are told
    /// by one clock.
    pub(crate) async fn clock_ahead(&self, connection: &mut Connection) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(0),
            Self::Postgres(_) => postgres::clock_ahead(connection).await,
        }
    }

    /// Brings the tables up to this program's version; several processes may try at once.
    ///
    /// # Errors
    /// `Incompatible` where a newer program has made tables that this one cannot live with.
    pub(crate) async fn migrate(&self, connection: &mut Connection) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => sqlite::migrate(connection).await,
            Self::Postgres(_) => postgres::migrate(connection).await,
        }
    }

    /// Which tables are there; changes nothing.
    ///
    /// # Errors
    /// `Incompatible` where a newer program has made tables that this one cannot live with.
    pub(crate) async fn tables(&self, connection: &mut Connection) -> Result<Tables, StoreError> {
        let (made, migrator) = match self {
            Self::Sqlite(_) => (sqlite::MADE, sqlite::migrator()),
            Self::Postgres(_) => (postgres::MADE, postgres::migrator()),
        };
        let made: i64 = sqlx::query(made).fetch_one(&mut *connection).await?.try_get(0)?;
        if made == 0 {
            return Ok(Tables::Missing);
        }
        if !are_applied(&migrator, connection).await? {
            return Ok(Tables::Older);
        }
        check_version(connection).await.map(|()| Tables::Present)
    }

    /// Empties the write-ahead log, which holds what was erased until then; `false` where others were busy with it for
    /// too long.
    pub(crate) async fn checkpoint(&self, connection: &mut Connection) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(_) => sqlite::checkpoint(connection).await,
            Self::Postgres(_) => Ok(true),
        }
    }
}

/// True where `blob` holds the bytes of parameter `n`.
pub(crate) fn blob_contains(dialect: &Dialect, blob: &str, n: usize) -> String {
    match dialect {
        Dialect::Sqlite(_) => format!("instr({blob}, ${n}) > 0"),
        Dialect::Postgres(_) => format!("position(${n} IN {blob}) > 0"),
    }
}

/// Ends a SELECT inside a write transaction whose rows it goes on to change, or whose absence of change it relies on.
/// SQLite's writer has the whole database to itself.
pub(crate) fn for_update(connection: &Connection) -> &'static str {
    if is_postgres(connection) { "FOR UPDATE" } else { "" }
}

/// Lets the commit of this transaction, which is nobody else's, return before it is on the disk: it is there with the
/// next commit that waits for that (<https://www.postgresql.org/docs/current/wal-async-commit.html>). SQLite's commits
/// are shared.
pub(crate) async fn flush_later(connection: &mut Connection) -> Result<(), StoreError> {
    if is_postgres(connection) {
        connection.execute("SET LOCAL synchronous_commit = off").await?;
    }
    Ok(())
}

/// Ends a SELECT of rows that are to go: those that somebody is at are left for the next time.
pub(crate) fn for_removal(dialect: &Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite(_) => "",
        Dialect::Postgres(_) => "FOR UPDATE SKIP LOCKED",
    }
}

/// Locks names until the transaction ends: for what has no row yet that could be locked. Always in one order, so that
/// two transactions with the same names cannot wait for each other.
pub(crate) async fn lock_names(connection: &mut Connection, names: &[String]) -> Result<(), StoreError> {
    if !is_postgres(connection) {
        return Ok(());
    }
    let mut keys: Vec<i64> = names.iter().map(|name| lock_key(name)).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(key).execute(&mut *connection).await?;
    }
    Ok(())
}

fn lock_key(name: &str) -> i64 {
    let digest = Sha256::digest(name.as_bytes());
    let mut key = [0; 8];
    key.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(key)
}

fn is_postgres(connection: &Connection) -> bool {
    connection.backend_name() == POSTGRES
}

pub(crate) fn judge(error: &dyn DatabaseError) -> Judgement {
    match error.try_downcast_ref::<PgDatabaseError>() {
        Some(error) => postgres::judge(error.code()),
        None if sqlite::may_work_later(error) => Judgement::Later,
        None => Judgement::Final,
    }
}

/// The database's words, without any value of a row or a statement.
pub(crate) fn words(error: &dyn DatabaseError) -> String {
    match error.try_downcast_ref::<PgDatabaseError>() {
        Some(error) => postgres::words(error),
        None => error.message().to_owned(),
    }
}

/// Applies what is missing, inside a transaction that nobody else can be in.
async fn apply(mut migrator: Migrator, transaction: &mut Connection) -> Result<(), StoreError> {
    // A version newer may have run its migrations already (rolling upgrade).
    migrator.set_ignore_missing(true);
    migrator.set_locking(false);
    migrator.run_direct(None, &mut *transaction, false).await.map_err(|error| {
        if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
            StoreError::from(error)
        } else {
            StoreError::Incompatible(error.to_string())
        }
    })?;
    check_version(transaction).await
}

/// Whether every migration of ours is applied.
async fn are_applied(migrator: &Migrator, connection: &mut Connection) -> Result<bool, StoreError> {
    let applied = sqlx::query("SELECT version, checksum FROM _sqlx_migrations WHERE success")
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| Ok((row.try_get::<i64, _>(0)?, row.try_get::<Vec<u8>, _>(1)?)))
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok(migrator.iter().all(|migration| {
        applied.iter().any(|(version, checksum)| {
            *version == migration.version && checksum.as_slice() == migration.checksum.as_ref()
        })
    }))
}

async fn check_version(connection: &mut Connection) -> Result<(), StoreError> {
    let oldest: String = sqlx::query("SELECT value FROM store_meta WHERE name = 'oldest_reader'")
        .fetch_one(connection)
        .await?
        .try_get(0)?;
    if oldest.parse::<i64>().is_ok_and(|oldest| oldest <= SCHEMA) {
        Ok(())
    } else {
        Err(StoreError::Incompatible(format!(
            "its tables are of version {oldest}, this program knows version {SCHEMA}; run a newer hookline"
        )))
    }
}
