//! Part 2: throughput against an API that answers after 50 ms, as a share of the possible maximum: concurrency ÷
//! latency.
//!
//! The handler is `record_opt_out`, which makes exactly one call per event and writes more to its store than any other.
//! Its queue is filled before the worker starts; the rate is taken at the API, between two moments in the middle.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use hookline_common::event::Event;
use hookline_common::names::HandlerName;
use serde::Serialize;
use tempfile::TempDir;

use crate::child::Child;
use crate::cost::ProcessCost;
use crate::figures::median;
use crate::options::{Options, Progress};
use crate::process::{ApiQuestion, ApiSpec, Kind, ReferenceWorkerSpec, Snapshot, WorkerSpec};
use crate::rabbitmq::Rabbitmq;
use crate::samples;
use crate::stage::{Backend, Stage};

const LATENCY: Duration = Duration::from_millis(50);
const CONCURRENCIES: [u16; 3] = [10, 100, 1000];
/// Maximum concurrency whose memory counts as the cost; beyond it, memory and CPU are another question.
const LOADED_CONCURRENCY: u16 = 100;
/// Maximum number of events. A measurement that would need more is shorter.
pub(crate) const MOST_EVENTS: usize = 60_000;
/// Time from the first call until the rate is steady.
const WARM_UP: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const TO_BEGIN: Duration = Duration::from_secs(30);
const ASKED: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(5);
const HANDLER: HandlerName = HandlerName::RecordOptOut;

#[derive(Clone, Debug, Serialize)]
pub struct WorkerReport {
    /// Latency of the API, as configured.
    pub latency_ms: u64,
    pub measurements: Vec<WorkerMeasurement>,
}

#[derive(Clone, Debug, Serialize)]
pub struct WorkerMeasurement {
    /// `hookline`, `lapin_reqwest` (no store) or `reqwest` (no store and no queue).
    pub program: &'static str,
    /// `embedded`, `rabbitmq` or `none`.
    pub broker: &'static str,
    /// `sqlite` or `postgresql`; `None` for the references.
    pub store: Option<&'static str>,
    pub concurrency: u16,
    /// Concurrency ÷ latency.
    pub limit_per_second: f64,
    pub per_second: f64,
    /// Share of the limit that was reached.
    pub share: f64,
    /// Ours ÷ the reference's rate (with RabbitMQ `lapin_reqwest`, else `reqwest`), median of the runs' ratios. A busy
    /// machine slows both, so its effect is not in this figure. `None` for the references.
    pub of_reference: Option<f64>,
    /// User and system time of the worker's process, per 1,000 events.
    pub cpu_seconds_per_1000: f64,
    /// Median time that an answer of the API really took.
    pub api_p50_ms: f64,
    pub peak_resident_mib: f64,
    pub runs: Vec<WorkerRun>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct WorkerRun {
    pub per_second: f64,
    pub cpu_seconds_per_1000: f64,
    pub api_p50_ms: f64,
    pub peak_resident_mib: f64,
    /// The number of calls behind the rate.
    pub answered: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Ours(Backend),
    /// Without RabbitMQ the reference only calls.
    Reference {
        rabbitmq: bool,
    },
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Ours(_) => "hookline",
            Self::Reference { rabbitmq: true } => "lapin_reqwest",
            Self::Reference { rabbitmq: false } => "reqwest",
        }
    }

    fn broker(self) -> &'static str {
        match self {
            Self::Ours(backend) => backend.broker(),
            Self::Reference { rabbitmq: true } => "rabbitmq",
            Self::Reference { rabbitmq: false } => "none",
        }
    }

    fn store(self) -> Option<&'static str> {
        match self {
            Self::Ours(backend) => Some(backend.store()),
            Self::Reference { .. } => None,
        }
    }
}

/// Returns the combinations that one would deploy, each with its reference.
fn programs(options: &Options) -> Vec<Program> {
    let postgresql = options.store_url.is_some();
    let mut programs =
        vec![Program::Reference { rabbitmq: false }, Program::Ours(Backend { rabbitmq: false, postgresql: false })];
    if postgresql {
        programs.push(Program::Ours(Backend { rabbitmq: false, postgresql: true }));
    }
    if !options.broker_urls.is_empty() {
        programs.extend([Program::Reference { rabbitmq: true }, Program::Ours(Backend { rabbitmq: true, postgresql })]);
    }
    programs
}

/// Returns the number of steps that [`measure`] takes.
pub(crate) fn steps(options: &Options) -> u64 {
    let programs = programs(options);
    let ours = programs.iter().filter(|program| program.store().is_some()).count();
    let concurrencies = options.concurrencies_or(&CONCURRENCIES);
    (programs.len() * concurrencies.len()) as u64 * u64::from(options.runs) + ours as u64
}

