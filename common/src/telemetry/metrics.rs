//! Every metric name, its labels and buckets (contract.md section 5). Label sets are closed and exist from zero, so
//! that `increase()` sees the first event.

use std::time::Duration;

use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::names::{DeadReason, Destination, HandlerName, Operation, Verdict};
use crate::topology::Queue;

const ACK_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const CALL_BUCKETS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const AGE_BUCKETS: &[f64] =
    &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0];

/// Results of a webhook request; the metric label.
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
/// Label value of `source` where the path names none of ours: a stranger's text is no label.
pub const NO_SOURCE: &str = "unknown";

const API_STATUSES: &[&str] = &["2xx", "3xx", "4xx", "429", "5xx", "error"];
const SUPPRESSED: &[&str] = &["duplicate", "echo", "stale"];
const DESTINATION_STATES: &[&str] = &["closed", "open", "half_open", "paused"];

/// Which half of the metrics a process exposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Ingest,
    Worker,
    /// `run` and `dev`: both.
    Both,
}

/// Why an API call's effect was not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppressed {
    Duplicate,
    Echo,
    Stale,
}

/// What the gate lets through for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateState {
    Closed,
    Open,
    HalfOpen,
    Paused,
}

/// One registry and every metric in it. Made once per process and shared by `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub ingest: IngestMetrics,
    pub worker: WorkerMetrics,
    broker_connected: IntGauge,
    pub publish_confirm_seconds: Histogram,
}

#[derive(Debug)]
pub struct IngestMetrics {
    requests: IntCounterVec,
    ack_seconds: HistogramVec,
    pub spool_events: IntGauge,
    pub spool_bytes: IntGauge,
}

#[derive(Debug)]
pub struct WorkerMetrics {
    deliveries: IntCounterVec,
    delivery_seconds: HistogramVec,
    event_age_seconds: HistogramVec,
    in_flight: IntGaugeVec,
    queue_messages: IntGaugeVec,
    queue_oldest_seconds: GaugeVec,
    api_requests: IntCounterVec,
    api_request_seconds: HistogramVec,
    budget_remaining: GaugeVec,
    budget_limit: GaugeVec,
    destination_state: IntGaugeVec,
    dead_letters: IntCounterVec,
    suppressed: IntCounterVec,
    pub opt_out_latency_seconds: Histogram,
    pub panics: IntCounterVec,
}

impl Metrics {
    /// Makes and registers the metrics of `role`; `sources` are the configured source names.
    ///
    /// # Panics
    /// Never: the names are constants that a test registers.
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
        let broker_connected = IntGauge::new("hookline_broker_connected", "1 while the broker can store and hand out.")
            .expect("constant name");
        register(&registry, broker_connected.clone());
        let publish_confirm_seconds = histogram(
            "hookline_publish_confirm_seconds",
            "From handing an event to the broker to knowing that it is durable.",
            ACK_BUCKETS,
        );
        register(&ingest_side, publish_confirm_seconds.clone());
        #[cfg(target_os = "linux")]
        register(&registry, prometheus::process_collector::ProcessCollector::for_self());

        Self {
            ingest: IngestMetrics::new(&ingest_side, sources),
            worker: WorkerMetrics::new(&worker_side),
            registry,
            broker_connected,
            publish_confirm_seconds,
        }
    }

    pub fn set_broker_connected(&self, connected: bool) {
        self.broker_connected.set(i64::from(connected));
    }

    /// The Prometheus text format 0.0.4 of everything that this process exposes.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        // Writing to memory cannot fail; an inconsistent metric would be a fault of ours, and then nothing is shown.
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
            spool_bytes: gauge(registry, "hookline_ingest_spool_bytes", "Bytes of bodies in the spool."),
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

