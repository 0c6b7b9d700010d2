//! Part 1: the durable acknowledgement. Compares ours with hand-written programs: the same with actix and lapin, a bare
//! publisher without HTTP, and a handler that verifies and stores nothing.
//!
//! The broker has to do equal work for the programs that are compared: an event type that one handler takes goes to one
//! quorum queue, and the reference's message to one with the same arguments. The reference is measured in two ways. One
//! publishes straight into its queue, which costs the broker least; the other publishes by our exchanges, which shows
//! what ingest itself adds. Nothing consumes during a measurement, and every queue is purged after it.

use std::time::Duration;

use hookline_common::names::HandlerName;
use serde::Serialize;
use tempfile::TempDir;

use crate::child::Child;
use crate::cost::ProcessCost;
use crate::figures::{Figures, median};
use crate::load::{self, Load, Posts};
use crate::options::{Options, Progress};
use crate::process::{self, BrokerSpec, IngestSpec, Kind, Publish, PublisherSpec, ReferenceIngestSpec, Route};
use crate::rabbitmq::Rabbitmq;
use crate::samples::{SOURCE, Template};

const CONCURRENCIES: [u16; 4] = [1, 16, 64, 256];
/// The concurrency at which the fan-out is measured.
const FAN_OUT_CONCURRENCY: u16 = 64;
const WARM_UP: Duration = Duration::from_millis(700);
/// Time after which a process has finished its start-up work.
const IDLE: Duration = Duration::from_secs(5);
/// Number of bodies that are signed in advance for each second: more than this machine has answered so far, without too
/// much memory.
const SIGNED_AHEAD_PER_SECOND: usize = 20_000;
const SECRET: &str = "synthetic-secret-of-the-benchmark";
const EMBEDDED: &str = "embedded";
const RABBITMQ: &str = "rabbitmq";

#[derive(Clone, Debug, Serialize)]
pub struct IngestReport {
    pub measurements: Vec<IngestMeasurement>,
    pub comparisons: Vec<Comparison>,
}

#[derive(Clone, Debug, Serialize)]
pub struct IngestMeasurement {
    /// `hookline`; `actix_lapin` straight into a queue; `actix_lapin_routed` by our exchanges; `lapin`; or
    /// `actix_verify`.
    pub program: &'static str,
    /// `embedded` or `rabbitmq`; `None` if nothing is stored.
    pub broker: Option<&'static str>,
    /// Number of queues in which each event is stored.
    pub queues: usize,
    /// Number of requests (or messages) in flight.
    pub concurrency: u16,
    pub median: Figures,
    pub runs: Vec<Figures>,
}

/// Our figures compared with a reference's in the same run.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub broker: &'static str,
    pub reference: &'static str,
    pub queues: usize,
    pub concurrency: u16,
    /// Ours ÷ the reference's, median of the runs' ratios.
    pub throughput_ratio: f64,
    pub p99_ratio: f64,
    /// Ours − the reference's, median of the runs' differences.
    pub added_p50_ms: f64,
    pub throughput_ratio_runs: Vec<f64>,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    program: Program,
    queues: usize,
    concurrency: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Verify,
    OursEmbedded,
    ActixLapin,
    ActixLapinRouted,
    OursRabbitmq,
    Lapin,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Verify => "actix_verify",
            Self::OursEmbedded | Self::OursRabbitmq => "hookline",
            Self::ActixLapin => "actix_lapin",
            Self::ActixLapinRouted => "actix_lapin_routed",
            Self::Lapin => "lapin",
        }
    }

    fn broker(self) -> Option<&'static str> {
        match self {
            Self::Verify => None,
            Self::OursEmbedded => Some(EMBEDDED),
            Self::ActixLapin | Self::ActixLapinRouted | Self::OursRabbitmq | Self::Lapin => Some(RABBITMQ),
        }
    }
}

/// Returns the number of steps that [`measure`] takes.
pub(crate) fn steps(options: &Options) -> u64 {
    let groups = groups(options, !options.broker_urls.is_empty());
    let cases: usize = groups.iter().map(Vec::len).sum();
    cases as u64 * u64::from(options.runs) + 1
}

