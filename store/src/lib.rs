//! The store: deliveries, effects, the opt-out ledger, history, dead letters, gates, the built-in records.
//!
//! Workers and the command line share the store; ingest does not use it. The store is either one SQLite file in
//! `data_dir` (WAL, `synchronous=FULL`), or a PostgreSQL database for any number of machines. Several processes have it
//! open at once. Every decision about which of them may go on (a claim, a lock, the order of the ledger) is therefore
//! made inside one write transaction, never from an earlier read. The differences between the two databases are in
//! `db/dialect/`.
//!
//! - [`model`] holds the types of arguments and results. Everything else is a method of [`Store`], in one folder per
//!   subject.
//! - Writes are on the disk when their method returns (`db`). If a caller is cancelled or gets "not available", the
//!   write may still have happened; repeating it changes nothing.
//! - Errors say whether the same request may succeed later ([`StoreError::is_unavailable`]).
//! - Phone numbers are stored in clear text in the ledger, the opt-out state, contact links, the records, and effect
//!   keys that the worker makes from one. They are the operator's data. No error, log line or audit row holds a phone
//!   number.

mod db;
mod deliveries;
mod effects;

pub mod model;
mod operations;
mod opt_outs;
mod records;
mod threads;

use std::path::PathBuf;
use std::sync::Arc;

use hookline_common::secret::Secret;

use crate::db::dialect::{Connection, Dialect, Tables};
pub use crate::db::error::StoreError;
use crate::db::{Batches, Clock, Db};
use crate::deliveries::attempts::{self, BeginAsk, FinishAsk};
use crate::deliveries::parked::{self, ParkAsk};
use crate::effects::claims::{self, Wanted};
use crate::effects::completed::{self, CompletedEffect, SendAsk};
use crate::operations::kind;
pub use crate::operations::kind::StoreKind;
use crate::opt_outs::asks::{self, OptAsk};
use crate::opt_outs::ledger::LedgerKey;
pub use crate::opt_outs::ledger_key::{ledger_key_file, ledger_key_if_there};
use crate::opt_outs::state;

/// The location of the store.
#[derive(Clone, Debug)]
pub enum Location {
    /// The directory that holds `store.db`.
    Sqlite(PathBuf),
    Postgres {
        /// `postgres://…`; its `sslmode` decides about TLS.
        url: Secret,
        /// The most connections at a time, at least 1.
        connections: usize,
    },
}

#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub location: Location,
    /// The key of the opt-out ledger's hash chain. A store must always be opened with the key it was created with.
    pub ledger_key: Secret,
}

/// The result of [`Store::open_if_there`].
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a command makes one")]
pub enum Found {
    Store(Store),
    /// There is no file, or the database has none of our tables.
    Nothing,
    /// The tables are of an earlier version. A process that writes migrates them; a process that only reads does not.
    Older,
}

/// Returns the most connections that the server, the database and the role allow, all clients together; `None` for
/// SQLite.
///
/// # Errors
/// `Unavailable` if the server does not answer, `Invalid` if the location cannot be used.
pub async fn connections_allowed(location: &Location) -> Result<Option<i64>, StoreError> {
    match location {
        Location::Sqlite(_) => Ok(None),
        Location::Postgres { url, connections } => Dialect::postgres(url, *connections)?.connections_allowed().await,
    }
}

