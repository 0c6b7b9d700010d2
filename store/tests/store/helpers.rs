//! A store in a directory of its own, and builders that set only what a test is about.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hookline_common::broker::DeadLetterInfo;
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::names::{DeadReason, Destination, HandlerName, Verdict};
use hookline_common::phone::Phone;
use hookline_common::secret::Secret;
use hookline_common::time::Timestamp;
use hookline_store::model::AttemptRecord;
use hookline_store::{Location, Store, StoreError, StoreOptions};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tempfile::TempDir;

pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) dir: TempDir,
}

impl TestStore {
    pub(crate) async fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let store = open(dir.path()).await.expect("a store");
        Self { store, dir }
    }

    /// Another handle on the same file, with a writer of its own: another process's worth.
    pub(crate) async fn other(&self) -> Store {
        open(self.dir.path()).await.expect("a second handle")
    }

    /// A connection that goes round the store, for tampering and for looking at tables.
    pub(crate) async fn sql(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.dir.path().join("store.db"))
            .busy_timeout(Duration::from_secs(10))
            .connect()
            .await
            .expect("a connection")
    }

    pub(crate) async fn execute(&self, statement: &'static str) {
        sqlx::query(statement).execute(&mut self.sql().await).await.expect(statement);
    }
}

pub(crate) async fn open(data_dir: &Path) -> Result<Store, StoreError> {
    open_with_key(data_dir, "a ledger key for tests only").await
}

pub(crate) async fn open_with_key(data_dir: &Path, key: &str) -> Result<Store, StoreError> {
    Store::open(StoreOptions { location: Location::Sqlite(data_dir.to_owned()), ledger_key: Secret::new(key) }).await
}

pub(crate) fn textus() -> SourceName {
    SourceName::new("textus").expect("a name")
}

pub(crate) fn id_of(name: &str) -> EventId {
    EventId::derive(&textus(), Some(name), b"")
}

pub(crate) fn event(name: &str) -> Event {
    event_at(name, Timestamp::now(), b"{}")
}

pub(crate) fn event_at(name: &str, received_at: Timestamp, body: &[u8]) -> Event {
    Event {
        id: id_of(name),
        source: textus(),
        source_event_id: Some(name.to_owned()),
        event_type: EventType::new("message.received"),
        received_at,
        content_type: Some("application/json".to_owned()),
        request_id: None,
        traceparent: None,
        body: Bytes::copy_from_slice(body),
    }
}

pub(crate) fn phone() -> Phone {
    Phone::parse("+12025550147").expect("a number")
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
}

pub(crate) fn attempt(event: &Event, handler: HandlerName, attempt: u32, verdict: Verdict) -> AttemptRecord {
    AttemptRecord {
        event_id: event.id.clone(),
        handler,
        attempt,
        started_at: Timestamp::now(),
        duration: Duration::from_millis(12),
        verdict,
        detail: None,
        requests: Vec::new(),
    }
}

pub(crate) fn dead(reason: DeadReason, dead_lettered_at: Timestamp) -> DeadLetterInfo {
    DeadLetterInfo {
        reason,
        destination: Some(Destination::TextUs),
        status: Some(422),
        detail: "the number is not textable".to_owned(),
        attempts: 3,
        dead_lettered_at,
    }
}
