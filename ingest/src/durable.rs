//! The way from a verified event to durable storage. Holding the broker here, and nowhere else in ingest, is what
//! keeps anything unverified out of the queues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_common::broker::{Broker, PublishError, Stored};
use hookline_common::event::Event;
use hookline_common::telemetry::metrics::Metrics;
use tokio::sync::Semaphore;

use crate::sources::Verified;

/// Events that are brought to all of their queues at a time: as many as may be under way to the broker.
const COMPLETED_AT_ONCE: usize = 256;
const COMPLETE_AGAIN: Duration = Duration::from_secs(1);
/// The sender has repeated it by then, or given it up.
const COMPLETE_WITHIN: Duration = Duration::from_mins(10);

pub(crate) struct Durable {
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    /// A broker that hangs must not hold requests for ever: the sender has given up long before.
    deadline: Duration,
    completions: Arc<Semaphore>,
}

impl Durable {
    pub(crate) fn new(broker: Arc<dyn Broker>, metrics: Arc<Metrics>, deadline: Duration) -> Self {
        Self { broker, metrics, deadline, completions: Arc::new(Semaphore::new(COMPLETED_AT_ONCE)) }
    }

    /// Returns when the event is durable. After [`PublishError::Unknown`] it may be, or become so: the sender's repeat
    /// gets the same id.
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

    /// A broker that died while it stored an event may have it in some of its queues: a handler would act on what the
    /// history never hears of, should the sender give up. So it is published until it is in all of them.
    fn complete(&self, event: &Event) {
        let Ok(place) = Arc::clone(&self.completions).try_acquire_owned() else { return };
        let (broker, event) = (Arc::clone(&self.broker), event.clone());
        tokio::spawn(async move {
            let completed = tokio::time::timeout(COMPLETE_WITHIN, async {
                while let Err(error) = broker.publish_patiently(&event).await {
                    tracing::debug!(event.id = event.id.as_str(), error = %error, "event.not_completed: trying again");
                    tokio::time::sleep(COMPLETE_AGAIN.mul_f64(0.5 + rand::random::<f64>())).await;
                }
            });
            if completed.await.is_ok() {
                tracing::info!(
                    event.id = event.id.as_str(),
                    "event.completed: whether it was stored had been unknown, and it was answered 503"
                );
            }
            drop(place);
        });
    }
}
