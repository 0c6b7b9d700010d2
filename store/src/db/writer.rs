//! The writers: each takes the jobs that wait, and commits them on a connection of the pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use hookline_common::task;
use hookline_common::testing::crash_point;
use sqlx::Connection as _;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::pool::{Pool, Pooled};
use super::{Clock, Work, closed, no_answer};
use crate::db::dialect::{Begin, Connection, Dialect};
use crate::db::error::StoreError;

/// The size of a queue of jobs. When the queue is full, callers wait to enter it.
const WAITING: usize = 1024;
/// How long a job is retried while other transactions are in its way.
const CONTENDED: Duration = Duration::from_millis(2500);

pub(super) enum Message {
    Job(Begin, Box<dyn Job>),
    Checkpoint(oneshot::Sender<Result<bool, StoreError>>),
}

/// A write that waits, and the caller that waits for it.
pub(super) trait Job: Send {
    fn run<'c>(&'c mut self, connection: &'c mut Connection) -> BoxFuture<'c, Result<(), StoreError>>;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

pub(super) struct Typed<A, T, F> {
    pub(super) arguments: A,
    pub(super) work: F,
    pub(super) result: Option<T>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
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
        // A cancelled caller no longer waits for the answer; the write stays.
        let _ = reply.send(committed.and_then(|()| result.ok_or_else(closed)));
    }
}

/// What every writer of a store needs.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) dialect: Dialect,
    pub(super) clock: Clock,
    pub(super) pool: Pool,
    pub(super) closing: watch::Receiver<bool>,
}

/// The jobs that wait for the writers of one queue.
type Waiting = Arc<Mutex<mpsc::Receiver<Message>>>;

/// Why jobs were not committed.
enum Failure {
    /// A job failed, and nothing was changed; the connection is fine.
    Job(StoreError),
    /// The database, or the network to it, is gone, or it did not answer in time. If the commit was under way then, it
    /// may have succeeded.
    Away(StoreError),
    /// The commit may have succeeded, or not.
    Doubt(StoreError),
}

type Jobs = Vec<Box<dyn Job>>;

impl Writer {
    /// Starts the writers of one queue. They end when every sender is dropped or when the store closes, once all
    /// accepted jobs are written.
    pub(super) fn start(&self, writers: usize, tasks: &TaskTracker) -> mpsc::Sender<Message> {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..writers {
            let failure = self.pool.failure().clone();
            let run = self.clone().run(Arc::clone(&waiting));
            tasks.spawn(task::told_if_it_panics("a writer of the store", run, move |why| failure.report(&why)));
        }
        jobs
    }

    async fn run(mut self, waiting: Waiting) {
        let mut messages = Vec::new();
        while self.take(&waiting, &mut messages).await > 0 {
            let (mut jobs, mut checkpoints) = (Vec::with_capacity(messages.len()), Vec::new());
            for message in messages.drain(..) {
                match message {
                    Message::Job(begin, job) => jobs.push((begin, job)),
                    Message::Checkpoint(reply) => checkpoints.push(reply),
                }
            }
            // A file is there again for the next job: another process's lock, say, has ended.
            if let Err(away) = self.commit_all(jobs).await
                && self.dialect.reconnects()
            {
                give_up_waiting(&waiting, &away);
            }
            for reply in checkpoints {
                let _ = reply.send(self.checkpoint().await);
            }
        }
    }

    /// Takes the waiting messages, or waits for the next. Returns 0 when the writer should end.
    async fn take(&mut self, waiting: &Waiting, messages: &mut Vec<Message>) -> usize {
        let most = self.dialect.jobs_together();
        let receive = async { waiting.lock().await.recv_many(messages, most).await };
        tokio::select! {
            biased;
            taken = receive => return taken,
            _ = self.closing.wait_for(|closing| *closing) => {}
        }
        let mut waiting = waiting.lock().await;
        waiting.close();
        waiting.recv_many(messages, most).await
    }

    async fn checkpoint(&self) -> Result<bool, StoreError> {
        let mut pooled = self.pool.acquire().await?;
        let done = self.dialect.checkpoint(&mut pooled.connection).await?;
        pooled.give_back();
        Ok(done)
    }

    /// Commits the jobs in one transaction. If one of them fails, each has a transaction of its own. Returns the error
    /// if the database is away.
    async fn commit_all(&self, jobs: Vec<(Begin, Box<dyn Job>)>) -> Result<(), StoreError> {
        let (begins, mut jobs): (Vec<_>, Jobs) = jobs.into_iter().unzip();
        if jobs.len() > 1 {
            let outcome = self.commit_in_time(&mut jobs, Begin::Write).await;
            if !matches!(outcome, Err(Failure::Job(_))) {
                return answer(jobs, outcome);
            }
        }
        let mut away = Ok(());
        for (begin, job) in begins.into_iter().zip(jobs) {
            // Each is tried, and each caller gets an answer of its own.
            away = self.commit_alone(begin, job).await.and(away);
        }
        away
    }

