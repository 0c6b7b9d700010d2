//! The writers of one kind of job. They take the waiting jobs, commit them together, and reconnect when their
//! connection breaks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::Connection as _;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::{Clock, Work, closed, no_answer};
use crate::db::dialect::{Begin, Connection, Dialect, Lane};
use crate::db::error::StoreError;

/// The size of a lane's queue. When the queue is full, callers wait to enter it.
const WAITING: usize = 1024;
/// How often a group is tried together, each time without the job that failed. After that, each job runs alone.
const TOGETHER: usize = 3;
/// How long a job alone is retried while other transactions are in its way.
const CONTENDED: Duration = Duration::from_millis(2500);
const CLOSING: Duration = Duration::from_secs(5);

pub(super) enum Message {
    /// A job and the key that its group is sorted by.
    Job(String, Box<dyn Job>),
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

/// The arguments that start a lane's writers. Jobs held up by other transactions go to the `contended` lane, where each
/// has a transaction of its own and holds up no other job.
pub(super) struct Start<'a> {
    pub(super) dialect: &'a Dialect,
    pub(super) clock: &'a Clock,
    pub(super) closing: &'a watch::Sender<bool>,
    pub(super) lane: Lane,
    pub(super) connection: Option<Connection>,
    pub(super) contended: Option<mpsc::WeakSender<Message>>,
}

impl Start<'_> {
    /// Starts the writers. They end when every sender is dropped or when the store closes, once all accepted jobs are
    /// written.
    pub(super) fn start(mut self) -> mpsc::Sender<Message> {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..self.lane.writers {
            let writer = Writer {
                dialect: self.dialect.clone(),
                clock: self.clock.clone(),
                closing: self.closing.subscribe(),
                lane: self.lane,
                connection: self.connection.take(),
                waiting: Arc::clone(&waiting),
                contended: self.contended.clone(),
            };
            tokio::spawn(writer.run());
        }
        jobs
    }
}

struct Writer {
    dialect: Dialect,
    clock: Clock,
    closing: watch::Receiver<bool>,
    lane: Lane,
    /// `None` before the first job, and after an error that leaves the connection's state in doubt. The next group
    /// opens a new connection.
    connection: Option<Connection>,
    waiting: Arc<Mutex<mpsc::Receiver<Message>>>,
    contended: Option<mpsc::WeakSender<Message>>,
}

/// Why a group was not committed. No change was made, except perhaps after `Late` and `Doubt`.
enum Failure {
    /// The job at this place failed; the connection is fine.
    Job(usize, StoreError),
    /// The database, or the network to it, is gone.
    Lost(StoreError),
    /// The database did not answer in time. If the commit was under way, it may have succeeded.
    Late(StoreError),
    /// The commit may have succeeded, or not.
    Doubt(StoreError),
}

type Jobs = Vec<Box<dyn Job>>;

impl Writer {
    async fn run(mut self) {
        let mut messages = Vec::with_capacity(self.lane.group);
        while self.take(&mut messages).await > 0 {
            let mut jobs = Vec::with_capacity(messages.len());
            let mut checkpoints = Vec::new();
            for message in messages.drain(..) {
                match message {
                    Message::Job(key, job) => jobs.push((key, job)),
                    Message::Checkpoint(reply) => checkpoints.push(reply),
                }
            }
            // Every process uses the same order, so that no two groups can deadlock.
            jobs.sort_by(|(a, _), (b, _)| a.cmp(b));
            self.commit_group(jobs.into_iter().map(|(_, job)| job).collect()).await;
            for reply in checkpoints {
                let done = match &mut self.connection {
                    Some(connection) => self.dialect.checkpoint(connection).await,
                    None => Ok(false),
                };
                let _ = reply.send(done);
            }
            if self.lane.begin == Begin::Long {
                // Long jobs come a few times an hour, so the connection is not kept.
                self.finish().await;
            }
        }
        self.finish().await;
    }

    /// Takes the waiting messages, or waits for the next. Returns 0 when the writer should end.
    async fn take(&mut self, messages: &mut Vec<Message>) -> usize {
        let receive = async { self.waiting.lock().await.recv_many(messages, self.lane.group).await };
        tokio::select! {
            biased;
            taken = receive => return taken,
            _ = self.closing.wait_for(|closing| *closing) => {}
        }
        let mut waiting = self.waiting.lock().await;
        waiting.close();
        waiting.recv_many(messages, self.lane.group).await
    }

