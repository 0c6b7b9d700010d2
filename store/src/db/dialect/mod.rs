//! The differences between the databases: how to connect, lock and migrate, and what an error means.
//!
//! Statements elsewhere use only what SQLite and PostgreSQL both accept: `$n` parameters, BIGINT, TEXT, BLOB, ON
//! CONFLICT … RETURNING, row values, and CASE instead of the two-argument MAX. They name their columns, because a
//! prepared `SELECT *` fails after another version's migration.

mod postgres;
mod sqlite;

use std::path::Path;
use std::time::Duration;

use hookline_common::held_file::HeldFile;
use hookline_common::secret::Secret;
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgDatabaseError;

use postgres::Postgres;
use sqlite::Sqlite;

use crate::db::error::StoreError;

pub(crate) type Connection = sqlx::AnyConnection;
pub(crate) type DbRow = sqlx::any::AnyRow;

/// The number of this program's newest migration.
const SCHEMA: i64 = 10;
const POSTGRES: &str = "PostgreSQL";

/// Which of our tables a database has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    Missing,
    /// At least one of our migrations is not applied.
    Older,
    Present,
}

/// The location of the database and the options of its connections.
#[derive(Clone)]
pub(crate) enum Dialect {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// How a transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Write,
    /// One write for many callers, which fails soon if another transaction holds one of its rows.
    Batch,
    /// A write that touches many rows.
    Long,
    /// Reads that must all see the same moment.
    Snapshot,
}

/// What a caller may do about a database error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The error is permanent: the statement or its values are wrong.
    Final,
    /// Time or a person fixes the cause.
    Later,
    /// What was written may be gone, or cannot be read any more.
    Failed,
    /// Other transactions were in the way; the connection is fine.
    Contended,
}

impl Dialect {
    pub(crate) fn sqlite(data_dir: &Path) -> Result<Self, StoreError> {
        Sqlite::new(data_dir).map(Self::Sqlite)
    }

    /// `None` if there is no file.
    pub(crate) fn sqlite_if_there(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        Ok(Sqlite::if_there(data_dir)?.map(Self::Sqlite))
    }

    pub(crate) fn postgres(url: &Secret, connections: usize) -> Result<Self, StoreError> {
        Postgres::new(url, connections).map(Self::Postgres)
    }

