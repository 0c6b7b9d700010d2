//! Turns a verdict on a delivery into a change of its row.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use hookline_common::testing::crash_point;

use super::ops::{EmbeddedContext, Op, released};
use super::round::{Change, Count, Lease};
use crate::{BrokerError, Settled, Settlement, Settler, Spends};

/// Before a delivery that was dropped (a panic) goes out again, so that it doesn't spin.
const AFTER_ABANDON: Duration = Duration::from_secs(1);

pub(super) struct EmbeddedSettler {
    pub(super) lease: Lease,
    pub(super) ops: mpsc::UnboundedSender<Op>,
    pub(super) context: Arc<EmbeddedContext>,
    /// The consumer's place; free again when this is dropped.
    pub(super) permit: OwnedSemaphorePermit,
}

impl EmbeddedSettler {
    /// Nobody waits for the answer.
    fn send(self, change: Change) {
        // Without a writer the lease is void when the file is opened again.
        let _ = self.ops.send(Op::Settle { lease: self.lease, change, reply: None });
        drop(self.permit);
        self.context.due_times.wake();
    }

    fn change(&self, settlement: Settlement) -> Change {
        let clock = self.context.clock;
        match settlement {
            Settlement::Done => Change::Done,
            Settlement::Release => released(),
            Settlement::Park { until, spends, last } => Change::Back {
                due_ms: Some(clock.due_ms(until)),
                spends,
                // What waits without an attempt came to no end: the panics before it still count.
                count: if spends == Spends::Attempt { Count::Reset } else { Count::Undo },
                last: last.and_then(|last| serde_json::to_string(&last).ok()),
            },
            Settlement::DeadLetter(info) => Change::Dead { due_ms: clock.now_ms(), info },
        }
    }
}

#[async_trait]
impl Settler for EmbeddedSettler {
    async fn settle(self: Box<Self>, settlement: Settlement) -> Result<Settled, BrokerError> {
        let confirmed = match settlement {
            Settlement::Park { .. } => Some("retry.confirmed"),
            Settlement::DeadLetter(_) => Some("dead.confirmed"),
            Settlement::Done | Settlement::Release => None,
        };
        let (reply, answer) = oneshot::channel();
        let change = self.change(settlement);
        // The place is free when the outcome is known, not before: a consumer that settles slowly must not be
        // given more than it asked for.
        let Self { lease, ops, context, permit } = *self;
        let sent = ops.send(Op::Settle { lease, change, reply: Some(reply) });
        let settled = match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(closed())),
            Err(_) => Err(closed()),
        };
        if let (Some(point), Ok(Settled::Confirmed)) = (confirmed, &settled) {
            crash_point(point);
        }
        drop(permit);
        context.due_times.wake();
        settled
    }

    /// Waits for nothing: with a full disk the writer would answer when there is room again.
    async fn give_back(self: Box<Self>) {
        self.send(released());
    }

    fn abandon(self: Box<Self>) {
        let due_ms = self.context.clock.now_ms() + i64::try_from(AFTER_ABANDON.as_millis()).unwrap_or_default();
        self.send(Change::Back { due_ms: Some(due_ms), spends: Spends::Nothing, count: Count::Keep, last: None });
    }
}

pub(super) fn closed() -> BrokerError {
    BrokerError::Unavailable("the broker is closed".to_owned())
}
