//! The only task that writes. Publishes go first and are stored as they come. Settlements and leases wait for a quiet
//! moment, but never longer than [`LONGEST_WAIT`]: each round of them costs a commit for which a waiting webhook would
//! have to wait.
//!
//! SQLite runs on the thread that sqlx starts per connection. A process that lowers its own priority for consumers must
//! do so on their threads, not before it opens the broker.

mod health;
mod rounds;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use hookline_common::names::Queue;
use hookline_common::testing::crash_point;

use super::fault::Fault;
use super::files::{HeldFiles, OwnerLock};
use super::ops::{EmbeddedContext, Maintenance, Op, PublishRequest, SettleReply};
use super::publish::{Inserts, MAX_BATCH, MAX_BATCH_BYTES};
use super::round::{Change, Lease, LeasedRow, Wants};
use super::rows;
use crate::{BrokerState, PublishError, Stored};

/// How long no publish must have come before rounds run at once.
const QUIET: Duration = Duration::from_millis(2);
/// How far apart rounds are while publishes flow, so that few commits are theirs.
const LONGEST_WAIT: Duration = Duration::from_millis(10);

pub(super) struct Writer {
    conn: SqliteConnection,
    inserts: Inserts,
    context: Arc<EmbeddedContext>,
    /// How long a row stays handed out.
    lease: Duration,
    next_token: i64,
    out: HashMap<i64, (Lease, Instant)>,
    data_version: i64,
    last_publish: Option<Instant>,
    last_round: Instant,
    retry_at: Option<Instant>,
    /// When to probe next, while events cannot be stored.
    probe_at: Option<Instant>,
    waiting: Waiting,
    files: HeldFiles,
    _owner: Option<OwnerLock>,
}

/// The work for the next round.
#[derive(Default)]
struct Waiting {
    settlements: Vec<(Lease, Change, Option<SettleReply>)>,
    leases: Vec<(Wants, oneshot::Sender<Vec<LeasedRow>>)>,
    maintenance: Vec<Maintenance>,
    poll: bool,
    close: Option<oneshot::Sender<()>>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.settlements.is_empty()
            && self.leases.is_empty()
            && self.maintenance.is_empty()
            && !self.poll
            && self.close.is_none()
    }
}

impl Writer {
    pub(super) fn new(
        conn: SqliteConnection,
        context: Arc<EmbeddedContext>,
        lease: Duration,
        epoch: i64,
        (files, owner): (HeldFiles, Option<OwnerLock>),
    ) -> Self {
        Self {
            conn,
            inserts: Inserts::new(),
            context,
            lease,
            next_token: epoch << 32,
            out: HashMap::new(),
            data_version: -1,
            last_publish: None,
            last_round: Instant::now(),
            retry_at: None,
            probe_at: None,
            waiting: Waiting { poll: true, ..Waiting::default() },
            files,
            _owner: owner,
        }
    }

