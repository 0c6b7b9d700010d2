//! Turns a settlement of a delivery into a change of its row.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use hookline_common::testing::crash_point;

use super::ops::{EmbeddedContext, Op, released};
use super::round::{Change, Count, Lease};
use crate::{BrokerError, Settled, Settlement, Settler, Spends};

/// How long a dropped delivery (a panic) waits before it is handed out again, so that it doesn't spin.
const AFTER_ABANDON: Duration = Duration::from_secs(1);

pub(super) struct EmbeddedSettler {
    pub(super) lease: Lease,
    pub(super) ops: mpsc::UnboundedSender<Op>,
    pub(super) context: Arc<EmbeddedContext>,
    /// The consumer's place, which is free again when this is dropped.
    pub(super) permit: OwnedSemaphorePermit,
}

impl EmbeddedSettler {
    /// Sends the change without waiting for an answer.
    fn send(self, change: Change) {
        // If the writer is gone, the lease becomes void when the file is opened again.
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
                // A delivery that waits without an attempt was not settled for good: earlier panics still count.
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
        // The place becomes free only when the outcome is known: a consumer that settles slowly must not get more than
        // it asked for.
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

    /// Does not wait for the writer: with a full disk it would answer only when there is room again.
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
