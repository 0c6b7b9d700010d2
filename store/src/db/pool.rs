//! Connections that are opened when needed and kept for the next caller. A connection whose state is in doubt (an
//! error, a cancelled caller, a database that does not answer) is never used again, and nobody waits for it.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hookline_common::held_file::HeldFile;
use sqlx::{Any, Connection as _, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{closed, no_answer};
use crate::db::dialect::{Begin, Connection, Dialect};
use crate::db::error::StoreError;
use crate::db::failure::FirstFailure;

/// A connection that was idle for longer gets a ping before its next use: no server restarts faster.
const RESTED: Duration = Duration::from_millis(100);
const PING: Duration = Duration::from_secs(1);
/// A connection to a server that was idle for this long is closed, because it is not worth its memory.
const FORGOTTEN: Duration = Duration::from_secs(60);
const CLOSING: Duration = Duration::from_secs(5);

/// What the connections of a pool may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    Read,
}

/// A handle; clones share the connections.
#[derive(Clone)]
pub(super) struct Pool {
    dialect: Dialect,
    access: Access,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
    failure: FirstFailure,
}

struct Idle {
    connection: Connection,
    since: Instant,
    log: Option<HeldFile>,
}

impl Pool {
    /// `failure` is what ended the store, if anything did.
    pub(super) fn new(dialect: &Dialect, access: Access, connections: usize, failure: &FirstFailure) -> Self {
        let permits = Arc::new(Semaphore::new(connections));
        Self { dialect: dialect.clone(), access, permits, idle: Arc::default(), failure: failure.clone() }
    }

    pub(super) fn failure(&self) -> &FirstFailure {
        &self.failure
    }

    pub(super) async fn acquire(&self) -> Result<Pooled, StoreError> {
        self.failure.check()?;
        let permit = tokio::time::timeout(self.dialect.free_within(), Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| StoreError::Unavailable("no connection became free in time".to_owned()))?
            .map_err(|_| closed())?;
        let kept = self.idle_one().await;
        let was_kept = kept.is_some();
        let (connection, log) = match kept {
            Some(kept) => kept,
            None => (self.connect().await.inspect_err(|error| self.failure.see(error))?, None),
        };
        let pooled = Pooled { connection, was_kept, log, pool: self.clone(), _permit: permit };
        pooled.check_files()?;
        Ok(pooled)
    }

    async fn connect(&self) -> Result<Connection, StoreError> {
        match self.access {
            Access::Read => self.dialect.connect_reader().await,
            Access::Write => self.dialect.connect_writer().await,
        }
    }

    /// Returns an idle connection that works, and the log that it used.
    async fn idle_one(&self) -> Option<(Connection, Option<HeldFile>)> {
        loop {
            let Idle { mut connection, since, log } = self.lock().pop()?;
            let rested = since.elapsed();
            if rested < RESTED || !self.dialect.reconnects() {
                return Some((connection, log));
            }
            if rested < FORGOTTEN
                && tokio::time::timeout(PING, connection.ping()).await.is_ok_and(|answer| answer.is_ok())
            {
                return Some((connection, log));
            }
        }
    }

    /// Keeps a connection for the next caller.
    pub(super) fn keep(&self, connection: Connection) {
        let log = self.dialect.log();
        self.lock().push(Idle { connection, since: Instant::now(), log });
    }

    /// Drops the idle connections: one of them was broken.
    pub(super) fn forget_idle(&self) {
        self.lock().clear();
    }

    /// Closes the idle connections. Those in use end when they are given back.
    pub(super) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.lock());
        for Idle { connection, .. } in idle {
            // If closing fails, the connection ends with the process. On SQLite the last connection to close moves the
            // WAL into the file; after an error, the next one does.
            let _ = tokio::time::timeout(CLOSING, connection.close()).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A connection of a pool. It is closed if dropped without [`Pooled::give_back`].
pub(crate) struct Pooled {
    pub(crate) connection: Connection,
    /// Whether it was opened for an earlier caller, so that it may be broken.
    pub(super) was_kept: bool,
    /// The write-ahead log as it was when an earlier caller gave the connection back.
    log: Option<HeldFile>,
    pool: Pool,
    _permit: OwnedSemaphorePermit,
}

impl Pooled {
    /// Begins a transaction whose reads all see the same moment. The caller rolls it back, then gives the connection
    /// back.
    pub(crate) async fn snapshot(&mut self) -> Result<Transaction<'_, Any>, StoreError> {
        let begin = self.pool.dialect.begin(Begin::Snapshot);
        within(self.pool.dialect.read_deadline(), self.connection.begin_with(begin)).await
    }

    /// # Errors
    /// `Failed` if a file that the connection uses is no longer at its path.
    pub(super) fn check_files(&self) -> Result<(), StoreError> {
        let lost = self.pool.dialect.lost_file().or_else(|| self.log.as_ref().and_then(HeldFile::lost));
        lost.map_or(Ok(()), |why| {
            self.pool.failure.report(&why);
            Err(StoreError::Failed(why))
        })
    }

    /// Returns the connection for reuse. The caller must have read every answer to its end.
    pub(crate) fn give_back(self) {
        let Self { connection, pool, .. } = self;
        if !pool.permits.is_closed() {
            pool.keep(connection);
        }
    }
}

/// Fails with `Unavailable` if `read` takes longer than `deadline`, because the database may be gone.
pub(crate) async fn within<T, E>(
    deadline: Option<Duration>,
    read: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError>
where
    StoreError: From<E>,
{
    match deadline {
        None => Ok(read.await?),
        Some(deadline) => match tokio::time::timeout(deadline, read).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(no_answer()),
        },
    }
}
