//! Reports how a destination stands: its state as a metric, and in the log each change of what holds its calls.

use std::sync::{Arc, Mutex, PoisonError};

use hookline_common::names::{Destination, OperationClass};
use hookline_common::service::telemetry::metrics::{GateState, Metrics};

use super::pause_reason::{is_probed, needs_a_person};

/// What holds calls to a destination.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Why the destination is paused.
    pub(crate) pause: Option<String>,
    /// When the rate limit lets calls through again.
    pub(crate) closed_until_ms: i64,
    /// The classes of operation that fail, and when the first of them is probed next.
    pub(crate) failing: Vec<OperationClass>,
    pub(crate) probe_due_ms: Option<i64>,
}

impl Standing {
    fn state(&self, now_ms: i64) -> GateState {
        match self.probe_due_ms {
            _ if self.pause.is_some() => GateState::Paused,
            _ if self.closed_until_ms > now_ms => GateState::Open,
            Some(due_ms) if due_ms > now_ms => GateState::Open,
            Some(_) => GateState::HalfOpen,
            None => GateState::Closed,
        }
    }
}

/// Reports for one destination in one process.
pub(crate) struct StandingReporter {
    destination: Destination,
    metrics: Arc<Metrics>,
    reported: Mutex<Standing>,
}

impl StandingReporter {
    pub(crate) fn new(destination: Destination, metrics: Arc<Metrics>) -> Self {
        Self { destination, metrics, reported: Mutex::default() }
    }

    /// Sets the destination's metric, and logs what changed since the last report.
    pub(crate) fn report(&self, now_ms: i64, now: Standing) {
        self.metrics.worker.destination(self.destination, now.state(now_ms));
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        self.log_pause(reported.pause.as_deref(), now.pause.as_deref());
        self.log_failing(&reported.failing, &now.failing);
        if now.closed_until_ms > reported.closed_until_ms.max(now_ms) {
            tracing::warn!(destination = %self.destination, wait_ms = now.closed_until_ms - now_ms,
                "destination.closed: its rate limit is reached; deliveries wait, no attempt is spent");
        }
        *reported = now;
    }

    fn log_pause(&self, before: Option<&str>, now: Option<&str>) {
        let destination = self.destination;
        match (before, now) {
            (before, Some(reason)) if needs_a_person(reason) => {
                if !before.is_some_and(needs_a_person) {
                    tracing::error!(%destination, reason, "destination.paused: nothing is lost, deliveries wait");
                }
            }
            (None, Some(reason)) if is_probed(reason) => tracing::error!(%destination,
                "destination.paused: it refuses our credentials; nothing is lost, deliveries wait. Check that the token or secret is \
                 valid and may do this, and set a new one: in its file it counts within seconds, elsewhere after a restart; \
                 or run `hookline resume {destination}`"),
            (None, Some(_)) => tracing::warn!(%destination, "destination.paused: by an operator; deliveries wait"),
            (Some(_), None) => tracing::info!(%destination, "destination.resumed: calls are made again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn log_failing(&self, before: &[OperationClass], now: &[OperationClass]) {
        let destination = self.destination;
        for class in now.iter().filter(|class| !before.contains(class)) {
            tracing::warn!(%destination, %class, "destination.failing: these calls fail again and again; deliveries wait, and \
                one call at a time is let through until one works");
        }
        for class in before.iter().filter(|class| !now.contains(class)) {
            tracing::info!(%destination, %class, "destination.works: these calls are made again");
        }
    }
}