/// Returns the cases in groups. The cases of a group are compared, so they are measured directly one after another.
fn groups(options: &Options, rabbitmq: bool) -> Vec<Vec<Case>> {
    let mut groups = Vec::new();
    let concurrencies = options.concurrencies_or(&CONCURRENCIES);
    for concurrency in concurrencies.iter().copied() {
        let mut programs = vec![Program::Verify, Program::OursEmbedded];
        if rabbitmq {
            programs.extend([Program::ActixLapin, Program::OursRabbitmq, Program::ActixLapinRouted, Program::Lapin]);
        }
        groups.push(programs.into_iter().map(|program| Case { program, queues: 1, concurrency }).collect());
    }
    let fan_outs = process::EVENT_TYPES.iter().map(|(queues, _)| *queues).filter(|queues| *queues > 1);
    for queues in fan_outs.filter(|_| concurrencies.contains(&FAN_OUT_CONCURRENCY)) {
        let mut programs = vec![Program::OursEmbedded];
        if rabbitmq {
            programs.extend([Program::ActixLapin, Program::OursRabbitmq, Program::ActixLapinRouted]);
        }
        let concurrency = FAN_OUT_CONCURRENCY;
        groups.push(programs.into_iter().map(|program| Case { program, queues, concurrency }).collect());
    }
    groups
}

pub(crate) async fn measure(
    options: &Options,
    rabbitmq: Option<&Rabbitmq>,
    progress: &dyn Progress,
) -> anyhow::Result<(IngestReport, Vec<ProcessCost>)> {
    let mut bench = Bench::start(options, rabbitmq, progress).await?;
    let groups = groups(options, rabbitmq.is_some());
    let mut figures: Vec<(Case, Vec<Figures>)> = groups.iter().flatten().map(|case| (*case, Vec::new())).collect();
    for run in 0..options.runs {
        for group in &groups {
            // The order alternates, so that drift (heat, neighbours) affects first and last alike.
            let order: Vec<Case> = if run % 2 == 0 { group.clone() } else { group.iter().rev().copied().collect() };
            for case in order {
                let Case { program, queues, concurrency } = case;
                let broker = program.broker().map(|broker| format!(" on {broker}")).unwrap_or_default();
                progress.begin(&format!(
                    "ingest, run {} of {}: {}{broker}, {queues} queue(s), {concurrency} in flight",
                    run + 1,
                    options.runs,
                    program.name()
                ));
                let measured = bench.measure(case).await?;
                if let Some((_, runs)) = figures.iter_mut().find(|(one, _)| *one == case) {
                    runs.push(measured);
                }
            }
        }
    }
    let cost = bench.stop().await?;
    Ok((
        IngestReport { comparisons: compare(&figures), measurements: figures.into_iter().map(measurement).collect() },
        cost,
    ))
}

fn measurement((case, runs): (Case, Vec<Figures>)) -> IngestMeasurement {
    let Case { program, queues, concurrency } = case;
    let median = Figures::median(&runs);
    IngestMeasurement { program: program.name(), broker: program.broker(), queues, concurrency, median, runs }
}

/// Compares each of our figures with every reference that was measured under the same conditions.
fn compare(figures: &[(Case, Vec<Figures>)]) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    for (case, ours) in figures.iter().filter(|(case, _)| case.program.name() == "hookline") {
        for (other, theirs) in figures {
            let same_work = other.queues == case.queues && other.concurrency == case.concurrency;
            let comparable = match other.program {
                Program::OursEmbedded | Program::OursRabbitmq => false,
                Program::Verify => true,
                Program::ActixLapin | Program::ActixLapinRouted | Program::Lapin => {
                    case.program == Program::OursRabbitmq
                }
            };
            if !same_work || !comparable {
                continue;
            }
            let pairs = || ours.iter().zip(theirs);
            let throughput_ratio_runs: Vec<f64> =
                pairs().map(|(ours, theirs)| ours.per_second / theirs.per_second).collect();
            comparisons.push(Comparison {
                broker: case.program.broker().unwrap_or_default(),
                reference: other.program.name(),
                queues: case.queues,
                concurrency: case.concurrency,
                throughput_ratio: median(throughput_ratio_runs.iter().copied()),
                p99_ratio: median(pairs().map(|(ours, theirs)| ours.p99_ms / theirs.p99_ms)),
                added_p50_ms: median(pairs().map(|(ours, theirs)| ours.p50_ms - theirs.p50_ms)),
                throughput_ratio_runs,
            });
        }
    }
    comparisons
}

