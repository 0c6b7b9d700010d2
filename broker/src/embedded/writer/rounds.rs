//! The writer's rounds: settlements and leases in one transaction, then the maintenance writes.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use hookline_common::names::{HandlerName, Queue};

use super::Writer;
use crate::embedded::fault::Fault;
use crate::embedded::maintenance;
use crate::embedded::ops::{Maintenance, SettleReply, released};
use crate::embedded::round::{self, Change, Count, Lease, LeasedRow, Wants};
use crate::embedded::rows::{self, SLOTS};
use crate::topology::DELIVERY_LIMIT;
use crate::{BrokerError, DeadLetterInfo, PublishError, Settled, Spends};

/// How long we wait after a round that failed for a passing reason (disk full, lock held).
const RETRY: Duration = Duration::from_millis(500);
/// Maintenance writes between two batches of publishes; the number is small because each write is a commit.
const MAINTENANCE_AT_ONCE: usize = 8;

impl Writer {
    /// Runs one round of the waiting work; `true` if the writer must end.
    pub(super) async fn round(&mut self) -> bool {
        self.retry_at = None;
        if std::mem::take(&mut self.waiting.poll) {
            self.poll().await;
        }
        if !self.waiting.settlements.is_empty() || !self.waiting.leases.is_empty() {
            self.settle_and_lease().await;
        }
        let now = self.waiting.maintenance.len().min(MAINTENANCE_AT_ONCE);
        for maintenance in self.waiting.maintenance.drain(..now).collect::<Vec<_>>() {
            self.maintenance(maintenance).await;
        }
        self.last_round = Instant::now();
        // A close does not wait for disk space: the settlements that cannot be written are delivered again.
        self.waiting.close.is_some()
            && self.waiting.maintenance.is_empty()
            && (self.waiting.settlements.is_empty() || self.retry_at.is_some())
    }

    async fn poll(&mut self) {
        let now = Instant::now();
        // A delivery that is settled in this very round still belongs to its holder.
        let settled: HashSet<_> = self.waiting.settlements.iter().map(|(lease, ..)| *lease).collect();
        let expired = self.out.values().filter(|(lease, until)| *until <= now && !settled.contains(lease));
        let expired = expired.map(|(lease, _)| *lease).collect::<Vec<_>>();
        for lease in expired {
            self.out.remove(&lease.row);
            let change = Change::Back { due_ms: None, spends: Spends::Nothing, count: Count::Keep, last: None };
            self.waiting.settlements.push((lease, change, None));
        }
        if self.files_lost().is_some() {
            return;
        }
        let version = sqlx::query_scalar::<_, i64>("PRAGMA data_version").fetch_one(&mut self.conn).await;
        let changed = match version {
            Ok(version) => std::mem::replace(&mut self.data_version, version) != version,
            Err(_) => false,
        };
        if changed {
            match round::next_due(&mut self.conn).await {
                Ok(next_due) => self.context.due_times.replace(&next_due),
                Err(error) => drop(self.note_fault(&error, "looking for due rows")),
            }
            self.context.due_times.wake();
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
        let now_ms = self.context.clock.now_ms();
        let outcome = match round::run(&mut self.conn, &changes, &wants, self.next_token, now_ms).await {
            Ok(outcome) => outcome,
            Err(error) => {
                round::roll_back(&mut self.conn).await;
                return self.round_failed(&error, changes, replies);
            }
        };
        if let Some(reason) = self.files_lost() {
            return self.give_up(&reason, replies);
        }

        self.context.commits.fetch_add(1, Ordering::Relaxed);
        for ((lease, _), reply) in changes.into_iter().zip(replies) {
            let settled = if outcome.changed.contains(&lease.row) { Settled::Confirmed } else { Settled::Lost };
            if self.out.get(&lease.row).is_some_and(|(held, _)| *held == lease) {
                self.out.remove(&lease.row);
            }
            reply.map(|reply| reply.send(Ok(settled)));
        }
        self.context.due_times.replace(&outcome.next_due);
        self.hand_over(outcome.leased);
        self.context.due_times.wake();
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
            let change =
                Change::Dead { due_ms: self.context.clock.now_ms(), info: DeadLetterInfo::delivery_limit(row.attempt) };
            self.waiting.settlements.push((row.lease, change, None));
        }
        // The dispatcher has one request at a time. If there were several, the first would get all rows and the others
        // none.
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
        if let Fault::Passing(reason) = &fault {
            self.not_ready(reason);
        }
        // Dropping the requests lets the dispatcher ask again.
        self.waiting.leases.clear();
        let again = changes.into_iter().zip(replies).map(|((lease, change), reply)| (lease, change, reply));
        match fault {
            Fault::Passing(_) => {
                self.waiting.settlements.extend(again);
                self.retry_at = Some(Instant::now() + RETRY);
            }
            Fault::Fatal(reason) => self.give_up(&reason, again.map(|(_, _, reply)| reply).collect()),
        }
    }

    /// Answers that nothing was settled. Dropping the requests for leases lets the dispatcher ask again.
    fn give_up(&mut self, reason: &str, replies: Vec<Option<SettleReply>>) {
        self.waiting.leases.clear();
        for reply in replies.into_iter().flatten() {
            let _ = reply.send(Err(BrokerError::Unavailable(reason.to_owned())));
        }
    }

    async fn maintenance(&mut self, maintenance: Maintenance) {
        let now_ms = self.context.clock.now_ms();
        match maintenance {
            Maintenance::PublishAgain { message, handler, why, reply } => {
                let done = maintenance::publish_again(&mut self.conn, &message, handler, why, now_ms).await;
                let _ = reply.send(self.published(handler, done, now_ms).await);
            }
            Maintenance::PublishAnew { message, handler, from, reply } => {
                let done = maintenance::publish_anew(&mut self.conn, &message, handler, from, now_ms).await;
                let _ = reply.send(self.published(handler, done, now_ms).await);
            }
            Maintenance::Remove { event_id, handler, reply } => {
                let removed = maintenance::remove(&mut self.conn, &event_id, handler).await;
                let _ = reply.send(removed.map_err(|error| match self.note_fault(&error, "removing an event") {
                    Fault::Passing(reason) | Fault::Fatal(reason) => BrokerError::Unavailable(reason),
                }));
            }
            Maintenance::Forget { slice, before_ms, reply } => {
                let forgotten = maintenance::forget(&mut self.conn, slice, before_ms).await;
                let forgotten = forgotten.map_err(|error| self.note_fault(&error, "forgetting old ids"));
                let _ = reply.send(forgotten.unwrap_or(0));
            }
            Maintenance::Checkpoint => {
                let done = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut self.conn).await;
                done.map_or_else(|error| drop(self.note_fault(&error, "checkpointing")), |_| ());
            }
        }
        self.context.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Announces an event that was published to one handler.
    async fn published(
        &mut self,
        handler: HandlerName,
        done: Result<(), sqlx::Error>,
        now_ms: i64,
    ) -> Result<(), PublishError> {
        if done.is_err() {
            round::roll_back(&mut self.conn).await;
        }
        done.map_err(|error| PublishError::from(self.note_fault(&error, "storing an event again")))?;
        if let Some(reason) = self.files_lost() {
            return Err(PublishError::Fatal(reason));
        }
        self.announce(1 << rows::code(handler), now_ms);
        Ok(())
    }
}
