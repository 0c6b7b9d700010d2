//! Every metric name, its labels and buckets (docs/reference.md). Label sets are closed, and every series starts at
//! zero, so that `increase()` sees the first event.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub mod make;
mod worker;

pub use self::worker::{GateState, Suppressed, WorkerMetrics};

use self::make::{counter, gauge, histogram, histogram_vec, register};
use crate::names::HandlerName;

const ACK_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The results of a webhook request; the metric label.
pub const INGEST_RESULTS: &[&str] = &[
    "accepted",
    "duplicate_seen",
    "unparsed",
    "signature_mismatch",
    "signature_missing",
    "unknown_source",
    "body_too_large",
    "method_not_allowed",
    "request_timeout",
    "overloaded",
    "not_durable",
];
/// The label value of `source` if the path names no source of ours: a sender's text must not become a label.
pub const NO_SOURCE: &str = "unknown";

/// The half of the metrics that a process exposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Ingest,
    Worker,
    /// `run` and `dev`, which expose both halves.
    Both,
}

/// The log lines of this process that were dropped: the log begins before any registry is made.
pub static LOG_LINES_DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    IntCounter::new("hookline_log_lines_dropped_total", "Log lines dropped because their reader stalled.")
        .expect("constant name")
});

/// One registry and every metric in it. Made once per process and shared by `Arc`.
#[derive(Debug)]
pub struct Metrics {
    role: Role,
    registry: Registry,
    pub ingest: IngestMetrics,
    pub worker: WorkerMetrics,
    pub broker_connected: IntGauge,
    pub publish_confirm_seconds: Histogram,
}

#[derive(Debug)]
pub struct IngestMetrics {
    requests: IntCounterVec,
    ack_seconds: HistogramVec,
    pub spool_events: IntGauge,
    pub spool_bytes: IntGauge,
    pub spool_oldest_seconds: IntGauge,
    pub certificate_not_after_seconds: IntGauge,
}

impl Metrics {
    /// Makes and registers the metrics of `role`; `sources` are the configured source names.
    ///
    /// # Panics
    /// Never, because the names are constants that a test registers.
    #[must_use]
    pub fn new(role: Role, sources: &[&str]) -> Self {
        let registry = Registry::new();
        let ingest_side = registry_for(&registry, role != Role::Worker);
        let worker_side = registry_for(&registry, role != Role::Ingest);

        let build = IntGaugeVec::new(
            Opts::new("hookline_build_info", "Always 1; the labels say which build runs."),
            &["version", "commit"],
        )
        .expect("constant name");
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION"), option_env!("HOOKLINE_COMMIT").unwrap_or("unknown")])
            .set(1);
        register(&registry, build);
        let publish_confirm_seconds = histogram(
            "hookline_publish_confirm_seconds",
            "From handing an event to the broker to knowing that it is durable.",
            ACK_BUCKETS,
        );
        register(&ingest_side, publish_confirm_seconds.clone());
        register(&registry, LOG_LINES_DROPPED.clone());
        #[cfg(target_os = "linux")]
        register(&registry, prometheus::process_collector::ProcessCollector::for_self());

        Self {
            role,
            ingest: IngestMetrics::new(&ingest_side, sources),
            worker: WorkerMetrics::new(&worker_side),
            broker_connected: gauge(
                &registry,
                "hookline_broker_connected",
                "1 while the broker can store and hand out.",
            ),
            registry,
            publish_confirm_seconds,
        }
    }

    /// Returns which halves this process runs.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Counts a sender's repeat of a stored event: these handlers will not repeat its effects.
    pub fn repeated(&self, handlers: impl Iterator<Item = HandlerName>) {
        for handler in handlers.filter(|handler| *handler != HandlerName::RecordHistory) {
            self.worker.suppressed(handler, Suppressed::Duplicate);
        }
    }

    /// The registry in which other parts register their own metrics, once per process.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything that this process exposes, in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        // Writing to memory cannot fail. An inconsistent metric would be our fault, and then we show nothing.
        if TextEncoder::new().encode(&self.registry.gather(), &mut out).is_err() {
            tracing::error!("metrics could not be encoded");
        }
        String::from_utf8(out).unwrap_or_default()
    }
}

impl IngestMetrics {
    fn new(registry: &Registry, sources: &[&str]) -> Self {
        let this = Self {
            requests: counter(
                registry,
                "hookline_ingest_requests_total",
                "Webhook requests by source and how they were answered.",
                &["source", "result"],
            ),
            ack_seconds: histogram_vec(
                registry,
                "hookline_ingest_ack_seconds",
                "From the request read to the answer ready: the durable acknowledgement.",
                &["source"],
                ACK_BUCKETS,
            ),
            spool_events: gauge(
                registry,
                "hookline_ingest_spool_events",
                "Events in the spool, not yet with the broker.",
            ),
            spool_bytes: gauge(
                registry,
                "hookline_ingest_spool_bytes",
                "What the spool holds, as spool_max_bytes counts it: bodies, and 1 KiB for each event.",
            ),
            spool_oldest_seconds: gauge(
                registry,
                "hookline_ingest_spool_oldest_seconds",
                "Age of the oldest event in the spool; 0 where it is empty.",
            ),
            certificate_not_after_seconds: gauge(
                registry,
                "hookline_ingest_certificate_not_after_seconds",
                "Unix time at which the listener's certificate expires; 0 where it serves plain HTTP.",
            ),
        };
        for source in sources.iter().chain([&NO_SOURCE]) {
            for result in INGEST_RESULTS {
                this.requests.with_label_values(&[source, result]);
            }
        }
        for source in sources {
            this.ack_seconds.with_label_values(&[source]);
        }
        this
    }

    /// Counts one request; `result` is one of [`INGEST_RESULTS`].
    pub fn request(&self, source: &str, result: &'static str) {
        debug_assert!(INGEST_RESULTS.contains(&result));
        self.requests.with_label_values(&[source, result]).inc();
    }

    pub fn acknowledged(&self, source: &str, took: Duration) {
        self.ack_seconds.with_label_values(&[source]).observe(took.as_secs_f64());
    }
}

/// The registry for one half. Metrics of the half that is not exposed go into a registry that nobody reads.
fn registry_for(exposed: &Registry, is_exposed: bool) -> Registry {
    if is_exposed { exposed.clone() } else { Registry::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Destination;

    #[test]
    fn each_role_exposes_its_half_from_zero() {
        let ingest = Metrics::new(Role::Ingest, &["textus"]).render();
        assert!(ingest.contains(r#"hookline_ingest_requests_total{result="accepted",source="textus"} 0"#), "{ingest}");
        assert!(!ingest.contains("hookline_deliveries_total"));

        let worker = Metrics::new(Role::Worker, &["textus"]).render();
        assert!(worker.contains(r#"hookline_deliveries_total{handler="log_note",verdict="done"} 0"#), "{worker}");
        assert!(!worker.contains("hookline_ingest_requests_total"));
        assert!(worker.contains("hookline_build_info"));
    }

    #[test]
    fn a_time_to_drain_that_nobody_can_tell_is_no_number_and_no_gap() {
        let metrics = Metrics::new(Role::Worker, &[]);
        let shows = |sample: &str| metrics.render().lines().any(|line| line == sample);
        assert!(shows(r#"hookline_destination_seconds_to_drain{destination="system_of_record"} 0"#));

        metrics.worker.to_drain(Destination::SystemOfRecord, None);

        assert!(shows(r#"hookline_destination_seconds_to_drain{destination="system_of_record"} NaN"#));
    }
}
