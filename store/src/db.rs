//! One writer with group commit, a few readers.
//!
//! Every write is a job: a function of a connection that the writer runs inside a transaction. Jobs that wait while
//! a commit is on its way to the disk share the next one, so that the price of an fsync is paid once for all of
//! them. A job must be a function of its arguments alone: where one of a group fails, the group is rolled back
//! and each of its jobs runs again in a transaction of its own. A caller hears of success only after the commit.

use futures::future::BoxFuture;
use sqlx::Connection as _;
use tokio::sync::{mpsc, oneshot};

use crate::dialect::{self, BEGIN_WRITE, Connection, Dialect, Pool};
use crate::error::StoreError;

/// Jobs that share a commit; a group must stay short beside the command line's writes.
const GROUP: usize = 64;
/// Jobs that wait; above it callers wait before they queue.
const WAITING: usize = 1024;

/// What a write does with its connection.
pub(crate) type Work<'c, T> = BoxFuture<'c, Result<T, StoreError>>;

#[derive(Clone)]
pub(crate) struct Db {
    jobs: mpsc::Sender<Message>,
    readers: Pool,
}

enum Message {
    Job(Box<dyn Job>),
    Checkpoint(oneshot::Sender<Result<bool, StoreError>>),
    Close(oneshot::Sender<()>),
}

impl Db {
    /// `connection` becomes the writer's.
    pub(crate) fn start(dialect: Dialect, connection: Connection) -> Self {
        let readers = dialect.readers();
        let (jobs, waiting) = mpsc::channel(WAITING);
        tokio::spawn(Writer { dialect, connection: Some(connection), waiting }.run());
        Self { jobs, readers }
    }

    /// Runs `work` in a write transaction; the changes are on the disk when it returns.
    pub(crate) async fn write<A, T, F>(&self, arguments: A, work: F) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'c> Fn(&'c mut Connection, &'c A) -> Work<'c, T> + Send + Sync + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Typed { arguments, work, result: None, reply };
        self.jobs.send(Message::Job(Box::new(job))).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Where lists and look-ups read: what was committed before they start.
    pub(crate) fn readers(&self) -> &Pool {
        &self.readers
    }

    /// Moves what was committed into the file and empties the log beside it; `false` where readers did not let it.
    pub(crate) async fn checkpoint(&self) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Message::Checkpoint(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    pub(crate) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.jobs.send(Message::Close(reply)).await.is_ok() {
            // An error means that the writer has ended, which is what was asked for.
            let _ = closed.await;
        }
        self.readers.close().await;
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".to_owned())
}

/// A write that waits, with whoever waits for it.
trait Job: Send {
    fn run<'c>(&'c mut self, connection: &'c mut Connection) -> BoxFuture<'c, Result<(), StoreError>>;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Typed<A, T, F> {
    arguments: A,
    work: F,
    result: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<A, T, F> Job for Typed<A, T, F>
where
    A: Send + Sync,
    T: Send,
    F: for<'c> Fn(&'c mut Connection, &'c A) -> Work<'c, T> + Send + Sync,
{
    fn run<'c>(&'c mut self, connection: &'c mut Connection) -> BoxFuture<'c, Result<(), StoreError>> {
        Box::pin(async move {
            self.result = Some((self.work)(connection, &self.arguments).await?);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        // Nobody waits where the caller was cancelled; what was written stays.
        let _ = reply.send(committed.and_then(|()| result.ok_or_else(closed)));
    }
}

struct Writer {
    dialect: Dialect,
    /// `None` after an error that leaves its state in doubt: the next group opens another.
    connection: Option<Connection>,
    waiting: mpsc::Receiver<Message>,
}

impl Writer {
    async fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        while self.waiting.recv_many(&mut group, GROUP).await > 0 {
            let mut jobs = Vec::with_capacity(group.len());
            let mut checkpoints = Vec::new();
            let mut close = None;
            for message in group.drain(..) {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Checkpoint(reply) => checkpoints.push(reply),
                    Message::Close(reply) => close = Some(reply),
                }
            }
            self.commit_group(jobs).await;
            for reply in checkpoints {
                let done = match &mut self.connection {
                    Some(connection) => dialect::checkpoint(connection).await,
                    None => Ok(false),
                };
                let _ = reply.send(done);
            }
            if let Some(reply) = close {
                if let Some(connection) = self.connection.take() {
                    // The last connection to close moves the WAL into the file; an error leaves that to the next.
                    let _ = connection.close().await;
                }
                let _ = reply.send(());
                return;
            }
        }
    }

    async fn commit_group(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let outcome = self.commit(&mut jobs).await;
        let alone = jobs.len() <= 1;
        match outcome {
            Err(error) if !alone && !error.is_unavailable() => {
                for job in jobs {
                    let mut one = vec![job];
                    let outcome = self.commit(&mut one).await;
                    answer(one, &outcome);
                }
            }
            outcome => answer(jobs, &outcome),
        }
    }

    /// All of them in one transaction, or none.
    async fn commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.dialect.connect_writer().await?,
        };
        let mut transaction = connection.begin_with(BEGIN_WRITE).await?;
        for job in jobs {
            if let Err(error) = job.run(&mut transaction).await {
                transaction.rollback().await?;
                self.keep_unless_broken(connection, &error);
                return Err(error);
            }
        }
        transaction.commit().await?;
        self.connection = Some(connection);
        Ok(())
    }

    fn keep_unless_broken(&mut self, connection: Connection, error: &StoreError) {
        if !error.is_unavailable() {
            self.connection = Some(connection);
        }
    }
}

fn answer(jobs: Vec<Box<dyn Job>>, outcome: &Result<(), StoreError>) {
    for job in jobs {
        job.answer(outcome.clone());
    }
}