impl WorkerMetrics {
    fn new(registry: &Registry) -> Self {
        let this = Self {
            deliveries: counter(
                registry,
                "hookline_deliveries_total",
                "Attempts by how they were settled.",
                &["handler", "verdict"],
            ),
            delivery_seconds: histogram_vec(
                registry,
                "hookline_delivery_seconds",
                "One attempt.",
                &["handler"],
                CALL_BUCKETS,
            ),
            event_age_seconds: histogram_vec(
                registry,
                "hookline_event_age_seconds",
                "From the event received to its delivery settled for good.",
                &["handler"],
                AGE_BUCKETS,
            ),
            in_flight: gauge_vec(registry, "hookline_deliveries_in_flight", "Attempts running now.", &["handler"]),
            queue_messages: gauge_vec(
                registry,
                "hookline_queue_messages",
                "Messages in a queue: ready, parked, handed out.",
                &["queue"],
            ),
            queue_oldest_seconds: float_gauge_vec(
                registry,
                "hookline_queue_oldest_seconds",
                "Age of the oldest event in a queue.",
                &["queue"],
            ),
            api_requests: counter(
                registry,
                "hookline_api_requests_total",
                "Calls to destinations by operation and status class.",
                &["destination", "operation", "status"],
            ),
            api_request_seconds: histogram_vec(
                registry,
                "hookline_api_request_seconds",
                "One call to a destination.",
                &["destination", "operation"],
                CALL_BUCKETS,
            ),
            budget_remaining: float_gauge_vec(
                registry,
                "hookline_api_budget_remaining",
                "Calls left in the window, from the last answer's rate-limit headers.",
                &["destination"],
            ),
            budget_limit: float_gauge_vec(
                registry,
                "hookline_api_budget_limit",
                "Calls allowed per window, from the last answer's rate-limit headers.",
                &["destination"],
            ),
            destination_state: gauge_vec(
                registry,
                "hookline_destination_state",
                "1 for the state a destination is in.",
                &["destination", "state"],
            ),
            dead_letters: counter(
                registry,
                "hookline_dead_letters_total",
                "Deliveries given up.",
                &["handler", "reason"],
            ),
            suppressed: counter(
                registry,
                "hookline_effects_suppressed_total",
                "Effects that were not made a second time.",
                &["handler", "reason"],
            ),
            opt_out_latency_seconds: histogram(
                "hookline_opt_out_latency_seconds",
                "From the opt-out received to its PUT answered.",
                AGE_BUCKETS,
            ),
            panics: counter(
                registry,
                "hookline_panics_total",
                "Handlers that panicked; the delivery is tried again.",
                &["handler"],
            ),
        };
        register(registry, this.opt_out_latency_seconds.clone());
        this.create_all();
        this
    }

    fn create_all(&self) {
        for handler in HandlerName::ALL {
            let handler = handler.as_str();
            for verdict in Verdict::ALL {
                self.deliveries.with_label_values(&[handler, verdict.as_str()]);
            }
            for reason in DeadReason::ALL {
                self.dead_letters.with_label_values(&[handler, reason.as_str()]);
            }
            for reason in SUPPRESSED {
                self.suppressed.with_label_values(&[handler, reason]);
            }
            self.delivery_seconds.with_label_values(&[handler]);
            self.event_age_seconds.with_label_values(&[handler]);
            self.in_flight.with_label_values(&[handler]);
            self.panics.with_label_values(&[handler]);
        }
        for handler in HandlerName::ALL {
            for queue in [Queue::Work(*handler), Queue::Dead(*handler)] {
                self.queue(queue, 0, None);
            }
        }
        for destination in [Destination::TextUs, Destination::SystemOfRecord] {
            self.budget_remaining.with_label_values(&[destination.as_str()]);
            self.budget_limit.with_label_values(&[destination.as_str()]);
            self.destination(destination, GateState::Closed);
            for operation in Operation::ALL.iter().filter(|operation| is_made_at(**operation, destination)) {
                for status in API_STATUSES {
                    self.api_requests.with_label_values(&[destination.as_str(), operation.as_str(), status]);
                }
                self.api_request_seconds.with_label_values(&[destination.as_str(), operation.as_str()]);
            }
        }
    }

    /// Counts one attempt that ended.
    pub fn attempt(&self, handler: HandlerName, verdict: Verdict, took: Duration) {
        self.deliveries.with_label_values(&[handler.as_str(), verdict.as_str()]).inc();
        self.delivery_seconds.with_label_values(&[handler.as_str()]).observe(took.as_secs_f64());
    }

