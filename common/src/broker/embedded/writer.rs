//! The one task that writes. Publishes go first and are stored as they come; settlements and leases wait for a
//! quiet moment, but never longer than [`LONGEST_WAIT`]: each round of them costs a commit that a waiting webhook
//! would have to sit through.
//!
//! SQLite runs on the thread that sqlx starts per connection; a process that lowers its own priority for
//! consumers must do so on their threads, not before it opens the broker.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::fault::Fault;
use super::files::OwnerLock;
use super::ops::{Op, Publish, Rare, SettleReply, Shared, released};
use super::publish::{Inserts, MAX_BATCH, MAX_BATCH_BYTES};
use super::rare;
use super::round::{self, Change, Count, Lease, LeasedRow, Wants};
use super::rows::{self, SLOTS};
use crate::broker::{BrokerError, BrokerState, DeadLetterInfo, PublishError, Settled, Stored};
use crate::names::DeadReason;
use crate::testing::crash_point;
use crate::time::Timestamp;
use crate::topology::{DELIVERY_LIMIT, Queue};

/// Without a publish for this long, rounds are made at once.
const QUIET: Duration = Duration::from_millis(2);
/// While publishes flow, rounds are this far apart: few of the commits are theirs.
const LONGEST_WAIT: Duration = Duration::from_millis(10);
/// After a round that failed for a passing reason (disk full, lock held).
const RETRY: Duration = Duration::from_millis(500);
/// Rare writes between two batches of publishes: each of them is a commit.
const RARE_AT_ONCE: usize = 8;

pub(super) struct Writer {
    conn: SqliteConnection,
    inserts: Inserts,
    shared: Arc<Shared>,
    /// How long a row stays handed out.
    lease: Duration,
    next_token: i64,
    out: HashMap<i64, (Lease, Instant)>,
    data_version: i64,
    last_publish: Option<Instant>,
    last_round: Instant,
    retry_at: Option<Instant>,
    waiting: Waiting,
    _owner: Option<OwnerLock>,
}

/// What the next round will do.
#[derive(Default)]
struct Waiting {
    settlements: Vec<(Lease, Change, Option<SettleReply>)>,
    leases: Vec<(Wants, oneshot::Sender<Vec<LeasedRow>>)>,
    rare: Vec<Rare>,
    poll: bool,
    close: Option<oneshot::Sender<()>>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.settlements.is_empty()
            && self.leases.is_empty()
            && self.rare.is_empty()
            && !self.poll
            && self.close.is_none()
    }
}

impl Writer {
    pub(super) fn new(
        conn: SqliteConnection,
        shared: Arc<Shared>,
        lease: Duration,
        epoch: i64,
        owner: Option<OwnerLock>,
    ) -> Self {
        Self {
            conn,
            inserts: Inserts::new(),
            shared,
            lease,
            next_token: epoch << 32,
            out: HashMap::new(),
            data_version: -1,
            last_publish: None,
            last_round: Instant::now(),
            retry_at: None,
            waiting: Waiting { poll: true, ..Waiting::default() },
            _owner: owner,
        }
    }

