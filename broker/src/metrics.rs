//! The metrics of a connection to RabbitMQ; ingest and workers both have one.

use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::service::telemetry::metrics::make::{counter, gauge, gauge_vec};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use crate::topology::rabbitmq::{DEAD, DELAY, EVENTS, WORK};

/// What a connection is for; the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRole {
    Publish,
    Consume,
}

/// Why a connection had to be made again; the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconnectCause {
    /// The broker was unreachable or refused us.
    Refused,
    /// The connection was up and broke.
    Lost,
    /// A publish had no answer in time, so its connection cannot be trusted.
    Unconfirmed,
    /// An exchange or queue is missing or has other arguments.
    Topology,
}

/// How a publish ended; the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    Stored,
    Rejected,
    Unroutable,
    Unknown,
}

impl ConnectionRole {
    const ALL: [Self; 2] = [Self::Publish, Self::Consume];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
        }
    }
}

impl ReconnectCause {
    const ALL: [Self; 4] = [Self::Refused, Self::Lost, Self::Unconfirmed, Self::Topology];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Unconfirmed => "unconfirmed",
            Self::Topology => "topology",
        }
    }
}

impl PublishOutcome {
    const ALL: [Self; 4] = [Self::Stored, Self::Rejected, Self::Unroutable, Self::Unknown];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Rejected => "rejected",
            Self::Unroutable => "unroutable",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Debug)]
pub struct BrokerMetrics {
    pub connected: IntGauge,
    blocked: IntGaugeVec,
    reconnects: IntCounterVec,
    publishes: IntCounterVec,
    pub in_flight: IntGauge,
}

impl BrokerMetrics {
    /// Registers these metrics beside the process's others. Must be called at most once.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let registry = metrics.registry();
        let this = Self {
            connected: metrics.broker_connected.clone(),
            blocked: gauge_vec(
                registry,
                "hookline_broker_blocked",
                "1 while RabbitMQ takes no publishes: an alarm of its memory or disk.",
                &["role"],
            ),
            reconnects: counter(
                registry,
                "hookline_broker_reconnects_total",
                "Connections to RabbitMQ that had to be made anew.",
                &["role", "cause"],
            ),
            publishes: counter(
                registry,
                "hookline_publish_total",
                "Messages published to RabbitMQ by exchange and how that ended.",
                &["exchange", "outcome"],
            ),
            in_flight: gauge(registry, "hookline_publish_in_flight", "Publishes that wait for RabbitMQ's confirm."),
        };
        for role in ConnectionRole::ALL {
            this.blocked.with_label_values(&[role.as_str()]);
            for cause in ReconnectCause::ALL {
                this.reconnects.with_label_values(&[role.as_str(), cause.as_str()]);
            }
        }
        for exchange in [EVENTS, WORK, DELAY, DEAD] {
            for outcome in PublishOutcome::ALL {
                this.publishes.with_label_values(&[exchange, outcome.as_str()]);
            }
        }
        this
    }

    pub fn blocked(&self, role: ConnectionRole, blocked: bool) {
        self.blocked.with_label_values(&[role.as_str()]).set(i64::from(blocked));
    }

    pub fn reconnect(&self, role: ConnectionRole, cause: ReconnectCause) {
        self.reconnects.with_label_values(&[role.as_str(), cause.as_str()]).inc();
    }

    /// Counts a publish to one of our exchanges. Others (probes) are not counted.
    pub fn published(&self, exchange: &str, outcome: PublishOutcome) {
        if [EVENTS, WORK, DELAY, DEAD].contains(&exchange) {
            self.publishes.with_label_values(&[exchange, outcome.as_str()]).inc();
        }
    }
}
