//! Leases due rows for consumers that have room, and hands them out. Sleeps until a row comes, is settled or falls due;
//! asks the writer four times a second to check whether another process changed the file.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use hookline_common::names::Queue;

use super::maintenance;
use super::ops::{EmbeddedContext, Op, released};
use super::reader::{self, Routed};
use super::round::{Change, Count, LeasedRow, Wants};
use super::rows::{self, SLOTS};
use super::settler::EmbeddedSettler;
use crate::delivery_buffer::DeliveryBuffer;
use crate::{Delivery, DeliveryParts, Spends};

/// How soon we notice a redrive by the command line.
const POLL: Duration = Duration::from_millis(250);
/// How long we wait before we repeat a request that failed.
const AFTER_FAULT: Duration = Duration::from_secs(1);
/// How long an unreadable message waits before it is tried again.
const PUT_OFF: Duration = Duration::from_secs(60);
/// The longest sleep; rows that are due later are asked for again anyway.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

pub(super) struct Consumer {
    pub(super) queue: Queue,
    pub(super) places: Arc<Semaphore>,
    pub(super) buffer: Arc<DeliveryBuffer>,
}

pub(super) struct Dispatcher {
    pub(super) reader: SqliteConnection,
    pub(super) ops: mpsc::UnboundedSender<Op>,
    pub(super) context: Arc<EmbeddedContext>,
    pub(super) consumers: Vec<Consumer>,
    /// How long a row stays handed out.
    pub(super) lease: Duration,
}

impl Dispatcher {
    /// Runs until `closing`; then gives back the deliveries that were not handed out.
    pub(super) async fn run(mut self, mut newcomers: mpsc::UnboundedReceiver<Consumer>, closing: CancellationToken) {
        let context = Arc::clone(&self.context);
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !closing.is_cancelled() && !context.stop.is_cancelled() {
            self.end_stopped().await;
            self.consumers.extend(std::iter::from_fn(|| newcomers.try_recv().ok()));
            let (wants, mut due_in) = self.wants();
            if wants.iter().any(|want| *want > 0) {
                // This is never cancelled half-way: a row that was leased and forgotten would count as handed out.
                match self.hand_out(wants).await {
                    Ok(()) => continue,
                    Err(()) => due_in = AFTER_FAULT,
                }
            }
            tokio::select! {
                () = closing.cancelled() => {}
                () = context.stop.cancelled() => {}
                () = context.due_times.changed() => {}
                Some(newcomer) = newcomers.recv() => self.consumers.push(newcomer),
                () = sleep(due_in) => {}
                _ = poll.tick() => {
                    // This comes before the writer's check, so that deliveries that were never taken don't count as
                    // handed out.
                    for consumer in &self.consumers {
                        consumer.buffer.give_back_expired().await;
                    }
                    drop(self.ops.send(Op::Poll));
                }
            }
        }
        newcomers.close();
        self.consumers.extend(std::iter::from_fn(|| newcomers.try_recv().ok()));
        for consumer in &self.consumers {
            consumer.buffer.end(true).await;
        }
        // An error has no consequence, because reading leaves nothing behind.
        drop(self.reader.close().await);
    }

    async fn end_stopped(&mut self) {
        let consumers = std::mem::take(&mut self.consumers);
        let is_stopped = |consumer: &Consumer| consumer.buffer.stopped().is_cancelled();
        let (stopped, others) = consumers.into_iter().partition::<Vec<_>, _>(is_stopped);
        self.consumers = others;
        for consumer in stopped {
            consumer.buffer.end(false).await;
        }
    }

    /// How many due rows each queue has room for now, and how long until more are due.
    fn wants(&self) -> (Wants, Duration) {
        let now_ms = self.context.clock.now_ms();
        let mut wants = [0; SLOTS];
        let mut next_due = i64::MAX;
        for consumer in &self.consumers {
            let room = consumer.places.available_permits();
            let slot = rows::slot(consumer.queue);
            let due = self.context.due_times.next_due(slot);
            if room > 0 && due <= now_ms {
                wants[slot] += u32::try_from(room).unwrap_or(u32::MAX);
            } else if room > 0 {
                next_due = next_due.min(due);
            }
        }
        (wants, self.context.clock.until(next_due).min(LONGEST_SLEEP))
    }

    async fn hand_out(&mut self, wants: Wants) -> Result<(), ()> {
        let (reply, leased) = oneshot::channel();
        // We take the time before the writer leases, so that the buffered deliveries expire before their leases.
        let until = Instant::now() + self.lease;
        self.ops.send(Op::Lease { wants, reply }).map_err(drop)?;
        // No answer means that the writer could not use the file now.
        let leased = leased.await.map_err(drop)?;
        let mut seqs: Vec<i64> = leased.iter().map(|row| rows::message_of_row(row.lease.row)).collect();
        seqs.sort_unstable();
        seqs.dedup();
        match reader::events(&mut self.reader, &seqs).await {
            Ok(events) => {
                for row in leased {
                    match events.get(&rows::message_of_row(row.lease.row)) {
                        Some(event) => self.buffer(row, event.clone(), until),
                        // The message was erased since, or is not readable.
                        None => self.put_off(row),
                    }
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "leased events could not be read; they are read again");
                leased.into_iter().for_each(|row| self.give_back(row));
                Err(())
            }
        }
    }

    fn buffer(&self, row: LeasedRow, (event, routed_to): Routed, until: Instant) {
        let takers = self.consumers.iter().filter(|consumer| consumer.queue == row.queue);
        let placed = takers
            .filter_map(|taker| Some((&taker.buffer, Arc::clone(&taker.places).try_acquire_owned().ok()?)))
            .next();
        let Some((buffer, permit)) = placed else { return self.give_back(row) };
        let settler =
            EmbeddedSettler { lease: row.lease, ops: self.ops.clone(), context: Arc::clone(&self.context), permit };
        let parts = DeliveryParts {
            event,
            queue: row.queue,
            attempt: row.attempt,
            first_attempt_at: self.context.clock.wall(row.first_attempt_ms),
            redeliveries: row.deliveries.saturating_sub(1),
            copy: None,
            again: row.again.as_deref().and_then(maintenance::read_again),
            last: row.last.as_deref().and_then(|json| serde_json::from_str(json).ok()),
            dead: row.dead_info.as_deref().and_then(|json| serde_json::from_str(json).ok()),
            routed_to,
        };
        buffer.put(Delivery::new(parts, Box::new(settler)), Some(until));
    }

    /// Parks a message that may have been written by a newer version, so that it waits for that version.
    fn put_off(&self, row: LeasedRow) {
        let due_ms = self.context.clock.now_ms() + i64::try_from(PUT_OFF.as_millis()).unwrap_or_default();
        let change = Change::Back { due_ms: Some(due_ms), spends: Spends::Nothing, count: Count::Undo, last: None };
        let _ = self.ops.send(Op::Settle { lease: row.lease, change, reply: None });
    }

    fn give_back(&self, row: LeasedRow) {
        let _ = self.ops.send(Op::Settle { lease: row.lease, change: released(), reply: None });
    }
}
