//! What the project promises of these figures, and whether they keep it.

use serde::Serialize;

use crate::cost::ProcessCost;
use crate::ingest::IngestReport;
use crate::worker::WorkerReport;

/// A promise.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    pub name: String,
    /// `at_least` or `at_most`.
    pub bound: &'static str,
    pub target: f64,
    pub measured: f64,
    pub met: bool,
}

impl Target {
    fn at_least(name: String, target: f64, measured: f64) -> Self {
        Self { name, bound: "at_least", target, measured, met: measured >= target }
    }

    fn at_most(name: String, target: f64, measured: f64) -> Self {
        Self { name, bound: "at_most", target, measured, met: measured <= target }
    }
}

/// The promises that something was measured for.
pub(crate) fn targets(
    ingest: Option<&IngestReport>,
    worker: Option<&WorkerReport>,
    cost: &[ProcessCost],
) -> Vec<Target> {
    let mut targets = Vec::new();
    let comparisons = ingest.map(|ingest| ingest.comparisons.as_slice()).unwrap_or_default();
    for (reference, by) in [("actix_lapin", "straight into its queue"), ("actix_lapin_routed", "by our exchanges")] {
        for one in comparisons.iter().filter(|one| one.reference == reference && one.queues == 1) {
            let what = format!("over actix+lapin {by} at {}", one.concurrency);
            match one.concurrency {
                1 => targets.push(Target::at_most(format!("ingest: p50 added {what}, ms"), 0.3, one.added_p50_ms)),
                64 => {
                    targets.push(Target::at_least(format!("ingest: throughput {what}"), 0.95, one.throughput_ratio));
                    targets.push(Target::at_most(format!("ingest: p99 {what}"), 1.3, one.p99_ratio));
                }
                _ => {}
            }
        }
    }
    let measured = worker.map(|worker| worker.measurements.as_slice()).unwrap_or_default();
    for one in measured.iter().filter(|one| one.program == "hookline" && one.concurrency <= 100) {
        let store = one.store.unwrap_or("no store");
        let name = format!("worker: share of {} ÷ latency, {} and {store}", one.concurrency, one.broker);
        targets.push(Target::at_least(name, 0.95, one.share));
    }
    for one in cost {
        let with = one.store.map(|store| format!(" and {store}")).unwrap_or_default();
        let name = format!("{}: {}{with}", one.process, one.broker);
        targets.push(Target::at_most(format!("{name}: resident when idle, MiB"), 30.0, one.idle_mib));
        targets.push(Target::at_most(format!("{name}: resident under load, MiB"), 45.0, one.loaded_mib));
    }
    targets
}