    /// A delivery ended for good, `age` after its event was received.
    pub fn settled(&self, handler: HandlerName, age: Duration) {
        self.event_age_seconds.with_label_values(&[handler.as_str()]).observe(age.as_secs_f64());
    }

    #[must_use]
    pub fn in_flight(&self, handler: HandlerName) -> IntGauge {
        self.in_flight.with_label_values(&[handler.as_str()])
    }

    pub fn queue(&self, queue: Queue, messages: u64, oldest: Option<Duration>) {
        let name = queue.name();
        self.queue_messages.with_label_values(&[&name]).set(i64::try_from(messages).unwrap_or(i64::MAX));
        self.queue_oldest_seconds.with_label_values(&[&name]).set(oldest.map_or(0.0, |age| age.as_secs_f64()));
    }

    /// Counts one call; `status` is the HTTP status, `None` where no answer came.
    pub fn api_call(&self, destination: Destination, operation: Operation, status: Option<u16>, took: Duration) {
        let class = match status {
            Some(429) => "429",
            Some(200..300) => "2xx",
            Some(300..400) => "3xx",
            Some(400..500) => "4xx",
            Some(500..600) => "5xx",
            Some(_) | None => "error",
        };
        self.api_requests.with_label_values(&[destination.as_str(), operation.as_str(), class]).inc();
        self.api_request_seconds
            .with_label_values(&[destination.as_str(), operation.as_str()])
            .observe(took.as_secs_f64());
    }

    pub fn budget(&self, destination: Destination, limit: Option<f64>, remaining: Option<f64>) {
        if let Some(limit) = limit {
            self.budget_limit.with_label_values(&[destination.as_str()]).set(limit);
        }
        if let Some(remaining) = remaining {
            self.budget_remaining.with_label_values(&[destination.as_str()]).set(remaining);
        }
    }

    pub fn destination(&self, destination: Destination, state: GateState) {
        let current = match state {
            GateState::Closed => "closed",
            GateState::Open => "open",
            GateState::HalfOpen => "half_open",
            GateState::Paused => "paused",
        };
        for name in DESTINATION_STATES {
            self.destination_state.with_label_values(&[destination.as_str(), name]).set(i64::from(*name == current));
        }
    }

    pub fn dead_letter(&self, handler: HandlerName, reason: DeadReason) {
        self.dead_letters.with_label_values(&[handler.as_str(), reason.as_str()]).inc();
    }

    pub fn suppressed(&self, handler: HandlerName, why: Suppressed) {
        let reason = match why {
            Suppressed::Duplicate => "duplicate",
            Suppressed::Echo => "echo",
            Suppressed::Stale => "stale",
        };
        self.suppressed.with_label_values(&[handler.as_str(), reason]).inc();
    }
}

fn is_made_at(operation: Operation, destination: Destination) -> bool {
    let textus = match operation {
        Operation::PutOptOut
        | Operation::GetOptOut
        | Operation::GetMessage
        | Operation::GetConversation
        | Operation::FindContactPhones
        | Operation::GetContact
        | Operation::CreateContact
        | Operation::CheckToken => true,
        Operation::FindPerson | Operation::UpsertPerson | Operation::LogNote | Operation::SetOptOut => false,
    };
    textus == (destination == Destination::TextUs)
}

/// Metrics of the other half are made, but registered where nobody looks.
fn registry_for(exposed: &Registry, is_exposed: bool) -> Registry {
    if is_exposed { exposed.clone() } else { Registry::new() }
}

fn register(registry: &Registry, metric: impl prometheus::core::Collector + 'static) {
    registry.register(Box::new(metric)).expect("each constant name is registered once");
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())).expect("constant name")
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(name, help), labels).expect("constant name");
    register(registry, metric.clone());
    metric
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let metric = IntGauge::new(name, help).expect("constant name");
    register(registry, metric.clone());
    metric
}

fn gauge_vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect("constant name");
    register(registry, metric.clone());
    metric
}

fn float_gauge_vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    let metric = GaugeVec::new(Opts::new(name, help), labels).expect("constant name");
    register(registry, metric.clone());
    metric
}

fn histogram_vec(registry: &Registry, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    let metric =
        HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels).expect("constant name");
    register(registry, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
