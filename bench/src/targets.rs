//! The project's targets for these figures, and whether they are met.

use serde::Serialize;

use crate::cost::ProcessCost;
use crate::ingest::IngestReport;
use crate::isolation::IsolationReport;
use crate::opt_outs::OptOutsReport;
use crate::pacing::PacingReport;
use crate::run::Measured;
use crate::worker::WorkerReport;

/// A target.
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

/// Returns the targets of everything that was measured.
pub(crate) fn targets(measured: &Measured) -> Vec<Target> {
    let mut targets = Vec::new();
    targets.extend(measured.ingest.iter().flat_map(of_ingest));
    targets.extend(measured.worker.iter().flat_map(of_worker));
    targets.extend(measured.pacing.iter().flat_map(of_pacing));
    targets.extend(measured.opt_outs.iter().flat_map(of_opt_outs));
    targets.extend(measured.isolation.iter().flat_map(of_isolation));
    targets.extend(measured.cost.iter().flat_map(of_a_process));
    targets
}

fn of_ingest(ingest: &IngestReport) -> Vec<Target> {
    let mut targets = Vec::new();
    for (reference, by) in [("actix_lapin", "straight into its queue"), ("actix_lapin_routed", "by our exchanges")] {
        for one in ingest.comparisons.iter().filter(|one| one.reference == reference && one.queues == 1) {
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
    targets
}

fn of_worker(worker: &WorkerReport) -> Vec<Target> {
    let ours = worker.measurements.iter().filter(|one| one.program == "hookline" && one.concurrency <= 100);
    let target = |one: &crate::worker::WorkerMeasurement| {
        let store = one.store.unwrap_or("no store");
        let name = format!("worker: share of {} ÷ latency, {} and {store}", one.concurrency, one.broker);
        Target::at_least(name, 0.95, one.share)
    };
    ours.map(target).collect()
}

fn of_pacing(pacing: &PacingReport) -> Vec<Target> {
    let mut targets = Vec::new();
    for one in &pacing.measurements {
        let workers = if one.workers == 1 { "1 worker".to_owned() } else { format!("{} workers", one.workers) };
        let (whose, used, refused) = if one.beside_another {
            (format!("{workers} beside another program"), 0.9, 0.01)
        } else {
            (workers, 0.95, 0.001)
        };
        let of = if one.beside_another { "what it leaves" } else { "the quota" };
        targets.push(Target::at_least(format!("pacing: {whose}: share of {of} used"), used, one.used));
        targets.push(Target::at_most(
            format!("pacing: {whose}: share of calls answered 429"),
            refused,
            one.refused_share,
        ));
        let early = one.violations as f64;
        targets.push(Target::at_most(format!("pacing: {whose}: calls before a Retry-After had passed"), 0.0, early));
    }
    targets
}

fn of_opt_outs(opt_outs: &OptOutsReport) -> Vec<Target> {
    let mut targets = Vec::new();
    for one in &opt_outs.measurements {
        let whose = if one.beside_another { "opt-outs beside another program" } else { "opt-outs" };
        let waited = one.beyond_slot_seconds.p99;
        // The seconds are not scaled up with the limit, which would make them many more.
        targets.push(Target::at_most(format!("{whose}: p99 beyond the budget's slot, s"), 5.0, waited));
        targets.push(Target::at_most(format!("{whose}: PUTs that did not come"), 0.0, one.missing as f64));
    }
    targets
}

fn of_isolation(isolation: &IsolationReport) -> [Target; 2] {
    let IsolationReport { handler, hanging, .. } = isolation;
    let missing: u64 = isolation.runs.iter().map(|run| run.healthy.missing + run.hanging.missing).sum();
    [
        Target::at_most(format!("isolation: p99 of {handler} while {hanging} hangs"), 1.1, isolation.p99_ratio),
        Target::at_most(format!("isolation: deliveries of {handler} that did not end"), 0.0, missing as f64),
    ]
}

fn of_a_process(one: &ProcessCost) -> [Target; 2] {
    let with = one.store.map(|store| format!(" and {store}")).unwrap_or_default();
    let name = format!("{}: {}{with}", one.process, one.broker);
    [
        Target::at_most(format!("{name}: resident when idle, MiB"), 30.0, one.idle_mib),
        Target::at_most(format!("{name}: resident under load, MiB"), 45.0, one.loaded_mib),
    ]
}
