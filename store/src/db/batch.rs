//! Batches the requests of many callers into one job, so that they share the cost of its statements.
//!
//! While one batch is being written, the next one fills. A single request costs no more than its job alone.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures::future::BoxFuture;
use hookline_common::task;
use tokio::sync::{mpsc, oneshot};

use super::{Db, Work, closed};
use crate::db::dialect::Connection;
use crate::db::error::StoreError;

/// The most requests in a batch; the limit keeps statements few and locks short.
const MOST: usize = 64;
/// The size of the queue. When the queue is full, callers wait to enter it.
const WAITING: usize = 1024;

/// A request that the store can carry out together with others.
pub(crate) trait Ask: Clone + Send + Sync + 'static {
    type Answer: Send + 'static;
    /// The names this request concerns. Requests that share a name never share a batch, because each must see the
    /// other's writes.
    fn about(&self) -> Vec<&str>;
    /// Whether each request needs rows of its own. If so, the rest of the batch can go on without a request whose row
    /// another transaction holds.
    const APART: bool;
}

type Answers<A> = Result<Vec<<A as Ask>::Answer>, StoreError>;
/// Writes a batch in one transaction and returns one answer per request, in the order of the requests.
type Write<A> = dyn Fn(Vec<A>) -> BoxFuture<'static, Answers<A>> + Send + Sync;

struct Waiting<A: Ask> {
    ask: A,
    reply: oneshot::Sender<Result<A::Answer, StoreError>>,
}

impl<A: Ask> Waiting<A> {
    fn answer(self, answer: Result<A::Answer, StoreError>) {
        // A cancelled caller no longer waits for the answer; the write stays.
        let _ = self.reply.send(answer);
    }
}

/// A handle; clones share the batches.
pub(crate) struct Batches<A: Ask>(mpsc::Sender<Waiting<A>>);

impl<A: Ask> Clone for Batches<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Ask> Batches<A> {
    /// Starts the task that writes the batches. The task ends when every handle is dropped.
    pub(crate) fn start<W>(db: &Db, work: W) -> Self
    where
        W: for<'c> Fn(&'c mut Connection, &'c Vec<A>) -> Work<'c, Vec<A::Answer>> + Clone + Send + Sync + 'static,
    {
        let (sender, waiting) = mpsc::channel(WAITING);
        let (db, failure) = (db.clone(), db.failure().clone());
        let write = move |asks: Vec<A>| -> BoxFuture<'static, Answers<A>> {
            let (db, work) = (db.clone(), work.clone());
            Box::pin(async move {
                if A::APART && asks.len() > 1 { db.write_batch(asks, work).await } else { db.write(asks, work).await }
            })
        };
        tokio::spawn(task::told_if_it_panics("a batch of the store", run(waiting, Arc::new(write)), move |why| {
            failure.report(&why);
        }));
        Self(sender)
    }

    pub(crate) async fn ask(&self, ask: A) -> Result<A::Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Waiting { ask, reply }).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

async fn run<A: Ask>(mut waiting: mpsc::Receiver<Waiting<A>>, write: Arc<Write<A>>) {
    let mut queue = VecDeque::new();
    loop {
        if queue.is_empty() {
            let mut taken = Vec::new();
            if waiting.recv_many(&mut taken, MOST).await == 0 {
                return;
            }
            queue.extend(taken);
        }
        while queue.len() < MOST
            && let Ok(next) = waiting.try_recv()
        {
            queue.push_back(next);
        }
        if let Err(away) = carry_out(next_batch(&mut queue), &write).await {
            // The database is away. Without this, each waiting batch would find that out in turn.
            while let Some(one) = queue.pop_front().or_else(|| waiting.try_recv().ok()) {
                one.answer(Err(away.clone()));
            }
        }
    }
}

/// Takes from the queue, in order of arrival, the requests that share no name with an earlier one.
fn next_batch<A: Ask>(queue: &mut VecDeque<Waiting<A>>) -> Vec<Waiting<A>> {
    let mut about = HashSet::new();
    let (mut batch, mut left) = (Vec::new(), VecDeque::new());
    for one in queue.drain(..) {
        let free = one.ask.about().iter().all(|name| !about.contains(*name));
        // The names of requests left behind count too: a later request must not overtake them.
        about.extend(one.ask.about().into_iter().map(str::to_owned));
        if free { batch.push(one) } else { left.push_back(one) }
    }
    *queue = left;
    batch
}

/// Writes a batch and answers its callers. Returns the error if the database is away.
async fn carry_out<A: Ask>(batch: Vec<Waiting<A>>, write: &Arc<Write<A>>) -> Result<(), StoreError> {
    let answers = write(batch.iter().map(|one| one.ask.clone()).collect()).await;
    let error = match answers {
        Ok(answers) => {
            for (one, answer) in batch.into_iter().zip(answers) {
                one.answer(Ok(answer));
            }
            return Ok(());
        }
        Err(error) => error,
    };
    let away = error.is_away();
    let in_the_way = matches!(error, StoreError::Contended(_));
    if batch.len() > 1 && !away && (A::APART || !in_the_way) {
        // One request cannot be written, or not now. We write each alone, so that the others neither fail nor wait with
        // it.
        for one in batch {
            let write = Arc::clone(write);
            tokio::spawn(async move {
                let answer = write(vec![one.ask.clone()]).await;
                one.answer(answer.and_then(|answers| answers.into_iter().next().ok_or_else(closed)));
            });
        }
        return Ok(());
    }
    for one in batch {
        one.answer(Err(error.clone()));
    }
    if away { Err(error) } else { Ok(()) }
}
