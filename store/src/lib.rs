//! The store: deliveries, effects, the opt-out ledger, history, dead letters, gates, the built-in records.
//!
//! Workers and the command line share it; ingest does not use it. Either one SQLite file in `data_dir`
//! (WAL, `synchronous=FULL`), or a PostgreSQL database for any number of machines. Several processes have it open at
//! once: whatever decides who may go on (a claim, a lock, the order of the ledger) is decided inside one write
//! transaction, never from what was read before it. What differs between the two is in `db/dialect/`.
//!
//! - [`model`]: what goes in and comes out. Everything else is a method of [`Store`], in one folder per subject.
//! - Writes go through writers with group commit, and are on the disk when their method returns. A caller that is
//!   cancelled, or hears that the store is not available, may have written all the same: repeating changes nothing.
//! - Errors say whether the same request may succeed later ([`StoreError::is_unavailable`]).
//! - Phone numbers are in clear in the ledger, the opt-out state, contact links, the records, and where the
//!   worker makes one an effect key: the operator's data. No error, log line or audit row holds one.

mod db;
mod deliveries;
mod effects;

pub mod model;
mod operations;
mod opt_outs;
mod records;

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

/// Where the store is.
#[derive(Clone, Debug)]
pub enum Location {
    /// `store.db` in this data directory.
    Sqlite(PathBuf),
    /// A PostgreSQL server: `postgres://…`, TLS as its `sslmode` says.
    Url(Secret),
}

#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub location: Location,
    /// Keys the chain of the opt-out ledger. A store is opened with the key it was made with.
    pub ledger_key: Secret,
}

/// What [`Store::open_if_there`] found.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a command makes one")]
pub enum Found {
    Store(Store),
    /// No file, or a database without tables of ours.
    Nothing,
    /// Tables of an earlier version: whoever is going to write there brings them up to date, not who only looks.
    Older,
}

/// A handle; clones share the connections.
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
    /// Makes the file where it is missing and brings its tables up to date. Must be called in a tokio runtime,
    /// which then runs the writer.
    ///
    /// # Errors
    /// `Incompatible` where a newer program's tables are there or the ledger was begun with another key,
    /// `Unavailable` where the file cannot be opened now, `Invalid` for a location that cannot be used.
    pub async fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let dialect = match &options.location {
            Location::Sqlite(data_dir) => Dialect::sqlite(data_dir)?,
            Location::Url(url) => Dialect::postgres(url)?,
        };
        let mut connection = dialect.connect_writer().await?;
        dialect.migrate(&mut connection).await?;
        state::rebuild_once(&dialect, &mut connection).await?;
        kind::settle_old(&mut connection).await?;
        let store = Self::on(dialect, connection, &options.ledger_key).await?;
        store.check_ledger_key().await?;
        Ok(store)
    }

    /// Opens what is there: makes no file, no table, no key, and changes none. `ledger_key` is `None` where there is no
    /// key at hand.
    ///
    /// # Errors
    /// As [`Store::open`]; `Incompatible` where a store is there and its ledger's key is not.
    pub async fn open_if_there(location: &Location, ledger_key: Option<&Secret>) -> Result<Found, StoreError> {
        let dialect = match location {
            Location::Sqlite(data_dir) => match Dialect::sqlite_if_there(data_dir)? {
                Some(dialect) => dialect,
                None => return Ok(Found::Nothing),
            },
            Location::Url(url) => Dialect::postgres(url)?,
        };
        // By a connection that can't write: a file that somebody has begun to make must stay as it is.
        let mut look = dialect.connect_reader().await?;
        let tables = db::within(dialect.read_deadline(), dialect.tables(&mut look)).await?;
        let is_derived = matches!(tables, Tables::Present) && state::is_present(&mut look).await?;
        // What is left of it ends with the process.
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

    /// Now, by the clock that all processes on this store share.
    #[must_use]
    pub fn now(&self) -> hookline_common::time::Timestamp {
        self.db.clock().now()
    }

    /// Whether processes on other machines may work on it at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.db.dialect().is_shared()
    }

    /// Waits for the writes that were accepted, then closes; later calls on any clone are `Unavailable`. Dropping
    /// the last clone does the same without the wait.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
