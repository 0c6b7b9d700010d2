//! The worker's metrics: deliveries, calls, dead letters, and effects that were not repeated.

use std::time::Duration;

use prometheus::{GaugeVec, Histogram, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::make::{counter, float_gauge_vec, gauge, gauge_vec, histogram, histogram_vec, register};
use crate::event::KNOWN_TYPES;
use crate::names::{DeadReason, Destination, HandlerName, Operation, Queue, SubscriptionState, Verdict};

const CALL_BUCKETS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const AGE_BUCKETS: &[f64] =
    &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0];
const API_STATUSES: &[&str] = &["2xx", "3xx", "4xx", "429", "5xx", "error"];
const SUPPRESSED: &[&str] = &["duplicate", "echo", "stale"];
const NO_LABELS: &[&str] = &[];
const DESTINATION_STATES: &[&str] = &["closed", "open", "half_open", "paused"];

#[derive(Debug)]
pub struct WorkerMetrics {
    deliveries: IntCounterVec,
    delivery_seconds: HistogramVec,
    event_age_seconds: HistogramVec,
    in_flight: IntGaugeVec,
    queue_messages: IntGaugeVec,
    queue_oldest_seconds: GaugeVec,
    untouched_oldest_seconds: GaugeVec,
    api_requests: IntCounterVec,
    api_request_seconds: HistogramVec,
    budget_remaining: IntGaugeVec,
    budget_limit: IntGaugeVec,
    destination_state: IntGaugeVec,
    seconds_to_drain: GaugeVec,
    dead_letters: IntCounterVec,
    suppressed: IntCounterVec,
    pub opt_out_latency_seconds: Histogram,
    pub panics: IntCounterVec,
    republished: IntCounterVec,
    /// A vector without labels, whose only series can be removed: an unknown count is not 0.
    opt_outs_unsent: IntGaugeVec,
    opt_outs_unsent_stuck: IntGaugeVec,
    opt_outs_unsent_oldest_seconds: GaugeVec,
    pub store_available: IntGauge,
    subscription: IntGaugeVec,
    subscription_missing: IntGaugeVec,
}

/// Why an API call's effect was not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppressed {
    Duplicate,
    Echo,
    Stale,
}

/// What the gate lets through to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateState {
    Closed,
    Open,
    HalfOpen,
    Paused,
}

