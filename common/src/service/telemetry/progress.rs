//! A feed of what happens to each event, for `hookline dev`. Listeners see it, and nobody waits for them.

use std::time::Duration;

use tokio::sync::broadcast;

use crate::event::{EventId, EventType};
use crate::names::{HandlerName, Verdict};

/// How many milestones a slow listener may fall behind before it misses some.
const FEED_CAPACITY: usize = 4096;

#[derive(Clone, Debug)]
pub enum Milestone {
    /// An event is durable and was acknowledged.
    Accepted { event_id: EventId, event_type: EventType, duplicate: bool, took: Duration },
    /// A handler ended an attempt.
    Settled {
        event_id: EventId,
        event_type: EventType,
        handler: HandlerName,
        verdict: Verdict,
        /// A skip or dead-letter reason, or the time of the next attempt.
        reason: Option<String>,
        /// What was done, in words, masked: `PUT /acme/opt_outs/+1********47 → 201`.
        steps: Vec<String>,
        attempt: u32,
        took: Duration,
    },
}

/// Handle to the feed; cheap to clone.
#[derive(Clone, Debug)]
pub struct ProgressFeed {
    sender: broadcast::Sender<Milestone>,
}

impl Default for ProgressFeed {
    fn default() -> Self {
        Self { sender: broadcast::channel(FEED_CAPACITY).0 }
    }
}

impl ProgressFeed {
    /// Whether anybody listens, so that it is worth building a milestone.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    pub fn record(&self, milestone: Milestone) {
        // An error only means that nobody listens.
        let _ = self.sender.send(milestone);
    }

    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Milestone> {
        self.sender.subscribe()
    }
}
