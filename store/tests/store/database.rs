//! SQLite: each store has a directory of its own.

use std::path::Path;
use std::time::Duration;

use hookline_common::secret::Secret;
use hookline_store::{Found, Location, Store, StoreError, StoreOptions};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tempfile::TempDir;

pub(crate) const KEY: &str = "a ledger key for tests only";

/// How many random histories to try.
pub(crate) const CASES: u32 = 48;

pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) home: TempDir,
}

impl TestStore {
    pub(crate) async fn new() -> Self {
        let home = TempDir::new().expect("a directory");
        let store = open(home.path(), KEY).await.expect("a store");
        Self { store, home }
    }

    /// Makes a directory without a store.
    pub(crate) async fn nowhere() -> TempDir {
        TempDir::new().expect("a directory")
    }

    pub(crate) async fn open_at(home: &TempDir) -> Result<Store, StoreError> {
        open(home.path(), KEY).await
    }

    /// Opens the store like a command that only reads.
    pub(crate) async fn look_at(home: &TempDir, key: Option<&str>) -> Result<Found, StoreError> {
        let location = Location::Sqlite(home.path().to_owned());
        Store::open_if_there(&location, key.map(Secret::new).as_ref()).await
    }

    /// Opens another handle on the same file with a writer of its own, as another process would have.
    pub(crate) async fn other(&self) -> Store {
        self.open(KEY).await.expect("a second handle")
    }

    pub(crate) async fn open(&self, key: &str) -> Result<Store, StoreError> {
        open(self.home.path(), key).await
    }

    /// Opens a connection that bypasses the store, for tampering and for reading tables.
    pub(crate) async fn sql(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.home.path().join("store.db"))
            .busy_timeout(Duration::from_secs(10))
            .connect()
            .await
            .expect("a connection")
    }

    pub(crate) async fn execute(&self, statement: &'static str) {
        sqlx::query(statement).execute(&mut self.sql().await).await.expect(statement);
    }

    /// Drops the triggers, as somebody with the file would do to change the ledger.
    pub(crate) async fn drop_triggers(&self) {
        self.execute("DROP TRIGGER opt_ledger_is_never_updated").await;
        self.execute("DROP TRIGGER opt_ledger_is_never_deleted").await;
        self.execute("DROP TRIGGER opt_ledger_is_never_replaced").await;
    }
}

pub(crate) async fn open(data_dir: &Path, key: &str) -> Result<Store, StoreError> {
    Store::open(StoreOptions { location: Location::Sqlite(data_dir.to_owned()), ledger_key: Secret::new(key) }).await
}