/// A handle to the store; clones share the connections.
#[derive(Clone)]
pub struct Store {
    db: Db,
    ledger_key: Arc<LedgerKey>,
    opt_asks: Batches<OptAsk>,
    begins: Batches<BeginAsk>,
    finishes: Batches<FinishAsk>,
    parks: Batches<ParkAsk>,
    claims: Batches<Wanted>,
    sends: Batches<SendAsk>,
    completions: Batches<CompletedEffect>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store, creates a missing file, and migrates the tables. Must be called in a tokio runtime, which then
    /// runs the writer.
    ///
    /// # Errors
    /// `Incompatible` if the tables are those of a newer program or the ledger was begun with another key,
    /// `Unavailable` if the store cannot be opened now, `Invalid` if the location cannot be used.
    pub async fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let dialect = match &options.location {
            Location::Sqlite(data_dir) => Dialect::sqlite(data_dir)?,
            Location::Postgres { url, connections } => Dialect::postgres(url, *connections)?,
        };
        let mut connection = dialect.connect_writer().await?;
        dialect.migrate(&mut connection).await?;
        state::rebuild_once(&dialect, &mut connection).await?;
        kind::settle_old(&mut connection).await?;
        let store = Self::on(dialect, connection, &options.ledger_key).await?;
        store.check_ledger_key().await?;
        Ok(store)
    }

    /// Opens an existing store. Creates no file, table or key, and changes none. `ledger_key` is `None` if the caller
    /// has no key.
    ///
    /// # Errors
    /// As for [`Store::open`]; also `Incompatible` if a store exists but `ledger_key` is `None`.
    pub async fn open_if_there(location: &Location, ledger_key: Option<&Secret>) -> Result<Found, StoreError> {
        let dialect = match location {
            Location::Sqlite(data_dir) => match Dialect::sqlite_if_there(data_dir)? {
                Some(dialect) => dialect,
                None => return Ok(Found::Nothing),
            },
            Location::Postgres { url, connections } => Dialect::postgres(url, *connections)?,
        };
        // This connection cannot write: a file that another process has begun to create must stay as it is.
        let mut look = dialect.connect_reader().await?;
        let tables = db::within(dialect.read_deadline(), dialect.tables(&mut look)).await?;
        let is_derived = matches!(tables, Tables::Present) && state::is_present(&mut look).await?;
        // If closing fails, the connection ends with the process.
        let _ = sqlx::Connection::close(look).await;
        match tables {
            Tables::Missing => return Ok(Found::Nothing),
            Tables::Older => return Ok(Found::Older),
            Tables::Present if !is_derived => return Ok(Found::Older),
            Tables::Present => {}
        }
        let ledger_key = ledger_key.ok_or_else(|| {
            StoreError::Incompatible(
                "the key of its opt-out ledger is not here; give it as [store] ledger_key, or restore ledger.key in \
                 data_dir"
                    .to_owned(),
            )
        })?;
        let connection = dialect.connect_writer().await?;
        let store = Self::on(dialect, connection, ledger_key).await?;
        store.compare_ledger_key().await?;
        Ok(Found::Store(store))
    }

    async fn on(dialect: Dialect, mut connection: Connection, ledger_key: &Secret) -> Result<Self, StoreError> {
        let clock = Clock::default();
        clock.measure(&dialect, &mut connection).await?;
        let ledger_key = Arc::new(LedgerKey::new(ledger_key)?);
        let db = Db::start(dialect, connection, clock);
        Ok(Self {
            opt_asks: asks::start(&db, &ledger_key),
            begins: attempts::begins(&db),
            finishes: attempts::finishes(&db),
            parks: parked::parks(&db),
            claims: claims::claims(&db),
            sends: completed::sends(&db),
            completions: completed::completions(&db),
            db,
            ledger_key,
        })
    }

    /// Returns the time of the clock that all processes on this store share.
    #[must_use]
    pub fn now(&self) -> hookline_common::time::Timestamp {
        self.db.clock().now()
    }

    /// Whether processes on other machines may use this store at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.db.dialect().is_shared()
    }

    /// Writes a consistent copy of an SQLite store to `path`, which must not exist, while other processes go on. Needs as
    /// much room as the store.
    ///
    /// # Errors
    /// `Invalid` if the store is on a server or `path` cannot be written; otherwise see [`StoreError`].
    pub async fn copy_to(&self, path: &std::path::Path) -> Result<(), StoreError> {
        self.db.copy_to(path).await
    }

    /// Follows what has ended this store for good: its file is gone or damaged, its disk fails, or a task of it panicked.
    #[must_use]
    pub fn failure(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.db.failure().follow()
    }

    /// Waits for all accepted writes, then closes the store; later calls on any clone are `Unavailable`. Dropping the
    /// last clone does the same without waiting.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
