//! PostgreSQL: each store has a database of its own, on the one server of this test process.

use hookline_common::secret::Secret;
use hookline_common::testing::nodes::PostgresNode;
use hookline_store::{Found, Location, Store, StoreError, StoreOptions};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};

pub(crate) const KEY: &str = "a ledger key for tests only";

/// How many random histories to try: few, because each needs a database of its own and the queries are the same.
pub(crate) const CASES: u32 = 8;

pub(crate) struct TestStore {
    pub(crate) store: Store,
    /// The URL of the store's database.
    pub(crate) home: String,
}

impl TestStore {
    pub(crate) async fn new() -> Self {
        let home = Self::nowhere().await;
        let store = Self::open_at(&home).await.expect("a store");
        Self { store, home }
    }

    /// Returns the URL of a database without a store.
    pub(crate) async fn nowhere() -> String {
        PostgresNode::shared().await.database().await
    }

    pub(crate) async fn open_at(home: &str) -> Result<Store, StoreError> {
        open(home, KEY).await
    }

    /// Opens the store like a command that only reads.
    pub(crate) async fn look_at(home: &str, key: Option<&str>) -> Result<Found, StoreError> {
        let location = Location::Postgres { url: Secret::new(home), connections: 5 };
        Store::open_if_there(&location, key.map(Secret::new).as_ref()).await
    }

    /// Opens another handle with connections of its own, as another process would have.
    pub(crate) async fn other(&self) -> Store {
        self.open(KEY).await.expect("a second handle")
    }

    pub(crate) async fn open(&self, key: &str) -> Result<Store, StoreError> {
        open(&self.home, key).await
    }

    /// Opens another handle with so many connections.
    pub(crate) async fn with_connections(&self, connections: usize) -> Store {
        let location = Location::Postgres { url: Secret::new(self.home.as_str()), connections };
        Store::open(StoreOptions { location, ledger_key: Secret::new(KEY) }).await.expect("a handle")
    }

    /// Opens a connection that bypasses the store, for tampering and for reading tables.
    pub(crate) async fn sql(&self) -> PgConnection {
        PgConnection::connect(&self.home).await.expect("a connection")
    }

    pub(crate) async fn execute(&self, statement: &'static str) {
        self.sql().await.execute(sqlx::raw_sql(statement)).await.expect(statement);
    }

    /// Drops the triggers, as an owner of the tables would do to change the ledger.
    pub(crate) async fn drop_triggers(&self) {
        self.execute(
            "DROP TRIGGER opt_ledger_is_never_updated ON opt_ledger;
             DROP TRIGGER opt_ledger_is_never_deleted ON opt_ledger",
        )
        .await;
    }
}

pub(crate) async fn open(url: &str, key: &str) -> Result<Store, StoreError> {
    Store::open(StoreOptions {
        location: Location::Postgres { url: Secret::new(url), connections: 5 },
        ledger_key: Secret::new(key),
    })
    .await
}
