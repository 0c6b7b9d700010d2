//! State that the parts of a RabbitMQ broker share: the options, the connections that are up, and the signals to end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::Connection;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{RabbitOptions, RabbitRole};
use crate::BrokerState;
use crate::metrics::{ConnectionRole, ReconnectCause};

/// After how many tries a lasting outage is logged again.
const REPORT_AGAIN: u32 = 20;

pub(super) struct RabbitContext {
    pub(super) options: RabbitOptions,
    pub(super) state: watch::Sender<BrokerState>,
    /// The consuming connection, while it is up.
    pub(super) consuming: watch::Sender<Option<Arc<Connection>>>,
    /// Notified when an object is missing, so that it is declared at once.
    pub(super) declare_now: Notify,
    /// Cancelled to make consumers give back what was not taken, and end.
    pub(super) closing: CancellationToken,
    /// Cancelled to end the connections.
    pub(super) stop: CancellationToken,
    outages: Mutex<Outages>,
}

/// Why each connection is down; `None` if it is up.
struct Outages {
    publishing: Option<String>,
    consuming: Option<String>,
    blocked: bool,
}

impl RabbitContext {
    pub(super) fn new(options: RabbitOptions) -> Self {
        let connecting = || Some("connecting to RabbitMQ".to_owned());
        let outages = Outages {
            publishing: connecting(),
            consuming: connecting().filter(|_| options.role != RabbitRole::Ingest),
            blocked: false,
        };
        let context = Self {
            options,
            state: watch::Sender::new(BrokerState::NotReady(String::new())),
            consuming: watch::Sender::new(None),
            declare_now: Notify::new(),
            closing: CancellationToken::new(),
            stop: CancellationToken::new(),
            outages: Mutex::new(outages),
        };
        context.publish_state(&context.outages());
        context
    }

    pub(super) fn up(&self, role: ConnectionRole) {
        tracing::info!(role = role.as_str(), "broker.connected");
        self.change(role, None);
    }

    pub(super) fn down(&self, role: ConnectionRole, why: &str) {
        self.blocked(role, false);
        self.change(role, Some(format!("RabbitMQ is away: {why}")));
    }

    /// Records that a try or a connection failed; `tries` counts failures in a row.
    pub(super) fn faulty(&self, role: ConnectionRole, cause: ReconnectCause, why: &str, tries: u32) {
        self.options.metrics.reconnect(role, cause);
        match cause {
            ReconnectCause::Topology => {
                self.change(role, Some(why.to_owned()));
                tracing::error!(role = role.as_str(), tries, "broker.topology: {why}");
            }
            ReconnectCause::Refused | ReconnectCause::Lost | ReconnectCause::Unconfirmed => {
                self.change(role, Some(format!("RabbitMQ is away: {why}")));
                if tries == 1 || tries.is_multiple_of(REPORT_AGAIN) {
                    tracing::warn!(
                        role = role.as_str(),
                        cause = cause.as_str(),
                        tries,
                        "broker.away: {why}; trying again"
                    );
                }
            }
        }
    }

    pub(super) fn blocked(&self, role: ConnectionRole, blocked: bool) {
        self.options.metrics.blocked(role, blocked);
        if role == ConnectionRole::Publish {
            let mut outages = self.outages();
            if outages.blocked != blocked {
                outages.blocked = blocked;
                self.publish_state(&outages);
            }
        }
    }

    /// Why nothing can be done on this connection now.
    pub(super) fn why_not(&self, role: ConnectionRole) -> String {
        let outages = self.outages();
        match role {
            ConnectionRole::Publish if outages.blocked => BLOCKED.to_owned(),
            ConnectionRole::Publish => outages.publishing.clone().unwrap_or_default(),
            ConnectionRole::Consume => outages.consuming.clone().unwrap_or_default(),
        }
    }

    fn change(&self, role: ConnectionRole, why: Option<String>) {
        let mut outages = self.outages();
        match role {
            ConnectionRole::Publish => outages.publishing = why,
            ConnectionRole::Consume => outages.consuming = why,
        }
        self.publish_state(&outages);
    }

    fn publish_state(&self, outages: &Outages) {
        let why = match (&outages.publishing, &outages.consuming) {
            (Some(why), _) | (None, Some(why)) => Some(why.clone()),
            (None, None) if outages.blocked => Some(BLOCKED.to_owned()),
            (None, None) => None,
        };
        self.options.metrics.connected.set(i64::from(outages.publishing.is_none() && outages.consuming.is_none()));
        let state = why.map_or(BrokerState::Ready, BrokerState::NotReady);
        self.state.send_if_modified(|current| {
            let changed = *current != state && !matches!(current, BrokerState::Failed(_));
            if !changed {
                return false;
            }
            *current = state;
            true
        });
    }

    /// Reports that a task is gone without which nothing can be promised. Nothing withdraws this state.
    pub(super) fn failed(&self, reason: String) {
        self.options.metrics.connected.set(0);
        self.state.send_replace(BrokerState::Failed(reason));
    }

    fn outages(&self) -> MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const BLOCKED: &str = "RabbitMQ takes no publishes: an alarm of its memory or disk blocks this connection";
