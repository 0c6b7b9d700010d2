//! The report as tables for people.

use hookline_bench::report::{
    IngestReport, IsolationPhase, IsolationReport, OptOutsReport, PacingReport, PacingRun, ProcessCost, Report, Target,
    WorkerReport,
};

use hookline::output;
use hookline::table::{Table, or_dash};

pub(super) fn print(report: &Report) -> anyhow::Result<()> {
    output::print(&head(report))?;
    if let Some(ingest) = &report.ingest {
        section("Durable acknowledgements", &ingest_figures(ingest))?;
        if !ingest.comparisons.is_empty() {
            section("Hookline beside the references, run by run", &comparisons(ingest))?;
        }
    }
    if let Some(worker) = &report.worker {
        section(&format!("Worker against an API that takes {} ms", worker.latency_ms), &worker_figures(worker))?;
    }
    if let Some(pacing) = &report.pacing {
        let PacingReport { limit_calls, window_ms, waiting, .. } = pacing;
        let title = format!("{waiting} notes and a limit of {limit_calls} calls in {window_ms} ms");
        section(&title, &pacing_figures(pacing))?;
    }
    if let Some(opt_outs) = &report.opt_outs {
        let OptOutsReport { limit_calls, window_ms, waiting, .. } = opt_outs;
        let title = format!("Opt-outs behind {waiting} notes and a limit of {limit_calls} calls in {window_ms} ms");
        section(&title, &opt_out_figures(opt_outs))?;
        section("Opt-outs by how many calls went before them", &calls_before(opt_outs))?;
    }
    if let Some(isolation) = &report.isolation {
        let IsolationReport { handler, hanging, hanging_handler, broker, store, .. } = isolation;
        let title =
            format!("{handler} while {hanging} answers {hanging_handler}, and while it hangs; {broker} and {store}");
        section(&title, &isolation_figures(isolation))?;
    }
    if !report.cost.is_empty() {
        section("Memory of one process, MiB", &memory(&report.cost))?;
    }
    section("Targets", &targets(&report.targets))?;
    for line in &report.left_out {
        output::hint(&format!("Left out: {line}"));
    }
    for line in &report.warnings {
        output::hint(&format!("Doubtful: {line}"));
    }
    Ok(())
}

fn section(title: &str, table: &Table) -> anyhow::Result<()> {
    output::print(&format!("\n{title}\n"))?;
    output::print_table(table)
}

fn head(report: &Report) -> String {
    let Report { hookline, machine, .. } = report;
    let rabbitmq = report.rabbitmq_version.as_ref().map(|version| format!("RabbitMQ {version}; ")).unwrap_or_default();
    format!(
        "hookline {} ({}{}); {rabbitmq}{} cores, {}, {} MiB, Linux {}; load before {:.2}; {}\n\
         {} s a measurement, median of {} runs\n",
        hookline.version,
        hookline.commit,
        if hookline.release { "" } else { ", debug build" },
        machine.cores,
        machine.cpu,
        machine.memory_mib,
        machine.kernel,
        machine.load_before,
        report.measured_at,
        report.seconds,
        report.runs
    )
}

fn ingest_figures(ingest: &IngestReport) -> Table {
    let mut table = Table::new(&[
        "PROGRAM",
        "BROKER",
        "QUEUES",
        "IN FLIGHT",
        "PER SECOND",
        "P50 MS",
        "P99 MS",
        "CPU MS EACH",
        "FAILED",
    ]);
    for one in &ingest.measurements {
        table.row([
            one.program.to_owned(),
            or_dash(one.broker),
            one.queues.to_string(),
            one.concurrency.to_string(),
            format!("{:.0}", one.median.per_second),
            format!("{:.2}", one.median.p50_ms),
            format!("{:.2}", one.median.p99_ms),
            or_dash(one.median.cpu_seconds_per_1000.map(|seconds| format!("{seconds:.3}"))),
            one.median.failed.to_string(),
        ]);
    }
    table
}

fn comparisons(ingest: &IngestReport) -> Table {
    let mut table =
        Table::new(&["BROKER", "AGAINST", "QUEUES", "IN FLIGHT", "THROUGHPUT ÷", "P99 ÷", "P50 ADDED MS", "EACH RUN"]);
    for one in &ingest.comparisons {
        let runs: Vec<String> = one.throughput_ratio_runs.iter().map(|ratio| format!("{ratio:.2}")).collect();
        table.row([
            one.broker.to_owned(),
            one.reference.to_owned(),
            one.queues.to_string(),
            one.concurrency.to_string(),
            format!("{:.3}", one.throughput_ratio),
            format!("{:.2}", one.p99_ratio),
            format!("{:.3}", one.added_p50_ms),
            runs.join(" "),
        ]);
    }
    table
}

