//! One publisher per class of work, each with its own connection and its own limit on publishes in flight.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::publisher::{Publisher, Request};
use crate::metrics::BrokerMetrics;
use crate::topology::WorkClass;

/// A handle; clones share the limits.
#[derive(Clone)]
pub(super) struct Publishers([Publisher; WorkClass::ALL.len()]);

impl Publishers {
    /// Also returns what each class's connection has to publish.
    pub(super) fn new(metrics: &Arc<BrokerMetrics>) -> (Self, Vec<(WorkClass, mpsc::Receiver<Request>)>) {
        let mut requests = Vec::new();
        let publishers = WorkClass::ALL.map(|class| {
            let (publisher, waiting) = Publisher::new(Arc::clone(metrics));
            requests.push((class, waiting));
            publisher
        });
        (Self(publishers), requests)
    }

    pub(super) fn of(&self, class: WorkClass) -> &Publisher {
        &self.0[class as usize]
    }
}
