//! The routing table from handler names to their code. `common::topology::event_types` lists the event types of each.

mod contact_locks;
mod contact_lookup;
mod create_contact;
mod effects;
pub(crate) mod flag_opt_out;
pub(crate) mod log_note;
mod message_lookup;
mod opt_out_event;
mod people;
pub(crate) mod record_history;
mod record_opt_out;
mod sync_contact;

use std::sync::Arc;
use std::time::Duration;

use hookline_common::names::HandlerName;
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::CompletedEffect;

use self::effects::Written;
use crate::delivery::handler::{Failure, Handler, HandlerError};
use crate::gate::Gate;
use crate::records::SystemOfRecord;
use crate::textus::client::TextUs;

/// The clients that handlers are built from.
pub(crate) struct Clients {
    pub(crate) store: Store,
    pub(crate) textus: TextUs,
    pub(crate) textus_gate: Arc<Gate>,
    pub(crate) records: Arc<dyn SystemOfRecord>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Builds the handler of this name; `None` for `record_history`, which works in batches instead.
///
/// # Errors
/// When a handler cannot be built from the settings.
pub(crate) fn build(
    name: HandlerName,
    settings: &Settings,
    clients: &Clients,
) -> anyhow::Result<Option<Arc<dyn Handler>>> {
    let handler: Arc<dyn Handler> = match name {
        HandlerName::RecordOptOut => Arc::new(record_opt_out::RecordOptOut::new(settings, clients)),
        HandlerName::FlagOptOut => Arc::new(flag_opt_out::FlagOptOut::new(settings, clients)),
        HandlerName::LogNote => Arc::new(log_note::LogNote::new(settings, clients)?),
        HandlerName::CreateContact => Arc::new(create_contact::CreateContact::new(settings, clients)),
        HandlerName::SyncContact => Arc::new(sync_contact::SyncContact::new(settings, clients)),
        HandlerName::RecordHistory => return Ok(None),
    };
    Ok(Some(handler))
}

/// Returns when to poll again for another delivery's claim or lock: its holder may finish long before the lease ends.
fn soon(until: Timestamp) -> Timestamp {
    const POLL: Duration = Duration::from_millis(500);
    until.min(Timestamp::now().plus(POLL.mul_f64(0.5 + rand::random::<f64>())))
}

/// Collects the outcome for each target account of one event. One account's refusal must not keep the effect from the
/// others.
struct Targets<T> {
    settled: Vec<T>,
    effects: Vec<CompletedEffect>,
    error: Option<HandlerError>,
}

impl<T> Default for Targets<T> {
    fn default() -> Self {
        Self { settled: Vec::new(), effects: Vec::new(), error: None }
    }
}

impl<T> Targets<T> {
    /// Adds the next target's result. Fails at once on an error that would meet every target.
    fn add(&mut self, result: Result<Written<T>, HandlerError>) -> Result<(), Failure> {
        match result {
            Ok(Written { value, effect }) => {
                self.settled.push(value);
                self.effects.extend(effect);
            }
            Err(error) if error.blocks_everything() => {
                return Err(Failure { error, effects: std::mem::take(&mut self.effects) });
            }
            // A curable error takes precedence over a final one; otherwise the curable target would never be retried.
            Err(error) => match &self.error {
                Some(earlier) if !earlier.is_final() || error.is_final() => {}
                _ => self.error = Some(error),
            },
        }
        Ok(())
    }

    /// Returns all targets and their effects if none failed.
    fn all(self) -> Result<(Vec<T>, Vec<CompletedEffect>), Failure> {
        match self.error {
            None => Ok((self.settled, self.effects)),
            Some(error) => Err(Failure { error, effects: self.effects }),
        }
    }
}