fn worker_figures(worker: &WorkerReport) -> Table {
    let mut table = Table::new(&[
        "PROGRAM",
        "BROKER",
        "STORE",
        "IN FLIGHT",
        "LIMIT",
        "PER SECOND",
        "SHARE",
        "÷ BARE",
        "CPU MS EACH",
        "PEAK MIB",
    ]);
    for one in &worker.measurements {
        table.row([
            one.program.to_owned(),
            one.broker.to_owned(),
            or_dash(one.store),
            one.concurrency.to_string(),
            format!("{:.0}", one.limit_per_second),
            format!("{:.0}", one.per_second),
            format!("{:.3}", one.share),
            or_dash(one.of_reference.map(|ratio| format!("{ratio:.3}"))),
            // Seconds per 1,000 are milliseconds per one.
            format!("{:.2}", one.cpu_seconds_per_1000),
            format!("{:.1}", one.peak_resident_mib),
        ]);
    }
    table
}

fn pacing_figures(pacing: &PacingReport) -> Table {
    let mut table =
        Table::new(&["BROKER", "STORE", "WORKERS", "BESIDE", "USED", "USED OVERALL", "429S", "OF CALLS", "TOO EARLY"]);
    for one in &pacing.measurements {
        let sum = |figure: fn(&PacingRun) -> u64| one.runs.iter().map(figure).sum::<u64>().to_string();
        table.row([
            one.broker.to_owned(),
            one.store.to_owned(),
            one.workers.to_string(),
            beside(one.beside_another),
            format!("{:.3}", one.used),
            format!("{:.3}", one.used_overall),
            sum(|run| run.refused),
            sum(|run| run.calls),
            one.violations.to_string(),
        ]);
    }
    table
}

fn opt_out_figures(opt_outs: &OptOutsReport) -> Table {
    let mut table =
        Table::new(&["WORKERS", "BESIDE", "OPT-OUTS", "NO CALL LEFT", "MET 429", "WHAT", "P50", "P90", "P99", "MAX"]);
    for one in &opt_outs.measurements {
        for (what, spread, digits) in [
            ("seconds to the PUT", one.seconds, 3),
            ("seconds beyond its slot", one.beyond_slot_seconds, 3),
            ("calls before it", one.calls_before, 0),
        ] {
            let [p50, p90, p99, max] =
                [spread.p50, spread.p90, spread.p99, spread.max].map(|value| format!("{value:.digits$}"));
            table.row([
                one.workers.to_string(),
                beside(one.beside_another),
                one.opt_outs.to_string(),
                one.without_a_slot.to_string(),
                one.met_429.to_string(),
                what.to_owned(),
                p50,
                p90,
                p99,
                max,
            ]);
        }
    }
    table
}

fn calls_before(opt_outs: &OptOutsReport) -> Table {
    let mut table = Table::new(&["WORKERS", "BESIDE", "CALLS BEFORE", "OPT-OUTS"]);
    for one in &opt_outs.measurements {
        for count in &one.calls_before_counts {
            let calls = match count.at_most {
                Some(most) if most == count.at_least => most.to_string(),
                Some(most) => format!("{} to {most}", count.at_least),
                None => format!("{} and more", count.at_least),
            };
            table.row([one.workers.to_string(), beside(one.beside_another), calls, count.opt_outs.to_string()]);
        }
    }
    table
}

fn isolation_figures(isolation: &IsolationReport) -> Table {
    let mut table = Table::new(&[
        "RUN",
        "API",
        "P50 MS",
        "P90 MS",
        "P99 MS",
        "MAX MS",
        "SETTLED",
        "MISSING",
        "API ANSWERS",
        "P99 ÷ HEALTHY",
    ]);
    for (number, run) in isolation.runs.iter().enumerate() {
        let ratio = run.hanging.latency_ms.p99 / run.healthy.latency_ms.p99;
        for (how, phase, ratio) in [("answers", run.healthy, None), ("hangs", run.hanging, Some(ratio))] {
            let IsolationPhase { latency_ms, settled, missing, answered } = phase;
            table.row([
                (number + 1).to_string(),
                how.to_owned(),
                format!("{:.2}", latency_ms.p50),
                format!("{:.2}", latency_ms.p90),
                format!("{:.2}", latency_ms.p99),
                format!("{:.2}", latency_ms.max),
                settled.to_string(),
                missing.to_string(),
                answered.to_string(),
                or_dash(ratio.map(|ratio| format!("{ratio:.2}"))),
            ]);
        }
    }
    table
}

fn beside(another: bool) -> String {
    if another { "another" } else { "-" }.to_owned()
}

fn memory(cost: &[ProcessCost]) -> Table {
    let mut table = Table::new(&["PROCESS", "BROKER", "STORE", "IDLE", "UNDER LOAD"]);
    for one in cost {
        table.row([
            one.process.to_owned(),
            one.broker.to_owned(),
            or_dash(one.store),
            format!("{:.1}", one.idle_mib),
            format!("{:.1}", one.loaded_mib),
        ]);
    }
    table
}

fn targets(targets: &[Target]) -> Table {
    let mut table = Table::new(&["", "MEASURED", "TARGET", "WHAT"]);
    for one in targets {
        table.row([
            if one.met { "met" } else { "MISSED" }.to_owned(),
            format!("{:.3}", one.measured),
            format!("{} {}", if one.bound == "at_least" { "≥" } else { "≤" }, one.target),
            one.name.clone(),
        ]);
    }
    table
}