impl WorkerMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
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
            untouched_oldest_seconds: float_gauge_vec(
                registry,
                "hookline_deliveries_untouched_oldest_seconds",
                "Age of the oldest event of which a handler has begun no attempt; 0 where there is none.",
                &["handler"],
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
            budget_remaining: gauge_vec(
                registry,
                "hookline_api_budget_remaining",
                "Calls left in the window, from the last answer's rate-limit headers.",
                &["destination"],
            ),
            budget_limit: gauge_vec(
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
            seconds_to_drain: float_gauge_vec(
                registry,
                "hookline_destination_seconds_to_drain",
                "How long a destination's backlog takes at its quota or measured pace, once calls flow: neither a pause nor an \
                 outage is in it. NaN: work waits and no quota tells.",
                &["destination"],
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
            republished: counter(
                registry,
                "hookline_deliveries_republished_total",
                "Deliveries published anew from the history because nobody had begun them, or they were long due.",
                &["handler"],
            ),
            opt_outs_unsent: gauge_vec(
                registry,
                "hookline_opt_outs_unsent",
                "Opt-outs received over 15 minutes ago, not superseded, and not PUT with proof in every account. Absent while \
                 the store is away.",
                &[],
            ),
            opt_outs_unsent_stuck: gauge_vec(
                registry,
                "hookline_opt_outs_unsent_stuck",
                "Those of them that do not come right by themselves: dead letters, and lost ones.",
                &[],
            ),
            opt_outs_unsent_oldest_seconds: float_gauge_vec(
                registry,
                "hookline_opt_outs_unsent_oldest_seconds",
                "How long ago the oldest of them was received; 0 where there is none.",
                &[],
            ),
            store_available: gauge(registry, "hookline_store_available", "1 while the store answers this worker."),
            subscription: gauge_vec(
                registry,
                "hookline_webhook_subscription",
                "1 for what the last look at the account's integrations told of this endpoint's subscription.",
                &["state"],
            ),
            subscription_missing: gauge_vec(
                registry,
                "hookline_webhook_subscription_missing",
                "1 for an event type that an enabled handler needs and TextUs does not send here; 0 while that is not known.",
                &["event_type"],
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
            self.republished.with_label_values(&[handler]);
        }
        for handler in HandlerName::ALL {
            for queue in [Queue::Work(*handler), Queue::Dead(*handler)] {
                self.queue_messages(&queue.name(), 0);
                self.queue_oldest(queue, None);
            }
        }
        for handler in HandlerName::ALL.iter().filter(|handler| **handler != HandlerName::RecordHistory) {
            self.untouched_oldest(*handler, None);
        }
        self.subscription(SubscriptionState::NotKnown, &[]);
        for destination in [Destination::TextUs, Destination::SystemOfRecord] {
            self.budget_remaining.with_label_values(&[destination.as_str()]);
            self.budget_limit.with_label_values(&[destination.as_str()]);
            self.destination(destination, GateState::Closed);
            self.to_drain(destination, Some(Duration::ZERO));
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

    /// Records that a delivery was settled for good, `age` after its event was received.
    pub fn settled(&self, handler: HandlerName, age: Duration) {
        self.event_age_seconds.with_label_values(&[handler.as_str()]).observe(age.as_secs_f64());
    }

    /// Counts deliveries that were in no queue and were published anew.
    pub fn republished(&self, handler: HandlerName, deliveries: u64) {
        self.republished.with_label_values(&[handler.as_str()]).inc_by(deliveries);
    }

    #[must_use]
    pub fn in_flight(&self, handler: HandlerName) -> IntGauge {
        self.in_flight.with_label_values(&[handler.as_str()])
    }

    /// Sets the depth of a queue of the topology, by its name.
    pub fn queue_messages(&self, queue: &str, messages: u64) {
        self.queue_messages.with_label_values(&[queue]).set(i64::try_from(messages).unwrap_or(i64::MAX));
    }

    /// Sets the age of the oldest delivery that no attempt has begun; 0 if there is none.
    pub fn untouched_oldest(&self, handler: HandlerName, age: Option<Duration>) {
        self.untouched_oldest_seconds
            .with_label_values(&[handler.as_str()])
            .set(age.map_or(0.0, |age| age.as_secs_f64()));
    }

    /// Sets the age of the oldest delivery in a queue; 0 if there is none.
    pub fn queue_oldest(&self, queue: Queue, age: Option<Duration>) {
        self.queue_oldest_seconds.with_label_values(&[&queue.name()]).set(age.map_or(0.0, |age| age.as_secs_f64()));
    }

    /// Sets the opt-outs that are not sent everywhere, how many of them are stuck, and the age of the oldest.
    pub fn opt_outs_unsent(&self, opt_outs: u64, stuck: u64, oldest: Duration) {
        let count = |n| i64::try_from(n).unwrap_or(i64::MAX);
        self.opt_outs_unsent.with_label_values(NO_LABELS).set(count(opt_outs));
        self.opt_outs_unsent_stuck.with_label_values(NO_LABELS).set(count(stuck));
        self.opt_outs_unsent_oldest_seconds.with_label_values(NO_LABELS).set(oldest.as_secs_f64());
    }

    /// Removes the counts of unsent opt-outs, when they cannot be counted.
    pub fn opt_outs_unsent_unknown(&self) {
        // The series may be absent already.
        let _ = self.opt_outs_unsent.remove_label_values(NO_LABELS);
        let _ = self.opt_outs_unsent_stuck.remove_label_values(NO_LABELS);
        let _ = self.opt_outs_unsent_oldest_seconds.remove_label_values(NO_LABELS);
    }

    /// Sets the result of checking the account's integrations, and the event types that are missing.
    pub fn subscription(&self, state: SubscriptionState, missing: &[&str]) {
        for other in SubscriptionState::ALL {
            self.subscription.with_label_values(&[other.as_str()]).set(i64::from(*other == state));
        }
        for event_type in KNOWN_TYPES {
            let is_missing = i64::from(missing.contains(event_type));
            self.subscription_missing.with_label_values(&[event_type]).set(is_missing);
        }
    }

    /// Counts one call; `status` is the HTTP status, or `None` if no answer came.
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

    pub fn budget(&self, destination: Destination, limit: Option<i64>, remaining: Option<i64>) {
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

    /// Sets the time to drain. `None` means unknown, which is shown as NaN: a missing series would look like a missing
    /// worker.
    pub fn to_drain(&self, destination: Destination, time: Option<Duration>) {
        let seconds = time.map_or(f64::NAN, |time| time.as_secs_f64());
        self.seconds_to_drain.with_label_values(&[destination.as_str()]).set(seconds);
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
        | Operation::ListIntegrations
        | Operation::CreateIntegration
        | Operation::UpdateIntegration => true,
        Operation::CheckToken => return true,
        Operation::GetToken
        | Operation::FindPerson
        | Operation::UpsertPerson
        | Operation::FindNote
        | Operation::FindOwner
        | Operation::LogNote
        | Operation::SetOptOut
        | Operation::ReadSetUp
        | Operation::ChangeSetUp => false,
    };
    textus == (destination == Destination::TextUs)
}
