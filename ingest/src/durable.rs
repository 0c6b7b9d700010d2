//! The way from a verified event to durable storage. Holding the broker here, and nowhere else in ingest, is what
//! keeps anything unverified out of the queues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_common::broker::{Broker, PublishError, Stored};
use hookline_common::event::Event;
use hookline_common::telemetry::metrics::Metrics;

use crate::sources::Verified;

pub(crate) struct Durable {
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    /// A broker that hangs must not hold requests for ever: the sender has given up long before.
    deadline: Duration,
}

impl Durable {
    pub(crate) fn new(broker: Arc<dyn Broker>, metrics: Arc<Metrics>, deadline: Duration) -> Self {
        Self { broker, metrics, deadline }
    }

    /// Returns when the event is durable. After [`PublishError::Unknown`] it may be, or become so: the sender's repeat
    /// gets the same id.
    pub(crate) async fn store(&self, event: &Verified<Event>) -> Result<Stored, PublishError> {
        let started = Instant::now();
        let stored = tokio::time::timeout(self.deadline, self.broker.publish(event.get()))
            .await
            .unwrap_or(Err(PublishError::Unknown))?;
        self.metrics.publish_confirm_seconds.observe(started.elapsed().as_secs_f64());
        Ok(stored)
    }
}