/// The processes, and the bodies that are posted to them.
struct Bench<'a> {
    options: &'a Options,
    rabbitmq: Option<&'a Rabbitmq>,
    posts: Posts,
    verify: Child,
    on_rabbitmq: Option<OnRabbitmq>,
    embedded_cost: ProcessCost,
}

struct OnRabbitmq {
    ours: Child,
    actix_lapin: Child,
    actix_lapin_routed: Child,
    publisher: Child,
    idle_mib: f64,
    _spool: TempDir,
}

impl<'a> Bench<'a> {
    async fn start(
        options: &'a Options,
        rabbitmq: Option<&'a Rabbitmq>,
        progress: &dyn Progress,
    ) -> anyhow::Result<Self> {
        progress.begin("ingest: memory when idle");
        let executable = &options.executable;
        let secret = SECRET.to_owned();
        let spec = ReferenceIngestSpec { secret: secret.clone(), urls: Vec::new(), route: Route::Short };
        let verify = Child::start(executable, Kind::ReferenceIngest, &spec).await?;
        let on_rabbitmq = match rabbitmq {
            None => None,
            Some(rabbitmq) => {
                let urls = rabbitmq.urls.clone();
                let reference = |route| ReferenceIngestSpec { secret: secret.clone(), urls: urls.clone(), route };
                let actix_lapin = Child::start(executable, Kind::ReferenceIngest, &reference(Route::Short)).await?;
                let actix_lapin_routed =
                    Child::start(executable, Kind::ReferenceIngest, &reference(Route::Ours)).await?;
                let body = String::from_utf8(Template::new(process::event_type(1))?.body(0))?;
                let spec = PublisherSpec { urls: urls.clone(), body };
                let publisher = Child::start(executable, Kind::Publisher, &spec).await?;
                let (ours, spool) = ours(options, urls).await?;
                Some(OnRabbitmq { ours, actix_lapin, actix_lapin_routed, publisher, idle_mib: 0.0, _spool: spool })
            }
        };
        let (embedded, _dir) = ours(options, Vec::new()).await?;
        tokio::time::sleep(IDLE).await;
        let idle_mib = embedded.resident_mib()?;
        embedded.stop().await;
        let embedded_cost = cost(EMBEDDED, idle_mib, idle_mib);
        let on_rabbitmq = match on_rabbitmq {
            Some(on) => Some(OnRabbitmq { idle_mib: on.ours.resident_mib()?, ..on }),
            None => None,
        };
        Ok(Self { options, rabbitmq, posts: Posts::new(SECRET)?, verify, on_rabbitmq, embedded_cost })
    }

