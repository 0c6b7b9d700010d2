//! Collects what many callers ask at once into one job, whose statements are then paid for once for all of them.
//!
//! While one batch is written, the next one fills. Asked one by one, it costs what the job alone would.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{Db, Turn, Work, closed};
use crate::db::dialect::{self, Connection};
use crate::db::error::StoreError;

/// What a batch holds at most: few statements, and short locks.
const MOST: usize = 64;
/// Above it callers wait before they queue.
const WAITING: usize = 1024;

/// Something that is asked of the store, together with others.
pub(crate) trait Ask: Clone + Send + Sync + 'static {
    type Answer: Send + 'static;
    /// No two that share one of these are in one batch: each must see what the other wrote.
    fn about(&self) -> Vec<&str>;
    /// Which locks it takes alone.
    fn turn(&self) -> Turn;
    /// Which locks they take together.
    fn turn_of(asks: &[Self]) -> Turn {
        match asks {
            [one] => one.turn(),
            _ => Turn::Sorted,
        }
    }
    /// Whether each needs rows of its own: where one is held by others, the rest of its batch can go on without it.
    const APART: bool;
    /// Whether it is enough that a batch is on the disk with the next commit that is: nothing is done outside the
    /// store, and no delivery is settled, before something else was written.
    const LATER: bool;
}

type Answers<A> = Result<Vec<<A as Ask>::Answer>, StoreError>;
/// Writes a batch in one transaction; one answer each, in their order.
type Write<A> = dyn Fn(Vec<A>) -> BoxFuture<'static, Answers<A>> + Send + Sync;

struct Waiting<A: Ask> {
    ask: A,
    reply: oneshot::Sender<Result<A::Answer, StoreError>>,
}

impl<A: Ask> Waiting<A> {
    fn answer(self, answer: Result<A::Answer, StoreError>) {
        // Nobody waits where the caller was cancelled; what was written stays.
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
    /// They end when every handle is gone.
    pub(crate) fn start<W>(db: &Db, work: W) -> Self
    where
        W: for<'c> Fn(&'c mut Connection, &'c Vec<A>) -> Work<'c, Vec<A::Answer>> + Clone + Send + Sync + 'static,
    {
        let (sender, waiting) = mpsc::channel(WAITING);
        let db = db.clone();
        let write = move |asks: Vec<A>| -> BoxFuture<'static, Answers<A>> {
            let (db, work) = (db.clone(), work.clone());
            Box::pin(async move {
                let turn = A::turn_of(&asks);
                // Any other turn may share its transaction.
                let later = A::LATER && matches!(turn, Turn::Sorted | Turn::Alone);
                db.write(turn, asks, move |connection, asks| {
                    let work = work.clone();
                    Box::pin(async move {
                        if later {
                            dialect::flush_later(connection).await?;
                        }
                        work(connection, asks).await
                    })
                })
                .await
            })
        };
        tokio::spawn(run(waiting, Arc::new(write)));
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
            // Who waits would find out one batch after another what is known already.
            while let Some(one) = queue.pop_front().or_else(|| waiting.try_recv().ok()) {
                one.answer(Err(away.clone()));
            }
        }
    }
}

/// As many of those that wait as have nothing in common, first come first.
fn next_batch<A: Ask>(queue: &mut VecDeque<Waiting<A>>) -> Vec<Waiting<A>> {
    let mut about = HashSet::new();
    let (mut batch, mut left) = (Vec::new(), VecDeque::new());
    for one in queue.drain(..) {
        let free = one.ask.about().iter().all(|name| !about.contains(*name));
        // Also of those left behind: who comes after them must not overtake them.
        about.extend(one.ask.about().into_iter().map(str::to_owned));
        if free { batch.push(one) } else { left.push_back(one) }
    }
    *queue = left;
    batch
}

/// Writes and answers; the error where the database is away.
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
    let away = matches!(error, StoreError::Unavailable(_));
    let in_the_way = matches!(error, StoreError::Contended(_));
    if batch.len() > 1 && !away && (A::APART || !in_the_way) {
        // One of them cannot be written, or not now: the others need not suffer for it, nor wait for it.
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
