//! Writers with group commit, and a few readers.
//!
//! Every write is a job: a function of a connection that a writer runs inside a transaction. Jobs that arrive while a
//! commit is on its way to the disk share the next commit, so that they pay for an fsync (and a network round trip)
//! once. A job must depend on its arguments alone: if one job of a group fails, the group is rolled back, and that job
//! runs again in a transaction of its own. A caller gets its success only after the commit.
//!
//! SQLite has one writer at a time. On PostgreSQL several writers work side by side, here and in other processes. The
//! [`Turn`] that each job names keeps them from deadlocks.

mod batch;
mod clock;
pub(crate) mod dialect;
pub(crate) mod error;
pub(crate) mod page;
mod readers;
pub(crate) mod row;
pub(crate) mod statements;
mod writer;

use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::batch::{Ask, Batches};
pub(crate) use self::clock::Clock;
use self::readers::Readers;
pub(crate) use self::readers::{Reader, within};
use self::writer::{Message, Start, Typed};
use crate::db::dialect::{Connection, DbRow, Dialect, Lane};
use crate::db::error::StoreError;

/// The future of a write on its connection.
pub(crate) type Work<'c, T> = BoxFuture<'c, Result<T, StoreError>>;

/// The locks a job takes, which decide the jobs it may share a transaction with. On SQLite, which has one writer, all
/// jobs may share one.
pub(crate) enum Turn {
    /// One row. A group takes its locks in the order of these names, as every other group does.
    Row(String),
    /// Many such rows, locked in the order of their names. The job has a transaction of its own, and fails if another
    /// transaction holds one of the rows.
    Sorted,
    /// The head of the ledger, and only rows that this lock protects.
    Ledger,
    /// Several rows or names. The job has a transaction of its own.
    Alone,
    /// Many rows, perhaps a whole table. The job has a transaction of its own and may take long.
    Long,
}

impl Turn {
    /// The turn for one row of a table, by its key.
    pub(crate) fn row(table: &str, key: &[&str]) -> Self {
        Self::Row(format!("{table} {}", key.join(" ")))
    }

    /// The turn for a delivery's row. Its name sorts in the order in which the history locks many deliveries.
    pub(crate) fn delivery(event_id: &str, handler: &str) -> Self {
        Self::row("deliveries", &[event_id, handler])
    }
}

#[derive(Clone)]
pub(crate) struct Db {
    rows: mpsc::Sender<Message>,
    sorted: mpsc::Sender<Message>,
    alone: mpsc::Sender<Message>,
    ledger: mpsc::Sender<Message>,
    long: mpsc::Sender<Message>,
    closing: Arc<watch::Sender<bool>>,
    readers: Readers,
    clock: Clock,
    dialect: Dialect,
}

impl Db {
    /// Starts the writers and readers. One writer takes `connection`; the others connect when they are first needed.
    pub(crate) fn start(dialect: Dialect, connection: Connection, clock: Clock) -> Self {
        let lanes = dialect.lanes();
        let closing = Arc::new(watch::Sender::new(false));
        let open = |lane: Lane, connection, contended| {
            Start { dialect: &dialect, clock: &clock, closing: &closing, lane, connection, contended }.start()
        };
        // A kind of job without writers of its own goes to the writers of single rows.
        let alone = lanes.alone.map(|lane| open(lane, None, None));
        let rows = open(lanes.rows, Some(connection), alone.as_ref().map(mpsc::Sender::downgrade));
        let sorted = lanes.sorted.map_or_else(|| rows.clone(), |lane| open(lane, None, None));
        let ledger = lanes.ledger.map_or_else(|| rows.clone(), |lane| open(lane, None, None));
        let long = lanes.long.map_or_else(|| rows.clone(), |lane| open(lane, None, None));
        let alone = alone.unwrap_or_else(|| rows.clone());
        let readers = Readers::new(&dialect);
        Self { rows, sorted, alone, ledger, long, closing, readers, clock, dialect }
    }

    pub(crate) fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// The clock that measures leases.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Runs `work` in a write transaction. The changes are on the disk when this returns.
    pub(crate) async fn write<A, T, F>(&self, turn: Turn, arguments: A, work: F) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'c> Fn(&'c mut Connection, &'c A) -> Work<'c, T> + Send + Sync + 'static,
    {
        if *self.closing.borrow() {
            return Err(closed());
        }
        let (reply, answer) = oneshot::channel();
        let job = Typed { arguments, work, result: None, reply };
        let (lane, key) = match turn {
            Turn::Row(key) => (&self.rows, key),
            Turn::Sorted => (&self.sorted, String::new()),
            Turn::Ledger => (&self.ledger, String::new()),
            Turn::Alone => (&self.alone, String::new()),
            Turn::Long => (&self.long, String::new()),
        };
        lane.send(Message::Job(key, Box::new(job))).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Returns all rows of a look-up that is quick on any amount of data. The look-up sees everything committed before
    /// its start.
    pub(crate) async fn rows(&self, query: Query<'_, Any, AnyArguments>) -> Result<Vec<DbRow>, StoreError> {
        let mut reader = self.reader().await?;
        let rows = self.within(query.fetch_all(&mut reader.connection)).await?;
        reader.give_back();
        Ok(rows)
    }

    /// Returns at most one row of a look-up.
    pub(crate) async fn row(&self, query: Query<'_, Any, AnyArguments>) -> Result<Option<DbRow>, StoreError> {
        let mut reader = self.reader().await?;
        let row = self.within(query.fetch_optional(&mut reader.connection)).await?;
        reader.give_back();
        Ok(row)
    }

    /// Returns a read-only connection.
    pub(crate) async fn reader(&self) -> Result<Reader, StoreError> {
        self.readers.acquire().await
    }

    /// Fails with `Unavailable` if `read` takes too long, because the database may be gone.
    pub(crate) async fn within<T, E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<T, StoreError>
    where
        StoreError: From<E>,
    {
        readers::within(self.dialect.read_deadline(), read).await
    }

    /// As [`Db::within`], with the deadline for reads of a whole table.
    pub(crate) async fn within_long<T, E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<T, StoreError>
    where
        StoreError: From<E>,
    {
        readers::within(self.dialect.long_deadline(), read).await
    }

    /// Moves committed changes into the file and empties the WAL. Returns `false` if readers prevented that. On a
    /// server, which manages its own log and dead rows (archiving, vacuum), this does nothing.
    pub(crate) async fn checkpoint(&self) -> Result<bool, StoreError> {
        if self.dialect.is_shared() {
            return Ok(true);
        }
        let (reply, answer) = oneshot::channel();
        self.rows.send(Message::Checkpoint(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        for lane in [&self.rows, &self.sorted, &self.alone, &self.ledger, &self.long] {
            lane.closed().await;
        }
        self.readers.close().await;
    }
}

fn no_answer() -> StoreError {
    StoreError::Unavailable("the database did not answer in time".to_owned())
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".to_owned())
}