pub(crate) async fn measure(
    options: &Options,
    rabbitmq: Option<&Rabbitmq>,
    progress: &dyn Progress,
) -> anyhow::Result<(WorkerReport, Vec<ProcessCost>)> {
    let bench = Bench(Stage { options, rabbitmq });
    let programs = programs(options);
    let mut costs = Vec::new();
    for program in programs.iter().copied().filter(|program| program.store().is_some()) {
        progress.begin("worker: memory when idle");
        costs.push((program, bench.idle_mib(program).await?));
    }
    let cases: Vec<(Program, u16)> = options
        .concurrencies_or(&CONCURRENCIES)
        .into_iter()
        .flat_map(|concurrency| programs.iter().map(move |program| (*program, concurrency)))
        .collect();
    let mut figures: Vec<Vec<WorkerRun>> = vec![Vec::new(); cases.len()];
    for run in 0..options.runs {
        for ((program, concurrency), runs) in cases.iter().zip(&mut figures) {
            progress.begin(&format!(
                "worker, run {} of {}: {} on {}, {concurrency} in flight",
                run + 1,
                options.runs,
                program.name(),
                program.broker()
            ));
            runs.push(bench.run(*program, *concurrency).await?);
        }
    }
    let mut measurements: Vec<WorkerMeasurement> = cases
        .iter()
        .zip(figures)
        .map(|((program, concurrency), runs)| measurement(*program, *concurrency, runs))
        .collect();
    beside_references(&cases, &mut measurements);
    let costs = costs.into_iter().map(|(program, idle_mib)| cost(program, idle_mib, &measurements)).collect();
    let latency_ms = u64::try_from(LATENCY.as_millis()).context("a latency")?;
    Ok((WorkerReport { latency_ms, measurements }, costs))
}

fn measurement(program: Program, concurrency: u16, runs: Vec<WorkerRun>) -> WorkerMeasurement {
    let limit_per_second = f64::from(concurrency) / LATENCY.as_secs_f64();
    let of = |figure: fn(&WorkerRun) -> f64| median(runs.iter().map(figure));
    let per_second = of(|run| run.per_second);
    WorkerMeasurement {
        program: program.name(),
        broker: program.broker(),
        store: program.store(),
        concurrency,
        limit_per_second,
        per_second,
        share: per_second / limit_per_second,
        of_reference: None,
        cpu_seconds_per_1000: of(|run| run.cpu_seconds_per_1000),
        api_p50_ms: of(|run| run.api_p50_ms),
        peak_resident_mib: runs.iter().map(|run| run.peak_resident_mib).fold(0.0, f64::max),
        runs,
    }
}

fn beside_references(cases: &[(Program, u16)], measurements: &mut [WorkerMeasurement]) {
    let rates = |at: usize, measurements: &[WorkerMeasurement]| -> Vec<f64> {
        measurements[at].runs.iter().map(|run| run.per_second).collect()
    };
    for (at, (program, concurrency)) in cases.iter().enumerate() {
        let Program::Ours(Backend { rabbitmq, .. }) = *program else { continue };
        let reference = (Program::Reference { rabbitmq }, *concurrency);
        let Some(beside) = cases.iter().position(|case| *case == reference) else { continue };
        let (ours, theirs) = (rates(at, measurements), rates(beside, measurements));
        measurements[at].of_reference = Some(median(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs)));
    }
}

fn cost(program: Program, idle_mib: f64, measurements: &[WorkerMeasurement]) -> ProcessCost {
    let (broker, store) = (program.broker(), program.store());
    let loaded = measurements
        .iter()
        .filter(|one| one.broker == broker && one.store == store && one.concurrency <= LOADED_CONCURRENCY);
    let loaded_mib = loaded.map(|one| one.peak_resident_mib).fold(0.0, f64::max);
    ProcessCost { process: "worker", broker, store, idle_mib, loaded_mib }
}

struct Bench<'a>(Stage<'a>);

