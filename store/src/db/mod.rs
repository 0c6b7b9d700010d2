//! Writers, batches, and reads, over a few connections.
//!
//! Every write is a job: a function of a connection that a writer runs inside a transaction. A caller gets its success
//! only after the commit is on the disk. A job must depend on its arguments alone, since it may run again.
//!
//! On PostgreSQL each job has a transaction of its own, and several writers work side by side, here and in other
//! processes. Jobs lock rows in the order of their names; the few that deadlock all the same run again. Reads and writes
//! share one pool of connections. SQLite has one writer at a time, so there the jobs that wait share one transaction and
//! its fsync.
//!
//! What many callers ask at once becomes one job ([`Batches`]).

mod batch;
mod clock;
pub(crate) mod dialect;
pub(crate) mod error;
pub(crate) mod failure;
pub(crate) mod page;
mod pool;
pub(crate) mod row;
pub(crate) mod statements;
mod writer;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, Connection as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

pub(crate) use self::batch::{Ask, Batches};
pub(crate) use self::clock::Clock;
use self::pool::{Access, Pool};
pub(crate) use self::pool::{Pooled, within};
use self::writer::{Message, Typed, Writer};
use crate::db::dialect::{Begin, Connection, DbRow, Dialect};
use crate::db::error::StoreError;
use crate::db::failure::FirstFailure;

/// The future of a write on its connection.
pub(crate) type Work<'c, T> = BoxFuture<'c, Result<T, StoreError>>;

#[derive(Clone)]
pub(crate) struct Db {
    jobs: mpsc::Sender<Message>,
    long_jobs: mpsc::Sender<Message>,
    closing: Arc<watch::Sender<bool>>,
    writers: TaskTracker,
    write_pool: Pool,
    read_pool: Pool,
    clock: Clock,
    dialect: Dialect,
}

impl Db {
    /// Starts the writers. The pool takes `connection`; others are opened when they are first needed.
    pub(crate) fn start(dialect: Dialect, connection: Connection, clock: Clock) -> Self {
        let (closing, writers) = (Arc::new(watch::Sender::new(false)), TaskTracker::new());
        let failure = FirstFailure::default();
        let write_pool = Pool::new(&dialect, Access::Write, dialect.connections(), &failure);
        write_pool.keep(connection);
        let read_pool = dialect
            .readers()
            .map_or_else(|| write_pool.clone(), |most| Pool::new(&dialect, Access::Read, most, &failure));
        let (pool, closed) = (write_pool.clone(), closing.subscribe());
        let writer = Writer { dialect: dialect.clone(), clock: clock.clone(), pool, closing: closed };
        let jobs = writer.start(dialect.connections(), &writers);
        // On a server a long job, of which a few come in an hour, must not hold up the others.
        let long_jobs = if dialect.is_shared() { writer.start(1, &writers) } else { jobs.clone() };
        Self { jobs, long_jobs, closing, writers, write_pool, read_pool, clock, dialect }
    }

    pub(crate) fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// What ended this store, if anything did.
    pub(crate) fn failure(&self) -> &FirstFailure {
        self.write_pool.failure()
    }

    /// The clock that measures leases.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Runs `work` in a write transaction. The changes are on the disk when this returns.
    pub(crate) async fn write<A, T, F>(&self, arguments: A, work: F) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'c> Fn(&'c mut Connection, &'c A) -> Work<'c, T> + Send + Sync + 'static,
    {
        self.run(&self.jobs, Begin::Write, arguments, work).await
    }

    /// As [`Db::write`], for the requests of many callers: fails soon, with [`StoreError::Contended`], if another
    /// transaction holds one of the rows.
    async fn write_batch<A, T, F>(&self, arguments: A, work: F) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'c> Fn(&'c mut Connection, &'c A) -> Work<'c, T> + Send + Sync + 'static,
    {
        self.run(&self.jobs, Begin::Batch, arguments, work).await
    }

    /// As [`Db::write`], for many rows, perhaps a whole table.
    pub(crate) async fn write_long<A, T, F>(&self, arguments: A, work: F) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'c> Fn(&'c mut Connection, &'c A) -> Work<'c, T> + Send + Sync + 'static,
    {
        self.run(&self.long_jobs, Begin::Long, arguments, work).await
    }

    async fn run<A, T, F>(
        &self,
        jobs: &mpsc::Sender<Message>,
        begin: Begin,
        arguments: A,
        work: F,
    ) -> Result<T, StoreError>
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
        jobs.send(Message::Job(begin, Box::new(job))).await.map_err(|_| closed())?;
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

    /// Returns all rows of a read that looks through much of a table.
    pub(crate) async fn rows_long(&self, query: Query<'_, Any, AnyArguments>) -> Result<Vec<DbRow>, StoreError> {
        let mut reader = self.reader().await?;
        let rows = self.within_long(query.fetch_all(&mut reader.connection)).await?;
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

    /// Returns a connection to read with.
    pub(crate) async fn reader(&self) -> Result<Pooled, StoreError> {
        self.read_pool.acquire().await
    }

    /// Fails with `Unavailable` if `read` takes too long, because the database may be gone.
    pub(crate) async fn within<T, E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<T, StoreError>
    where
        StoreError: From<E>,
    {
        let read = within(self.dialect.read_deadline(), read).await;
        read.inspect_err(|error| self.failure().see(error))
    }

    /// As [`Db::within`], with the deadline for reads of a whole table.
    pub(crate) async fn within_long<T, E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<T, StoreError>
    where
        StoreError: From<E>,
    {
        let read = within(self.dialect.long_deadline(), read).await;
        read.inspect_err(|error| self.failure().see(error))
    }

    /// Moves committed changes into the file and empties the WAL. Returns `false` if readers prevented that. On a
    /// server, which manages its own log and dead rows (archiving, vacuum), this does nothing.
    pub(crate) async fn checkpoint(&self) -> Result<bool, StoreError> {
        if self.dialect.is_shared() {
            return Ok(true);
        }
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Message::Checkpoint(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Writes a copy of an SQLite file that shows one moment.
    pub(crate) async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let Some(path) = path.to_str().filter(|_| !self.dialect.is_shared()) else {
            return Err(StoreError::Invalid(
                "only an SQLite store is copied, to a path that is valid UTF-8".to_owned(),
            ));
        };
        // A connection of its own: it may write, while those of the pool for reading may not.
        let mut connection = self.dialect.connect_writer().await?;
        sqlx::query("VACUUM INTO $1").bind(path).execute(&mut connection).await?;
        connection.close().await.map_err(StoreError::from)
    }

    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        self.writers.close();
        self.writers.wait().await;
        self.write_pool.close().await;
        self.read_pool.close().await;
    }
}

fn no_answer() -> StoreError {
    StoreError::Unavailable("the database did not answer in time".to_owned())
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".to_owned())
}