    async fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            // On SQLite the last connection to close moves the WAL into the file; after an error, the next one does.
            let _ = tokio::time::timeout(CLOSING, connection.close()).await;
        }
    }

    async fn commit_group(&mut self, mut jobs: Jobs) {
        let mut alone = VecDeque::new();
        for _ in 0..TOGETHER {
            if jobs.len() <= 1 {
                break;
            }
            match self.commit_reconnecting(&mut jobs, self.lane.begin).await {
                Ok(()) => {
                    answer(std::mem::take(&mut jobs), &Ok(()));
                    break;
                }
                Err(Failure::Job(place, StoreError::Contended(_))) => self.pass_on(jobs.remove(place), &mut alone),
                Err(Failure::Job(place, _)) => alone.push_back(jobs.remove(place)),
                Err(Failure::Lost(error) | Failure::Late(error)) => {
                    self.give_up_waiting(&error);
                    return answer(jobs.into_iter().chain(alone).collect(), &Err(error));
                }
                Err(Failure::Doubt(error)) => {
                    answer(std::mem::take(&mut jobs), &Err(error));
                    break;
                }
            }
        }
        for job in jobs.into_iter().chain(alone) {
            self.commit_alone(job).await;
        }
    }

    async fn commit_alone(&mut self, job: Box<dyn Job>) {
        let mut job = vec![job];
        let begin = if self.lane.begin == Begin::Group { Begin::Alone } else { self.lane.begin };
        let clock = Instant::now();
        loop {
            match self.commit_reconnecting(&mut job, begin).await {
                Ok(()) => return answer(job, &Ok(())),
                // Retry after a deadlock that was resolved against us. A lock time-out lasts longer than `CONTENDED`,
                // so no job waits twice for a lock.
                Err(Failure::Job(_, StoreError::Contended(_)))
                    if begin != Begin::Sorted && clock.elapsed() < CONTENDED =>
                {
                    tokio::time::sleep(Duration::from_millis(rand::random_range(1..=20))).await;
                }
                Err(Failure::Lost(error) | Failure::Late(error)) => {
                    self.give_up_waiting(&error);
                    return answer(job, &Err(error));
                }
                Err(Failure::Job(_, error) | Failure::Doubt(error)) => return answer(job, &Err(error)),
            }
        }
    }

    /// Moves a job that another process's transaction holds up to a lane where it holds up no other job.
    fn pass_on(&self, job: Box<dyn Job>, alone: &mut VecDeque<Box<dyn Job>>) {
        let Some(lane) = self.contended.as_ref().and_then(mpsc::WeakSender::upgrade) else {
            return alone.push_back(job);
        };
        if let Err(full) = lane.try_send(Message::Job(String::new(), job)) {
            match full.into_inner() {
                Message::Job(_, job) => alone.push_back(job),
                Message::Checkpoint(_) => {}
            }
        }
    }

    /// Answers all waiting jobs with `error`: the database is away, and each would otherwise find that out in its own
    /// time.
    fn give_up_waiting(&self, error: &StoreError) {
        if !self.dialect.reconnects() {
            return;
        }
        // A writer that waits for jobs holds this lock; then there are none to answer.
        let Ok(mut waiting) = self.waiting.try_lock() else { return };
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

    /// Commits, and retries once on a new connection if nothing was committed and the kept connection was broken: an
    /// idle connection may have died long ago.
    async fn commit_reconnecting(&mut self, jobs: &mut Jobs, begin: Begin) -> Result<(), Failure> {
        let rested = self.connection.is_some() && self.dialect.reconnects();
        match self.commit_in_time(jobs, begin).await {
            Err(Failure::Lost(_)) if rested => self.commit_in_time(jobs, begin).await,
            outcome => outcome,
        }
    }

    async fn commit_in_time(&mut self, jobs: &mut Jobs, begin: Begin) -> Result<(), Failure> {
        match self.lane.deadline {
            None => self.commit(jobs, begin).await,
            Some(deadline) => match tokio::time::timeout(deadline, self.commit(jobs, begin)).await {
                Ok(outcome) => outcome,
                // The cancelled commit dropped its connection.
                Err(_) => Err(Failure::Late(no_answer())),
            },
        }
    }

    /// Commits all jobs in one transaction, or none.
    async fn commit(&mut self, jobs: &mut Jobs, begin: Begin) -> Result<(), Failure> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.dialect.connect_writer().await.map_err(Failure::Lost)?,
        };
        self.clock.measure(&self.dialect, &mut connection).await.map_err(Failure::Lost)?;
        let mut transaction =
            connection.begin_with(self.dialect.begin(begin)).await.map_err(|error| Failure::Lost(error.into()))?;
        for (place, job) in jobs.iter_mut().enumerate() {
            if let Err(error) = job.run(&mut transaction).await {
                if matches!(error, StoreError::Unavailable(_)) {
                    // The connection is dropped with its transaction. On SQLite, a lock wait that timed out ends here
                    // too.
                    return Err(Failure::Lost(error));
                }
                transaction.rollback().await.map_err(|error| Failure::Lost(error.into()))?;
                self.connection = Some(connection);
                return Err(Failure::Job(place, error));
            }
        }
        transaction.commit().await.map_err(|error| Failure::Doubt(error.into()))?;
        self.connection = Some(connection);
        Ok(())
    }
}

fn answer(jobs: Jobs, outcome: &Result<(), StoreError>) {
    for job in jobs {
        job.answer(outcome.clone());
    }
}