    /// The most connections that write at a time.
    pub(crate) const fn connections(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1,
            Self::Postgres(postgres) => postgres.connections(),
        }
    }

    /// The most jobs that share a transaction. On a server they would hold each other's locks.
    pub(crate) const fn jobs_together(&self) -> usize {
        match self {
            Self::Sqlite(_) => sqlite::JOBS_TOGETHER,
            Self::Postgres(_) => 1,
        }
    }

    /// How long a transaction may take before we give it up together with its connection. `None`: the database enforces
    /// a limit.
    pub(crate) const fn deadline(&self, begin: Begin) -> Option<Duration> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(_) => Some(postgres::deadline(begin)),
        }
    }

    pub(crate) async fn connect_writer(&self) -> Result<Connection, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.connect_writer().await,
            Self::Postgres(postgres) => postgres.connect_writer().await,
        }
    }

    pub(crate) async fn connect_reader(&self) -> Result<Connection, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.connect_reader().await,
            Self::Postgres(postgres) => postgres.connect_reader().await,
        }
    }

    /// The most read-only connections at a time. `None`: reads share the connections that write.
    pub(crate) const fn readers(&self) -> Option<usize> {
        match self {
            Self::Sqlite(_) => Some(sqlite::READERS),
            Self::Postgres(_) => None,
        }
    }

    /// How long a caller waits for a free connection.
    pub(crate) const fn free_within(&self) -> Duration {
        match self {
            Self::Sqlite(_) => sqlite::BUSY,
            Self::Postgres(_) => postgres::CONNECT,
        }
    }

    pub(crate) const fn begin(&self, begin: Begin) -> &'static str {
        match self {
            Self::Sqlite(_) => match begin {
                Begin::Write | Begin::Batch | Begin::Long => sqlite::BEGIN_WRITE,
                Begin::Snapshot => "BEGIN",
            },
            Self::Postgres(_) => postgres::begin(begin),
        }
    }

    /// How long a read may take before its connection is given up. `None`: the database enforces a limit.
    pub(crate) const fn read_deadline(&self) -> Option<Duration> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(_) => Some(postgres::READ_DEADLINE),
        }
    }

    /// As `read_deadline`, for reads of a whole table.
    pub(crate) const fn long_deadline(&self) -> Option<Duration> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(_) => Some(postgres::LONG),
        }
    }

    /// Returns what happened to the store's file if it is no longer at its path.
    pub(crate) fn lost_file(&self) -> Option<String> {
        match self {
            Self::Sqlite(sqlite) => sqlite.lost_file(),
            Self::Postgres(_) => None,
        }
    }

    /// Returns the write-ahead log as it is now. As long as a connection is open that has used it, no other process
    /// removes it in order.
    pub(crate) fn log(&self) -> Option<HeldFile> {
        match self {
            Self::Sqlite(sqlite) => sqlite.log(),
            Self::Postgres(_) => None,
        }
    }

    /// Whether a connection that broke before its commit is replaced at once and the work repeated.
    pub(crate) const fn reconnects(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Whether other machines may use the database. If so, a process cannot know which claims belong to dead processes.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// How far the database's clock is ahead of this machine's, in milliseconds. Leases of several machines need one
    /// clock.
    pub(crate) async fn clock_ahead(&self, connection: &mut Connection) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(0),
            Self::Postgres(_) => postgres::clock_ahead(connection).await,
        }
    }

    /// Migrates the tables to this program's version. Several processes may try at once.
    ///
    /// # Errors
    /// `Incompatible` if a newer program made tables that this one cannot use.
    pub(crate) async fn migrate(&self, connection: &mut Connection) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => sqlite::migrate(connection).await,
            Self::Postgres(_) => {
                postgres::check_encoding(connection).await?;
                postgres::migrate(connection).await
            }
        }
    }

    /// The most connections that a server allows, all clients together; `None` without a server.
    pub(crate) async fn connections_allowed(&self) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(postgres) => {
                let mut connection = postgres.connect_reader().await?;
                let asked = postgres::connections_allowed(&mut connection);
                let allowed = super::within(self.read_deadline(), asked).await?;
                // If closing fails, the connection ends with the process.
                let _ = sqlx::Connection::close(connection).await;
                Ok(Some(allowed))
            }
        }
    }

    /// Reports which tables exist; changes nothing.
    ///
    /// # Errors
    /// `Incompatible` if a newer program made tables that this one cannot use, or the database cannot hold every text.
    pub(crate) async fn tables(&self, connection: &mut Connection) -> Result<Tables, StoreError> {
        if matches!(self, Self::Postgres(_)) {
            postgres::check_encoding(connection).await?;
        }
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

    /// Empties the write-ahead log, which until then still holds erased data. Returns `false` if other connections kept
    /// the log busy for too long.
    pub(crate) async fn checkpoint(&self, connection: &mut Connection) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(_) => sqlite::checkpoint(connection).await,
            Self::Postgres(_) => Ok(true),
        }
    }
}

/// An SQL condition that is true if `blob` contains the bytes of parameter `n`.
pub(crate) fn blob_contains(dialect: &Dialect, blob: &str, n: usize) -> String {
    match dialect {
        Dialect::Sqlite(_) => format!("instr({blob}, ${n}) > 0"),
        Dialect::Postgres(_) => format!("position(${n} IN {blob}) > 0"),
    }
}

/// The end of a SELECT in a write transaction that goes on to change the rows, or that relies on nobody changing them.
/// SQLite needs none, because its writer has the whole database to itself.
pub(crate) fn for_update(connection: &Connection) -> &'static str {
    if is_postgres(connection) { "FOR UPDATE" } else { "" }
}

/// The end of a SELECT of rows to delete. Rows that another transaction holds are left for the next time.
pub(crate) fn for_removal(dialect: &Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite(_) => "",
        Dialect::Postgres(_) => "FOR UPDATE SKIP LOCKED",
    }
}

/// Locks names until the transaction ends, for things that have no row to lock yet. The order is always the same, so
/// that two transactions with the same names cannot deadlock.
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
        None => sqlite::judge(error),
    }
}

/// The database's message, without any value of a row or a statement.
pub(crate) fn words(error: &dyn DatabaseError) -> String {
    match error.try_downcast_ref::<PgDatabaseError>() {
        Some(error) => postgres::words(error),
        None => error.message().to_owned(),
    }
}

/// Applies the missing migrations inside a transaction that excludes all others.
async fn apply(mut migrator: Migrator, transaction: &mut Connection) -> Result<(), StoreError> {
    // During a rolling upgrade, a newer version may already have run its migrations.
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

/// Whether all our migrations are applied.
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
