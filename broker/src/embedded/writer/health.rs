//! How the writer reports the state of the storage: ready, temporarily not ready, or failed permanently.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Writer;
use crate::BrokerState;
use crate::embedded::fault::Fault;
use crate::embedded::maintenance;

/// How often we probe whether events can be stored again.
const PROBE_EVERY: Duration = Duration::from_secs(1);

impl Writer {
    /// Reports that events can be stored, after a write succeeded. Never withdraws a permanent failure.
    pub(super) fn ready_again(&mut self) {
        if self.probe_at.take().is_none() {
            return;
        }
        self.context.state.send_if_modified(|state| match state {
            BrokerState::NotReady(_) => {
                tracing::info!("events are stored again");
                *state = BrokerState::Ready;
                true
            }
            BrokerState::Ready | BrokerState::Failed(_) => false,
        });
    }

    /// Reports that events cannot be stored now, and schedules a probe, whether or not there is traffic.
    pub(super) fn not_ready(&mut self, reason: &str) {
        self.probe_at = Some(Instant::now() + PROBE_EVERY);
        self.context.state.send_if_modified(|state| match state {
            BrokerState::Ready | BrokerState::NotReady(_) => {
                *state = BrokerState::NotReady(reason.to_owned());
                true
            }
            BrokerState::Failed(_) => false,
        });
    }

    /// Tries a small write after storing has failed.
    pub(super) async fn probe(&mut self) {
        match maintenance::probe(&mut self.conn).await {
            Ok(()) => {
                self.context.commits.fetch_add(1, Ordering::Relaxed);
                self.ready_again();
            }
            Err(error) => {
                if let Fault::Passing(reason) = self.note_fault(&error, "storing a probe") {
                    self.not_ready(&reason);
                }
            }
        }
    }

    /// Returns what happened to a file that is no longer at its path, and reports the state as failed then.
    pub(super) fn files_lost(&mut self) -> Option<String> {
        let reason = self.files.lost()?;
        self.failed(reason.clone());
        Some(reason)
    }

    fn failed(&mut self, reason: String) {
        self.probe_at = None;
        self.context.failed(reason);
    }

    /// Logs a fault, and reports the state as failed if the fault is permanent.
    pub(super) fn note_fault(&mut self, error: &sqlx::Error, doing: &str) -> Fault {
        let fault = Fault::of(error);
        match &fault {
            Fault::Passing(reason) => tracing::warn!(error = %reason, "{doing} failed; it is tried again"),
            Fault::Fatal(reason) => self.failed(format!("{doing} failed for good: {reason}")),
        }
        fault
    }
}