    async fn commit_alone(&self, begin: Begin, job: Box<dyn Job>) -> Result<(), StoreError> {
        let mut job = vec![job];
        let clock = Instant::now();
        loop {
            let outcome = self.commit_in_time(&mut job, begin).await;
            // A batch is divided instead. A lock time-out lasts longer than `CONTENDED`, so no job waits twice for a
            // lock; a deadlock that was resolved against this job is over.
            let is_again = matches!(outcome, Err(Failure::Job(StoreError::Contended(_)))) && begin != Begin::Batch;
            if !is_again || clock.elapsed() >= CONTENDED {
                return answer(job, outcome);
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(1..=20))).await;
        }
    }

    async fn commit_in_time(&self, jobs: &mut Jobs, begin: Begin) -> Result<(), Failure> {
        let outcome = match self.dialect.deadline(begin) {
            None => self.commit(jobs, begin).await,
            Some(deadline) => match tokio::time::timeout(deadline, self.commit(jobs, begin)).await {
                Ok(outcome) => outcome,
                // The cancelled commit dropped its connection.
                Err(_) => Err(Failure::Away(no_answer())),
            },
        };
        if let Err(Failure::Job(error) | Failure::Away(error) | Failure::Doubt(error)) = &outcome {
            self.pool.failure().see(error);
        }
        outcome
    }

    /// Commits, and does so once more on a new connection if a kept one turned out to be broken before the commit.
    async fn commit(&self, jobs: &mut Jobs, begin: Begin) -> Result<(), Failure> {
        let pooled = self.pool.acquire().await.map_err(Failure::Away)?;
        let may_be_broken = pooled.was_kept && self.dialect.reconnects();
        match self.commit_on(pooled, jobs, begin).await {
            Err(Failure::Away(_)) if may_be_broken => {
                self.pool.forget_idle();
                let pooled = self.pool.acquire().await.map_err(Failure::Away)?;
                self.commit_on(pooled, jobs, begin).await
            }
            outcome => outcome,
        }
    }

    /// Commits all jobs in one transaction, or none.
    async fn commit_on(&self, mut pooled: Pooled, jobs: &mut Jobs, begin: Begin) -> Result<(), Failure> {
        let connection = &mut pooled.connection;
        self.clock.measure(&self.dialect, connection).await.map_err(Failure::Away)?;
        let mut transaction =
            connection.begin_with(self.dialect.begin(begin)).await.map_err(|error| Failure::Away(error.into()))?;
        for job in jobs.iter_mut() {
            if let Err(error) = job.run(&mut transaction).await {
                if error.is_away() {
                    // The connection is dropped with its transaction. On SQLite, a lock wait that timed out ends here
                    // too.
                    return Err(Failure::Away(error));
                }
                transaction.rollback().await.map_err(|error| Failure::Away(error.into()))?;
                pooled.give_back();
                return Err(Failure::Job(error));
            }
        }
        crash_point("store.committing");
        transaction.commit().await.map_err(|error| Failure::Doubt(error.into()))?;
        // Nobody is told that a write is stored whose file is no longer at its path.
        pooled.check_files().map_err(Failure::Away)?;
        pooled.give_back();
        Ok(())
    }
}

/// Answers the callers of the jobs. Returns the error if the database is away.
fn answer(jobs: Jobs, outcome: Result<(), Failure>) -> Result<(), StoreError> {
    let (error, away) = match outcome {
        Ok(()) => (None, None),
        Err(Failure::Away(error)) => (Some(error.clone()), Some(error)),
        Err(Failure::Job(error) | Failure::Doubt(error)) => (Some(error), None),
    };
    for job in jobs {
        job.answer(error.clone().map_or(Ok(()), Err));
    }
    away.map_or(Ok(()), Err)
}

/// Answers all waiting jobs with `error`: the database is away, and each would otherwise find that out in its own time.
fn give_up_waiting(waiting: &Waiting, error: &StoreError) {
    // A writer that waits for jobs holds this lock; then there are none to answer.
    let Ok(mut waiting) = waiting.try_lock() else { return };
    for _ in 0..waiting.len() {
        match waiting.try_recv() {
            Ok(Message::Job(_, job)) => job.answer(Err(error.clone())),
            Ok(Message::Checkpoint(reply)) => {
                let _ = reply.send(Err(error.clone()));
            }
            Err(_) => return,
        }
    }
}