    pub(super) async fn run(mut self, mut publishes: mpsc::Receiver<Publish>, mut ops: mpsc::UnboundedReceiver<Op>) {
        let stop = self.shared.stop.clone();
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
                () = sleep_until(round_at.unwrap_or_else(Instant::now)), if round_at.is_some() => {}
            }
            while let Ok(op) = ops.try_recv() {
                self.queue(op);
            }
            if !self.waiting.is_empty() && self.round_at() <= Instant::now() && self.round().await {
                // Whoever still publishes is answered, not left waiting.
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
            Op::Rare(rare) => self.waiting.rare.push(rare),
            Op::Poll => self.waiting.poll = true,
            Op::Close { reply } => self.waiting.close = Some(reply),
        }
    }

    /// When the next round may be made.
    fn round_at(&self) -> Instant {
        let quiet_at = self.last_publish.map_or(self.last_round, |at| at + QUIET);
        quiet_at.min(self.last_round + LONGEST_WAIT).max(self.retry_at.unwrap_or(self.last_round))
    }

    async fn publish(&mut self, batch: &mut Vec<Publish>) {
        if let BrokerState::Failed(reason) = &*self.shared.state.borrow() {
            let failed = batch.drain(..).map(|publish| (publish.reply, Err(PublishError::Fatal(reason.clone()))));
            return failed.for_each(|(reply, error)| drop(reply.send(error)));
        }
        let mut seen = HashSet::with_capacity(batch.len());
        let mut repeats = Vec::new();
        let (mut messages, mut replies) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Publish { message, reply } in batch.drain(..) {
            if seen.insert(message.event_id) {
                messages.push(message);
                replies.push(reply);
            } else {
                repeats.push(reply);
            }
        }

        crash_point("spool.committing");
        let now_ms = self.shared.clock.now_ms();
        let stored = self.inserts.store(&mut self.conn, &messages, now_ms).await;
        match stored {
            Ok(known) => {
                crash_point("publish.confirmed");
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                let mut routed = 0;
                for (message, reply) in messages.iter().zip(replies) {
                    let duplicate = known.contains(&message.event_id);
                    routed |= if duplicate { 0 } else { message.routed };
                    let _ = reply.send(Ok(Stored { duplicate }));
                }
                repeats.into_iter().for_each(|reply| drop(reply.send(Ok(Stored { duplicate: true }))));
                self.announce(routed, now_ms);
            }
            Err(error) => {
                let fault = self.note_fault(&error, "storing events");
                replies.into_iter().chain(repeats).for_each(|reply| drop(reply.send(Err(fault.clone().into()))));
            }
        }
        self.last_publish = Some(Instant::now());
    }

    fn announce(&self, routed: i64, now_ms: i64) {
        for handler in rows::handlers_in(routed) {
            self.shared.board.came(rows::slot(Queue::Work(handler)), now_ms);
        }
        if routed != 0 {
            self.shared.board.wake();
        }
    }

    /// Does what waits; `true` when the writer is to end.
    async fn round(&mut self) -> bool {
        self.retry_at = None;
        if std::mem::take(&mut self.waiting.poll) {
            self.poll().await;
        }
        if !self.waiting.settlements.is_empty() || !self.waiting.leases.is_empty() {
            self.settle_and_lease().await;
        }
        let rare = self.waiting.rare.len().min(RARE_AT_ONCE);
        for rare in self.waiting.rare.drain(..rare).collect::<Vec<_>>() {
            self.rare(rare).await;
        }
        self.last_round = Instant::now();
        // A close does not wait for a disk to become free: those settlements are delivered again.
        self.waiting.close.is_some()
            && self.waiting.rare.is_empty()
            && (self.waiting.settlements.is_empty() || self.retry_at.is_some())
    }

    async fn poll(&mut self) {
        let now = Instant::now();
        let expired = self.out.values().filter(|(_, until)| *until <= now).map(|(lease, _)| *lease).collect::<Vec<_>>();
        for lease in expired {
            self.out.remove(&lease.row);
            let change = Change::Back { due_ms: None, spend_attempt: false, count: Count::Keep, last: None };
            self.waiting.settlements.push((lease, change, None));
        }
        let version = sqlx::query_scalar::<_, i64>("PRAGMA data_version").fetch_one(&mut self.conn).await;
        let changed = match version {
            Ok(version) => std::mem::replace(&mut self.data_version, version) != version,
            Err(_) => false,
        };
        if changed {
            match round::next_due(&mut self.conn).await {
                Ok(next_due) => self.shared.board.replace(&next_due),
                Err(error) => drop(self.note_fault(&error, "looking for due rows")),
            }
            self.shared.board.wake();
        }
    }

    async fn settle_and_lease(&mut self) {
        let mut wants: Wants = [0; SLOTS];
        for (more, _) in &self.waiting.leases {
            wants.iter_mut().zip(more).for_each(|(want, more)| *want += more);
        }
        let settlements = std::mem::take(&mut self.waiting.settlements);
        let (changes, replies): (Vec<_>, Vec<_>) =
            settlements.into_iter().map(|(lease, change, reply)| ((lease, change), reply)).unzip();
        self.next_token += 1;
        let now_ms = self.shared.clock.now_ms();
        let outcome = match round::run(&mut self.conn, &changes, &wants, self.next_token, now_ms).await {
            Ok(outcome) => outcome,
            Err(error) => {
                round::roll_back(&mut self.conn).await;
                return self.round_failed(&error, changes, replies);
            }
        };

        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        for ((lease, _), reply) in changes.into_iter().zip(replies) {
            let settled = if outcome.changed.contains(&lease.row) { Settled::Confirmed } else { Settled::Lost };
            if self.out.get(&lease.row).is_some_and(|(held, _)| *held == lease) {
                self.out.remove(&lease.row);
            }
            reply.map(|reply| reply.send(Ok(settled)));
        }
        self.shared.board.replace(&outcome.next_due);
        self.hand_over(outcome.leased);
        self.shared.board.wake();
    }

    fn hand_over(&mut self, leased: Vec<LeasedRow>) {
        let until = Instant::now() + self.lease;
        let (mut good, mut spent) = (Vec::with_capacity(leased.len()), Vec::new());
        for row in leased {
            self.out.insert(row.lease.row, (row.lease, until));
            let limited = matches!(row.queue, Queue::Work(_)) && row.deliveries > DELIVERY_LIMIT;
            if limited { spent.push(row) } else { good.push(row) }
        }
        for row in spent {
            let change = Change::Dead { due_ms: self.shared.clock.now_ms(), info: delivery_limit(&row) };
            self.waiting.settlements.push((row.lease, change, None));
        }
        // The dispatcher asks one question at a time; were it several, the first gets it all and asks no more.
        let mut askers = self.waiting.leases.drain(..);
        let unheard = match askers.next() {
            Some((_, reply)) => reply.send(good).err().unwrap_or_default(),
            None => good,
        };
        for row in unheard {
            self.waiting.settlements.push((row.lease, released(), None));
        }
    }

    fn round_failed(&mut self, error: &sqlx::Error, changes: Vec<(Lease, Change)>, replies: Vec<Option<SettleReply>>) {
        let fault = self.note_fault(error, "settling");
        // Dropping the questions lets the dispatcher ask again.
        self.waiting.leases.clear();
        let again = changes.into_iter().zip(replies).map(|((lease, change), reply)| (lease, change, reply));
        match fault {
            Fault::Passing(_) => {
                self.waiting.settlements.extend(again);
                self.retry_at = Some(Instant::now() + RETRY);
            }
            Fault::Fatal(reason) => {
                let replies = again.filter_map(|(_, _, reply)| reply);
                replies.for_each(|reply| drop(reply.send(Err(BrokerError::Unavailable(reason.clone())))));
            }
        }
    }

    async fn rare(&mut self, rare: Rare) {
        let now_ms = self.shared.clock.now_ms();
        match rare {
            Rare::PublishAgain { message, handler, why, reply } => {
                let done = rare::publish_again(&mut self.conn, &message, handler, why, now_ms).await;
                if done.is_err() {
                    round::roll_back(&mut self.conn).await;
                }
                let done = done.map_err(|error| self.note_fault(&error, "storing an event again").into());
                if done.is_ok() {
                    self.announce(1 << rows::code(handler), now_ms);
                }
                let _ = reply.send(done);
            }
            Rare::Remove { event_id, handler, reply } => {
                let removed = rare::remove(&mut self.conn, &event_id, handler).await;
                let _ = reply.send(removed.map_err(|error| match self.note_fault(&error, "removing an event") {
                    Fault::Passing(reason) | Fault::Fatal(reason) => BrokerError::Unavailable(reason),
                }));
            }
            Rare::Forget { slice, before_ms, reply } => {
                let forgotten = rare::forget(&mut self.conn, slice, before_ms).await;
                let forgotten = forgotten.map_err(|error| self.note_fault(&error, "forgetting old ids"));
                let _ = reply.send(forgotten.unwrap_or(0));
            }
            Rare::Checkpoint => {
                let done = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut self.conn).await;
                done.map_or_else(|error| drop(self.note_fault(&error, "checkpointing")), |_| ());
            }
        }
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the rest of the process where storage failed for good.
    fn note_fault(&self, error: &sqlx::Error, doing: &str) -> Fault {
        let fault = Fault::of(error);
        match &fault {
            Fault::Passing(reason) => tracing::warn!(error = %reason, "{doing} failed; it is tried again"),
            Fault::Fatal(reason) => {
                tracing::error!(error = %reason, "{doing} failed for good: nothing more is accepted");
                self.shared.state.send_replace(BrokerState::Failed(reason.clone()));
            }
        }
        fault
    }
}

fn take_batch(first: Publish, publishes: &mut mpsc::Receiver<Publish>, batch: &mut Vec<Publish>) {
    let mut bytes = first.message.body.len();
    batch.push(first);
    while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
        let Ok(publish) = publishes.try_recv() else { break };
        bytes += publish.message.body.len();
        batch.push(publish);
    }
}

fn delivery_limit(row: &LeasedRow) -> DeadLetterInfo {
    DeadLetterInfo {
        reason: DeadReason::DeliveryLimit,
        destination: None,
        status: None,
        detail: format!(
            "handed out {DELIVERY_LIMIT} times and never settled: it probably ends the process that handles it; \
             look at the payload before a redrive"
        ),
        attempts: row.attempt,
        dead_lettered_at: Timestamp::now(),
    }
}
