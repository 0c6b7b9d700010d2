//! Writers with group commit, a few readers.
//!
//! Every write is a job: a function of a connection that a writer runs inside a transaction. Jobs that wait while a
//! commit is on its way to the disk share the next one, so that the price of an fsync (and of a network) is paid once
//! for all of them. A job must be a function of its arguments alone: where one of a group fails, the group is rolled
//! back, and that job runs again in a transaction of its own. A caller hears of success only after the commit.
//!
//! SQLite has one writer at a time. On PostgreSQL several work side by side, here and in other processes, and what
//! keeps them from waiting for one another in a circle is the [`Turn`] that each job names.

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

/// What a write does with its connection.
pub(crate) type Work<'c, T> = BoxFuture<'c, Result<T, StoreError>>;

/// Which locks a job takes, and so with which others it may share a transaction.
pub(crate) enum Turn {
    /// One row, named so that a group takes its locks in the order of the names, as every other group does.
    Row(String),
    /// Many such rows, locked in the order of their names: never with others, and not at all where one is held.
    Sorted,
    /// The head of the ledger, and nothing but what it protects.
    Ledger,
    /// Several rows or names: never with others.
    Alone,
    /// Many rows, perhaps all of a table: never with others, and it may take its time.
    Long,
}

impl Turn {
    /// One row of a table by its key.
    pub(crate) fn row(table: &str, key: &[&str]) -> Self {
        Self::Row(format!("{table} {}", key.join(" ")))
    }

    /// A delivery's row, in the order in which the history locks many of them.
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
    /// `connection` becomes a writer's; the others are made when needed.
    pub(crate) fn start(dialect: Dialect, connection: Connection, clock: Clock) -> Self {
        let lanes = dialect.lanes();
        let closing = Arc::new(watch::Sender::new(false));
        let open = |lane: Lane, connection, contended| {
            Start { dialect: &dialect, clock: &clock, closing: &closing, lane, connection, contended }.start()
        };
        // Where a kind of job has no writers of its own, it goes where single rows go.
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

    /// Tells the time by which leases are measured.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Runs `work` in a write transaction; the changes are on the disk when it returns.
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

    /// All rows of a look-up that is quick on any amount of data: what was committed before it starts.
    pub(crate) async fn rows(&self, query: Query<'_, Any, AnyArguments>) -> Result<Vec<DbRow>, StoreError> {
        let mut reader = self.reader().await?;
        let rows = self.within(query.fetch_all(&mut reader.connection)).await?;
        reader.give_back();
        Ok(rows)
    }

    /// At most one row of a look-up.
    pub(crate) async fn row(&self, query: Query<'_, Any, AnyArguments>) -> Result<Option<DbRow>, StoreError> {
        let mut reader = self.reader().await?;
        let row = self.within(query.fetch_optional(&mut reader.connection)).await?;
        reader.give_back();
        Ok(row)
    }

    /// A connection that can only read.
    pub(crate) async fn reader(&self) -> Result<Reader, StoreError> {
        self.readers.acquire().await
    }

    /// Gives up what takes too long on a database that may be gone.
    pub(crate) async fn within<T, E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<T, StoreError>
    where
        StoreError: From<E>,
    {
        readers::within(self.dialect.read_deadline(), read).await
    }

    /// As [`Db::within`], for what looks at every row of a table.
    pub(crate) async fn within_long<T, E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<T, StoreError>
    where
        StoreError: From<E>,
    {
        readers::within(self.dialect.long_deadline(), read).await
    }

    /// Moves what was committed into the file and empties the log beside it; `false` where readers did not let it.
    /// A server's log and dead rows are its own affair (archiving, vacuum).
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