    async fn measure(&mut self, case: Case) -> anyhow::Result<Figures> {
        let window = self.options.window();
        let Case { program, queues, concurrency } = case;
        let on_rabbitmq = || anyhow::anyhow!("RabbitMQ is not measured");
        let figures = match program {
            Program::Verify => load(self.options, &mut self.posts, &self.verify, case).await?,
            Program::OursEmbedded => {
                // Each measurement gets a new file, because one that grows from measurement to measurement would slow
                // the later ones.
                let (child, _dir) = ours(self.options, Vec::new()).await?;
                let figures = load(self.options, &mut self.posts, &child, case).await?;
                self.embedded_cost.loaded_mib = self.embedded_cost.loaded_mib.max(child.peak_resident_mib()?);
                child.stop().await;
                figures
            }
            Program::ActixLapin | Program::ActixLapinRouted | Program::OursRabbitmq => {
                let on = self.on_rabbitmq.as_ref().ok_or_else(on_rabbitmq)?;
                let child = match program {
                    Program::ActixLapin => &on.actix_lapin,
                    Program::ActixLapinRouted => &on.actix_lapin_routed,
                    Program::OursRabbitmq | Program::Verify | Program::OursEmbedded | Program::Lapin => &on.ours,
                };
                load(self.options, &mut self.posts, child, case).await?
            }
            Program::Lapin => {
                let publisher = &mut self.on_rabbitmq.as_mut().ok_or_else(on_rabbitmq)?.publisher;
                let question = Publish { in_flight: usize::from(concurrency), queues, warm_up: WARM_UP, window };
                publisher.ask(&question, window + WARM_UP + Duration::from_secs(30)).await?
            }
        };
        if let (Some(rabbitmq), Some(RABBITMQ)) = (self.rabbitmq, program.broker()) {
            let purged = rabbitmq.purge(HandlerName::ALL).await?;
            let acknowledged = figures.answered * queues as u64;
            anyhow::ensure!(
                purged >= acknowledged,
                "{} acknowledged {acknowledged} copies, and {purged} were in the queues: the figures count for nothing",
                program.name()
            );
        }
        Ok(figures)
    }

    /// Ends the processes and returns their costs.
    async fn stop(self) -> anyhow::Result<Vec<ProcessCost>> {
        let mut costs = vec![self.embedded_cost];
        self.verify.stop().await;
        if let Some(OnRabbitmq { ours, actix_lapin, actix_lapin_routed, publisher, idle_mib, _spool }) =
            self.on_rabbitmq
        {
            costs.push(cost(RABBITMQ, idle_mib, ours.peak_resident_mib()?));
            ours.stop().await;
            actix_lapin.stop().await;
            actix_lapin_routed.stop().await;
            publisher.stop().await;
        }
        Ok(costs)
    }
}

/// Posts to one of our processes or a reference's.
async fn load(options: &Options, posts: &mut Posts, child: &Child, case: Case) -> anyhow::Result<Figures> {
    let Case { program, queues, concurrency } = case;
    let path = match program {
        Program::OursEmbedded | Program::OursRabbitmq => format!("/webhooks/{SOURCE}"),
        Program::Verify | Program::ActixLapin | Program::ActixLapinRouted | Program::Lapin => {
            format!("/webhooks/{queues}")
        }
    };
    let seconds = usize::try_from(options.seconds).unwrap_or(usize::MAX).saturating_add(1);
    let ahead = SIGNED_AHEAD_PER_SECOND.saturating_mul(seconds.min(30));
    let batch = posts.batch(&Template::new(process::event_type(queues))?, ahead);
    let (addr, concurrency, window) = (child.addr()?, usize::from(concurrency), options.window());
    let cpu_before = child.cpu_seconds()?;
    let tally = load::run(Load { addr, path, concurrency, warm_up: WARM_UP, window }, batch).await?;
    let cpu = child.cpu_seconds()? - cpu_before;
    let cpu_seconds_per_1000 = (tally.all() > 0).then(|| cpu / tally.all() as f64 * 1000.0);
    Ok(Figures { cpu_seconds_per_1000, ..tally.figures(window) })
}

fn cost(broker: &'static str, idle_mib: f64, loaded_mib: f64) -> ProcessCost {
    ProcessCost { process: "ingest", broker, store: None, idle_mib, loaded_mib }
}

/// Starts ingest in its own directory, which is removed when the second value is dropped. Without URLs it uses the
/// embedded broker.
async fn ours(options: &Options, urls: Vec<String>) -> anyhow::Result<(Child, TempDir)> {
    let dir = tempfile::Builder::new().prefix("bench-ingest-").tempdir_in(&options.data_dir)?;
    let broker = BrokerSpec { urls, data_dir: dir.path().to_owned() };
    let spec = IngestSpec { broker, secret: SECRET.to_owned() };
    Ok((Child::start(&options.executable, Kind::Ingest, &spec).await?, dir))
}
