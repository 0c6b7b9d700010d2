//! A few connections for look-ups and lists, opened when needed. A connection whose state is in doubt (an error, a
//! cancelled caller, a database that does not answer) is never used again, and nobody waits for it.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::{Any, Connection as _, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{closed, no_answer};
use crate::db::dialect::{Begin, Connection, Dialect};
use crate::db::error::StoreError;

/// A connection that was idle for longer gets a ping before its next use: no server restarts faster.
const RESTED: Duration = Duration::from_millis(100);
const PING: Duration = Duration::from_secs(1);
/// A connection that was idle for this long is closed, because it is not worth its memory.
const FORGOTTEN: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct Readers {
    dialect: Dialect,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Readers {
    pub(super) fn new(dialect: &Dialect) -> Self {
        Self { dialect: dialect.clone(), permits: Arc::new(Semaphore::new(dialect.readers())), idle: Arc::default() }
    }

    pub(super) async fn acquire(&self) -> Result<Reader, StoreError> {
        let permit = tokio::time::timeout(self.dialect.reader_within(), Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| StoreError::Unavailable("no connection became free in time".to_owned()))?
            .map_err(|_| closed())?;
        let connection = match self.rested().await {
            Some(connection) => connection,
            None => self.dialect.connect_reader().await?,
        };
        Ok(Reader { connection, readers: self.clone(), _permit: permit })
    }

    /// Returns an idle connection that works.
    async fn rested(&self) -> Option<Connection> {
        loop {
            let Idle { mut connection, since } = self.lock().pop()?;
            let rested = since.elapsed();
            if rested < RESTED || !self.dialect.reconnects() {
                return Some(connection);
            }
            if rested < FORGOTTEN
                && tokio::time::timeout(PING, connection.ping()).await.is_ok_and(|answer| answer.is_ok())
            {
                return Some(connection);
            }
        }
    }

    pub(super) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.lock());
        for Idle { connection, .. } in idle {
            // If closing fails, the connection ends with the process.
            let _ = tokio::time::timeout(PING, connection.close()).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A read-only connection. It is closed if dropped without [`Reader::give_back`].
pub(crate) struct Reader {
    pub(crate) connection: Connection,
    readers: Readers,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// Begins a transaction whose reads all see the same moment. The caller rolls it back, then gives the reader back.
    pub(crate) async fn snapshot(&mut self) -> Result<Transaction<'_, Any>, StoreError> {
        let begin = self.readers.dialect.begin(Begin::Snapshot);
        within(self.readers.dialect.read_deadline(), self.connection.begin_with(begin)).await
    }

    /// Returns the connection for reuse. The caller must have read every answer to its end.
    pub(crate) fn give_back(self) {
        let Self { connection, readers, _permit } = self;
        if !readers.permits.is_closed() {
            readers.lock().push(Idle { connection, since: Instant::now() });
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
