//! Makes verified events durable. Only this module of ingest holds the broker, which keeps unverified data out of the
//! queues.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hookline_broker::{BrokerState, Publish, PublishError, Stored};
use hookline_common::backoff::full_jitter;
use hookline_common::event::{Event, EventId};
use hookline_common::service::telemetry::metrics::Metrics;

use crate::sources::Verified;

/// Maximum events that are being completed in the background at once. The limit leaves room for new events.
const COMPLETED_AT_ONCE: usize = 64;
/// Maximum tries to complete an event while the broker is ready. The pauses between the tries add up to at most three
/// and a half minutes.
const COMPLETE_TRIES: u32 = 12;
const COMPLETE_AGAIN: Duration = Duration::from_secs(1);
const COMPLETE_AGAIN_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Durable {
    broker: Arc<dyn Publish>,
    metrics: Arc<Metrics>,
    /// Maximum time for storing one event. A hanging broker must not hold requests for ever, because the sender has given
    /// up long before.
    deadline: Duration,
    incomplete: Arc<Incomplete>,
}

/// The ids of the events that are being completed.
#[derive(Default)]
struct Incomplete(Mutex<HashSet<EventId>>);

enum Added {
    Yes,
    There,
    NoRoom,
}

impl Durable {
    pub(crate) fn new(broker: Arc<dyn Publish>, metrics: Arc<Metrics>, deadline: Duration) -> Self {
        Self { broker, metrics, deadline, incomplete: Arc::default() }
    }

    /// Returns when the event is durable. After [`PublishError::Unknown`] the event may be durable or may become so;
    /// the sender's retry gets the same event id.
    pub(crate) async fn store(&self, event: &Verified<Event>) -> Result<Stored, PublishError> {
        let started = Instant::now();
        let stored = tokio::time::timeout(self.deadline, self.broker.publish(event.get()))
            .await
            .unwrap_or(Err(PublishError::Unknown));
        match &stored {
            Ok(_) => self.metrics.publish_confirm_seconds.observe(started.elapsed().as_secs_f64()),
            Err(PublishError::Unknown) => self.complete(event.get()),
            Err(PublishError::Unavailable(_) | PublishError::Overloaded | PublishError::Fatal(_)) => {}
        }
        stored
    }

    /// Publishes the event in the background until all of its queues have it. A broker that died while it stored the
    /// event may have it in only some of its queues. If the sender then gave up, a handler would act on an event that
    /// the history never records.
    fn complete(&self, event: &Event) {
        match self.incomplete.add(&event.id) {
            Added::Yes => {}
            Added::There => return,
            Added::NoRoom => return not_completed(event, "too many others are being completed"),
        }
        let (broker, incomplete, event) = (Arc::clone(&self.broker), Arc::clone(&self.incomplete), event.clone());
        tokio::spawn(async move {
            match publish_until_stored(broker.as_ref(), &event).await {
                Ok(()) => tracing::info!(
                    event.id = event.id.as_str(),
                    "event.completed: answered 503 when it was unknown whether it was stored; it is"
                ),
                Err(error) => not_completed(&event, &error.to_string()),
            }
            incomplete.remove(&event.id);
        });
    }
}

fn not_completed(event: &Event, why: &str) {
    tracing::warn!(
        event.id = event.id.as_str(),
        why,
        "event.not_completed: it was answered 503, and some of its queues may have it"
    );
}

/// Publishes until the event is stored. When the process exits, this task ends with it, and only the sender's retry
/// remains.
async fn publish_until_stored(broker: &dyn Publish, event: &Event) -> Result<(), PublishError> {
    let mut tries = 0;
    loop {
        // Waiting for the broker does not count as a try, however long the outage lasts.
        let _ = broker.state().wait_for(|state| *state == BrokerState::Ready).await;
        match broker.publish_patiently(event).await {
            Ok(_) => return Ok(()),
            Err(error) if tries + 1 == COMPLETE_TRIES => return Err(error),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(full_jitter(COMPLETE_AGAIN, 2.0, COMPLETE_AGAIN_MAX, tries)).await;
    }
}

impl Incomplete {
    fn add(&self, id: &EventId) -> Added {
        let mut ids = self.ids();
        if ids.contains(id) {
            return Added::There;
        }
        if ids.len() >= COMPLETED_AT_ONCE {
            return Added::NoRoom;
        }
        ids.insert(id.clone());
        Added::Yes
    }

    fn remove(&self, id: &EventId) {
        self.ids().remove(id);
    }

    fn ids(&self) -> MutexGuard<'_, HashSet<EventId>> {
        // No code panics while it holds this lock, so the data is consistent even if the lock is poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
