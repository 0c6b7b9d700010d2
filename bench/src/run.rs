//! Runs the whole benchmark, from reading the machine's facts to the report.

use std::fmt;

use anyhow::Context as _;
use jiff::Timestamp;

use crate::machine::Machine;
use crate::options::{Options, Part, Progress};
use crate::rabbitmq::Rabbitmq;
use crate::report::{Build, Report};
use crate::stage::Backend;
use crate::targets::targets;
use crate::{ingest, isolation, open_files, opt_outs, pacing, postgresql, worker};

/// Load average above which other processes than the benchmark were using the machine.
const CALM: f64 = 0.5;

/// The benchmark was pointed at something that it must not touch.
#[derive(Debug)]
pub struct Refused(pub(crate) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Measures all requested parts.
///
/// # Errors
/// [`Refused`] if a broker or a store is in use; otherwise fails when something could not be measured.
pub async fn run(options: &Options, progress: &dyn Progress) -> anyhow::Result<Report> {
    open_files::raise_limit();
    let machine = Machine::here();
    let measured_at = Timestamp::now().to_string();
    if let Some(url) = &options.store_url {
        postgresql::claim(url).await?;
    }
    let rabbitmq = match options.broker_urls.as_slice() {
        [] => None,
        urls => Some(Rabbitmq::open(urls).await?),
    };
    progress.steps(options.parts.iter().map(|part| steps(*part, options)).sum());
    let measured = parts(options, rabbitmq.as_ref(), progress).await;
    if let Some(rabbitmq) = &rabbitmq {
        let cleaned = rabbitmq.clean_up().await;
        // If a measurement failed first, its error says more.
        if measured.is_ok() {
            cleaned.context("removing what was measured with")?;
        }
    }
    let measured = measured?;
    Ok(Report {
        hookline: Build::THIS,
        warnings: warnings(&machine, measured.ingest.as_ref()),
        machine,
        measured_at,
        seconds: options.seconds,
        runs: options.runs,
        rabbitmq_version: rabbitmq.and_then(|rabbitmq| rabbitmq.version),
        targets: targets(&measured),
        ingest: measured.ingest,
        worker: measured.worker,
        pacing: measured.pacing,
        opt_outs: measured.opt_outs,
        isolation: measured.isolation,
        cost: measured.cost,
        left_out: left_out(options),
    })
}

/// The results of each part.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) ingest: Option<ingest::IngestReport>,
    pub(crate) worker: Option<worker::WorkerReport>,
    pub(crate) pacing: Option<pacing::PacingReport>,
    pub(crate) opt_outs: Option<opt_outs::OptOutsReport>,
    pub(crate) isolation: Option<isolation::IsolationReport>,
    pub(crate) cost: Vec<crate::cost::ProcessCost>,
}

fn steps(part: Part, options: &Options) -> u64 {
    match part {
        Part::Ingest => ingest::steps(options),
        Part::Worker => worker::steps(options),
        Part::Pacing => pacing::steps(options),
        Part::OptOuts => opt_outs::steps(options),
        Part::Isolation => isolation::steps(options),
    }
}

async fn parts(options: &Options, rabbitmq: Option<&Rabbitmq>, progress: &dyn Progress) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    for part in &options.parts {
        if let Some(rabbitmq) = rabbitmq {
            rabbitmq.begin_anew().await?;
        }
        match part {
            Part::Ingest => {
                let (report, cost) = ingest::measure(options, rabbitmq, progress).await?;
                measured.ingest = Some(report);
                measured.cost.extend(cost);
            }
            Part::Worker => {
                let (report, cost) = worker::measure(options, rabbitmq, progress).await?;
                measured.worker = Some(report);
                measured.cost.extend(cost);
            }
            Part::Pacing => measured.pacing = Some(pacing::measure(options, rabbitmq, progress).await?),
            Part::OptOuts => measured.opt_outs = Some(opt_outs::measure(options, rabbitmq, progress).await?),
            Part::Isolation => measured.isolation = Some(isolation::measure(options, rabbitmq, progress).await?),
        }
    }
    Ok(measured)
}

fn left_out(options: &Options) -> Vec<String> {
    let mut left_out = Vec::new();
    if options.broker_urls.is_empty() {
        left_out.push(
            "RabbitMQ, and with it every comparison with a hand-written handler: give --broker-url \
             amqp://USER:PASSWORD@HOST/VHOST, a virtual host of its own"
                .to_owned(),
        );
    }
    if options.parts.iter().any(|part| *part != Part::Ingest) && options.store_url.is_none() {
        left_out.push("PostgreSQL: give --store-url postgres://…, a database of its own".to_owned());
    }
    if options.parts.contains(&Part::Pacing) && !Backend::largest(options).is_shared() {
        left_out
            .push("4 and 10 workers on one token: they share a store, so give --broker-url and --store-url".to_owned());
    }
    left_out
}

fn warnings(machine: &Machine, ingest: Option<&ingest::IngestReport>) -> Vec<String> {
    let mut warnings = Vec::new();
    if !Build::THIS.release {
        warnings.push("this is not a release build: the figures say nothing".to_owned());
    }
    if machine.load_before > CALM {
        warnings.push(format!(
            "the load average was {:.2} before it began: others use this machine, and single figures say little",
            machine.load_before
        ));
    }
    let measurements = ingest.map(|ingest| ingest.measurements.as_slice()).unwrap_or_default();
    let failed: u64 = measurements.iter().map(|one| one.median.failed).sum();
    if failed > 0 {
        warnings.push(format!("{failed} requests failed: what they would have taken is in no figure"));
    }
    warnings
}