    pub(super) async fn run(
        mut self,
        mut publishes: mpsc::Receiver<PublishRequest>,
        mut ops: mpsc::UnboundedReceiver<Op>,
    ) {
        let stop = self.context.stop.clone();
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            let round_at = (!self.waiting.is_empty()).then(|| self.round_at());
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(publish) = publishes.recv() => {
                    take_batch(publish, &mut publishes, &mut batch);
                    self.publish(&mut batch).await;
                }
                op = ops.recv() => match op {
                    Some(op) => self.queue(op),
                    None => return,
                },
                () = at(round_at) => {}
                () = at(self.probe_at) => {}
            }
            if self.probe_at.is_some_and(|at| at <= Instant::now()) {
                self.probe().await;
            }
            while let Ok(op) = ops.try_recv() {
                self.queue(op);
            }
            if !self.waiting.is_empty() && self.round_at() <= Instant::now() && self.round().await {
                // Publishers that are still waiting get an answer.
                publishes.close();
                while let Some(publish) = publishes.recv().await {
                    take_batch(publish, &mut publishes, &mut batch);
                    self.publish(&mut batch).await;
                }
                break;
            }
        }
        let reply = self.waiting.close.take();
        if let Err(error) = self.conn.close().await {
            tracing::warn!(%error, "the broker's file was not closed in order; nothing is lost");
        }
        drop(self._owner);
        if let Some(reply) = reply {
            let _ = reply.send(());
        }
    }

    fn queue(&mut self, op: Op) {
        match op {
            Op::Settle { lease, change, reply } => self.waiting.settlements.push((lease, change, reply)),
            Op::Lease { wants, reply } => self.waiting.leases.push((wants, reply)),
            Op::Maintenance(maintenance) => self.waiting.maintenance.push(maintenance),
            Op::Poll => self.waiting.poll = true,
            Op::Close { reply } => self.waiting.close = Some(reply),
        }
    }

    /// When the next round may run.
    fn round_at(&self) -> Instant {
        let quiet_at = self.last_publish.map_or(self.last_round, |at| at + QUIET);
        quiet_at.min(self.last_round + LONGEST_WAIT).max(self.retry_at.unwrap_or(self.last_round))
    }

    async fn publish(&mut self, batch: &mut Vec<PublishRequest>) {
        if let BrokerState::Failed(reason) = &*self.context.state.borrow() {
            let failed = batch.drain(..).map(|publish| (publish.reply, Err(PublishError::Fatal(reason.clone()))));
            return failed.for_each(|(reply, error)| drop(reply.send(error)));
        }
        let mut seen = HashSet::with_capacity(batch.len());
        let mut repeats = Vec::new();
        let (mut messages, mut replies) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for PublishRequest { message, reply } in batch.drain(..) {
            if seen.insert(message.event_id) {
                messages.push(message);
                replies.push(reply);
            } else {
                repeats.push(reply);
            }
        }

        crash_point("spool.committing");
        let now_ms = self.context.clock.now_ms();
        let stored = self.inserts.store(&mut self.conn, &messages, now_ms).await;
        // Nobody is told that an event is stored whose file is no longer at its path.
        if let Some(reason) = self.files_lost() {
            let fatal = |reply: oneshot::Sender<_>| drop(reply.send(Err(PublishError::Fatal(reason.clone()))));
            return replies.into_iter().chain(repeats).for_each(fatal);
        }
        match stored {
            Ok(known) => {
                crash_point("publish.confirmed");
                self.context.commits.fetch_add(1, Ordering::Relaxed);
                let mut routed = 0;
                for (message, reply) in messages.iter().zip(replies) {
                    let duplicate = known.contains(&message.event_id);
                    routed |= if duplicate { 0 } else { message.routed };
                    let _ = reply.send(Ok(Stored { duplicate }));
                }
                repeats.into_iter().for_each(|reply| drop(reply.send(Ok(Stored { duplicate: true }))));
                self.announce(routed, now_ms);
                // A batch of repeats only writes nothing, so it does not prove that storing works.
                if known.len() < messages.len() {
                    self.ready_again();
                }
            }
            Err(error) => {
                let fault = self.note_fault(&error, "storing events");
                if let Fault::Passing(reason) = &fault {
                    self.not_ready(reason);
                }
                replies.into_iter().chain(repeats).for_each(|reply| drop(reply.send(Err(fault.clone().into()))));
            }
        }
        self.last_publish = Some(Instant::now());
    }

    fn announce(&self, routed: i64, now_ms: i64) {
        for handler in rows::handlers_in(routed) {
            self.context.due_times.came(rows::slot(Queue::Work(handler)), now_ms);
        }
        if routed != 0 {
            self.context.due_times.wake();
        }
    }
}

/// Sleeps until `instant`; for ever if there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn take_batch(first: PublishRequest, publishes: &mut mpsc::Receiver<PublishRequest>, batch: &mut Vec<PublishRequest>) {
    let mut bytes = first.message.body.len();
    batch.push(first);
    while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
        let Ok(publish) = publishes.try_recv() else { break };
        bytes += publish.message.body.len();
        batch.push(publish);
    }
}