impl Bench<'_> {
    async fn idle_mib(&self, program: Program) -> anyhow::Result<f64> {
        let api = self.api().await?;
        let dir = self.0.dir()?;
        let worker = self.start(program, &api, &dir, "idle", 32).await?;
        tokio::time::sleep(IDLE).await;
        let idle_mib = worker.resident_mib()?;
        worker.stop().await;
        api.stop().await;
        Ok(idle_mib)
    }

    async fn run(&self, program: Program, concurrency: u16) -> anyhow::Result<WorkerRun> {
        let mut api = self.api().await?;
        let dir = self.0.dir()?;
        let count = self.events(concurrency);
        // A new account, because opt-outs that were already PUT would be skipped.
        let account = samples::new_account();
        let events = samples::events("contact.opted_out", &account, 0..count)?;
        self.fill(program, &events, &dir).await?;
        drop(events);

        let worker = self.start(program, &api, &dir, &account, concurrency).await?;
        // Without a queue the reference calls for ever.
        let last = if program == (Program::Reference { rabbitmq: false }) { u64::MAX } else { count as u64 };
        let run = self.watch(&mut api, &worker, concurrency, last).await;
        worker.stop().await;
        api.stop().await;
        if let (Some(rabbitmq), "rabbitmq") = (self.0.rabbitmq, program.broker()) {
            rabbitmq.purge(&[HANDLER]).await?;
        }
        run
    }

    /// Returns the number of events for the warm-up, the window and a little more.
    fn events(&self, concurrency: u16) -> usize {
        let seconds = WARM_UP.as_secs_f64() + f64::from(self.0.options.seconds) + 0.5;
        let wanted = f64::from(concurrency) / LATENCY.as_secs_f64() * seconds + 4.0 * f64::from(concurrency);
        // The value is positive and small; the cast truncates it to a whole number.
        (wanted as usize).min(MOST_EVENTS)
    }

    async fn api(&self) -> anyhow::Result<Child> {
        self.0.api(&ApiSpec { latency: LATENCY, limit: None }).await
    }

    /// Publishes the events to the queue that the program consumes.
    async fn fill(&self, program: Program, events: &[Event], dir: &TempDir) -> anyhow::Result<()> {
        match (program, self.0.rabbitmq) {
            (Program::Reference { rabbitmq: false }, _) => Ok(()),
            (Program::Reference { rabbitmq: true }, Some(rabbitmq)) => {
                let bodies: Vec<Bytes> = events.iter().map(|event| event.body.clone()).collect();
                rabbitmq.fill_reference(&bodies).await
            }
            (Program::Reference { rabbitmq: true }, None) => anyhow::bail!("RabbitMQ is not measured"),
            (Program::Ours(backend), _) => self.0.fill(self.0.worker(backend, dir, &[HANDLER]), events).await,
        }
    }

    async fn start(
        &self,
        program: Program,
        api: &Child,
        dir: &TempDir,
        account: &str,
        concurrency: u16,
    ) -> anyhow::Result<Child> {
        let api = api.addr()?;
        match program {
            Program::Reference { rabbitmq } => {
                let urls = if rabbitmq { self.0.urls() } else { Vec::new() };
                let spec = ReferenceWorkerSpec { urls, api, concurrency };
                Child::start(&self.0.options.executable, Kind::ReferenceWorker, &spec).await
            }
            Program::Ours(backend) => {
                let (account, concurrency) = (account.to_owned(), Some(concurrency));
                let worker = self.0.worker(backend, dir, &[HANDLER]);
                self.0.start(&WorkerSpec { api, account, concurrency, ..worker }).await
            }
        }
    }

    /// Takes the rate between two moments: after the start, and before `last` is near or the window has passed.
    async fn watch(&self, api: &mut Child, worker: &Child, concurrency: u16, last: u64) -> anyhow::Result<WorkerRun> {
        let deadline = Instant::now() + TO_BEGIN;
        while snapshot(api).await?.answered == 0 {
            anyhow::ensure!(Instant::now() < deadline, "the worker made no call in {} s", TO_BEGIN.as_secs());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        tokio::time::sleep(WARM_UP).await;

        let (begin, cpu_before) = (snapshot(api).await?, worker.cpu_seconds()?);
        let window = self.0.options.window();
        // With fewer events left than this, not all places are in use any more.
        let near = last.saturating_sub(2 * u64::from(concurrency));
        let (mut end, mut cpu) = (begin, cpu_before);
        while end.at < begin.at + window {
            tokio::time::sleep(LOOK_AGAIN).await;
            let (seen, cpu_now) = (snapshot(api).await?, worker.cpu_seconds()?);
            if seen.answered > near {
                break;
            }
            (end, cpu) = (seen, cpu_now);
            anyhow::ensure!(Instant::now() < deadline + 2 * window, "the worker stands still");
        }
        let answered = end.answered.saturating_sub(begin.answered);
        anyhow::ensure!(answered > 0, "the queue was empty before anything could be measured: try fewer --seconds");
        Ok(WorkerRun {
            per_second: answered as f64 / (end.at - begin.at).as_secs_f64(),
            cpu_seconds_per_1000: (cpu - cpu_before) / answered as f64 * 1000.0,
            api_p50_ms: end.latency_p50_ms,
            peak_resident_mib: worker.peak_resident_mib()?,
            answered,
        })
    }
}

async fn snapshot(api: &mut Child) -> anyhow::Result<Snapshot> {
    api.ask(&ApiQuestion::Counts, ASKED).await
}
