//! The operations that the rest of the broker asks of the writer, and the state that they share.

use std::sync::atomic::AtomicU64;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use hookline_common::names::HandlerName;

use super::clock::Clock;
use super::due_times::DueTimes;
use super::maintenance;
use super::round::{Change, Count, Lease, LeasedRow, Wants};
use super::rows::{IdBytes, MessageRow};
use crate::{Again, BrokerError, BrokerState, PublishError, Resumed, Settled, Spends, Stored};

pub(super) struct PublishRequest {
    pub(super) message: MessageRow,
    pub(super) reply: oneshot::Sender<Result<Stored, PublishError>>,
}

pub(super) type SettleReply = oneshot::Sender<Result<Settled, BrokerError>>;

pub(super) enum Op {
    /// `reply` is `None` if nobody waits for the answer.
    Settle {
        lease: Lease,
        change: Change,
        reply: Option<SettleReply>,
    },
    Lease {
        wants: Wants,
        reply: oneshot::Sender<Vec<LeasedRow>>,
    },
    Maintenance(Maintenance),
    /// Checks for changes by other processes and for expired leases.
    Poll,
    /// Ends the writer when the waiting work is written.
    Close {
        reply: oneshot::Sender<()>,
    },
}

pub(super) enum Maintenance {
    PublishAgain {
        message: MessageRow,
        handler: HandlerName,
        why: Again,
        reply: oneshot::Sender<Result<(), PublishError>>,
    },
    PublishAnew {
        message: MessageRow,
        handler: HandlerName,
        from: Resumed,
        reply: oneshot::Sender<Result<(), PublishError>>,
    },
    Remove {
        event_id: IdBytes,
        handler: HandlerName,
        reply: oneshot::Sender<Result<bool, BrokerError>>,
    },
    Forget {
        slice: maintenance::Slice,
        before_ms: i64,
        reply: oneshot::Sender<u64>,
    },
    /// Copies the last pages of the log into the file, so that the log restarts from its beginning.
    Checkpoint,
}

/// State that the writer shares with the rest of the broker.
pub(super) struct EmbeddedContext {
    pub(super) clock: Clock,
    pub(super) due_times: DueTimes,
    pub(super) state: watch::Sender<BrokerState>,
    /// Counts transactions, so that the checkpointer knows whether it has anything to do.
    pub(super) commits: AtomicU64,
    /// Ends every task at once, as a crash of the process would.
    pub(super) stop: CancellationToken,
}

impl EmbeddedContext {
    /// Reports that nothing can be promised any more. Nothing withdraws this state.
    pub(super) fn failed(&self, reason: String) {
        self.state.send_if_modified(|state| {
            let is_first = !matches!(state, BrokerState::Failed(_));
            if is_first {
                tracing::error!(reason, "broker.failed: nothing more is accepted");
                *state = BrokerState::Failed(reason);
            }
            is_first
        });
    }
}

/// The change of a release: the row counts as if it had not been handed out.
pub(super) const fn released() -> Change {
    Change::Back { due_ms: None, spends: Spends::Nothing, count: Count::Undo, last: None }
}
