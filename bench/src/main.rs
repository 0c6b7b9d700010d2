//! `hookline-bench`: measures Hookline's speed on this machine, compares it with hand-written programs, and checks the
//! project's targets.

mod tables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use hookline_bench::process::Kind;
use hookline_bench::{Options, Part, Progress, Refused};
use hookline_broker::embedded::forgetful_file_system;
use hookline_common::secret::Secret;
use hookline_common::service::shutdown;
use hookline_common::settings::Settings;
use indicatif::ProgressBar;
use url::Url;

use hookline::open::wrong_usage;
use hookline::{open, output, progress, secret};

const BROKER_SCHEMES: [&str; 2] = ["amqp", "amqps"];
const STORE_SCHEMES: [&str; 2] = ["postgres", "postgresql"];
/// A signal ended the benchmark.
const EXIT_INTERRUPTED: u8 = 130;

#[derive(Parser)]
#[command(
    name = "hookline-bench",
    version,
    about = "Measures throughput, latency and cost on this machine, beside hand-written programs"
)]
#[command(args_conflicts_with_subcommands = true, max_term_width = 110)]
#[command(
    after_help = "The benchmark measures on loopback, with processes of its own, in directories of its own below \
    data_dir, and uses nothing that is deployed. It measures RabbitMQ if you give a URL of a virtual host that holds \
    nothing else: what the benchmark publishes there is purged. Build it with --release, and let the machine rest \
    meanwhile. The report marks a missed target; the exit code tells only whether everything could be measured.\n\n\
    With 3 seconds a run of ingest takes about 3 minutes, worker 2, pacing 11 (4 without RabbitMQ and PostgreSQL), \
    opt-outs 3 and isolation 1; the usual 5 runs of everything take 100 minutes. The windows of the rate limit are 20 s \
    long, whatever --seconds is, and pacing lasts five of them for each number of workers, alone and beside another \
    program. With --seconds 1 the windows are 3 s long: enough to see that everything can be measured, too short for \
    figures."
)]
struct Arguments {
    /// Read this configuration file [default: HOOKLINE_CONFIG, then ./hookline.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Parts to measure, in this order
    #[arg(value_enum, default_values_t = [What::All])]
    what: Vec<What>,
    /// RabbitMQ, with a virtual host of its own; env:NAME and file:PATH keep a password off the command line; may be
    /// given several times [default: broker.url; without one RabbitMQ is not measured]
    #[arg(long, value_name = "URL")]
    broker_url: Vec<String>,
    /// PostgreSQL, with a database of its own; env:NAME, file:PATH [default: store.url; without one only SQLite]
    #[arg(long, value_name = "URL")]
    store_url: Option<String>,
    /// Numbers of requests or calls in flight [default: 1,16,64,256 for ingest, 10,100,1000 for worker]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: Vec<u16>,
    /// Length of one measurement; isolation takes 4 times as long, pacing and opt-outs follow the rate limit's windows
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Number of times that each part is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Print one JSON document instead of tables
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    process: Option<Process>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Durable acknowledgements: requests a second, latency
    Ingest,
    /// Throughput against an API that takes 50 ms, CPU
    Worker,
    /// How much of a rate limit 1, 4 and 10 workers use, and what they overrun
    Pacing,
    /// How long an opt-out waits behind notes that use the rate limit up
    OptOuts,
    /// Whether an API that hangs slows down what does not call it
    Isolation,
    All,
}

#[derive(Subcommand)]
enum Process {
    /// A process that is measured; started by the benchmark only
    #[command(hide = true)]
    Process { kind: Kind },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    hookline::run(dispatch(&arguments))
}

async fn dispatch(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.process {
        Some(Process::Process { kind }) => {
            hookline_bench::process::run(*kind).await?;
            Ok(ExitCode::SUCCESS)
        }
        None => measure(arguments.config.as_deref(), arguments).await,
    }
}

async fn measure(config: Option<&Path>, args: &Arguments) -> anyhow::Result<ExitCode> {
    let settings = open::settings(config)?;
    let options = options(&settings, args)?;
    open::data_dir(&settings)?;
    if let Some(kind) = forgetful_file_system(&settings.data_dir) {
        output::hint(&format!(
            "{} is on {kind}, where fsync costs nothing: figures of the embedded broker and SQLite say nothing; set \
             data_dir to a disk",
            settings.data_dir.display()
        ));
    }
    let shutdown = shutdown::on_signal()?;
    let bar = Bar(progress::steps());
    let report = tokio::select! {
        report = hookline_bench::run(&options, &bar) => report,
        () = shutdown.cancelled() => return Ok(ExitCode::from(EXIT_INTERRUPTED)),
    };
    bar.0.finish_and_clear();
    let report = report.map_err(|error| match error.downcast::<Refused>() {
        Ok(refused) => wrong_usage(refused.to_string()),
        Err(error) => error,
    })?;
    if args.json {
        output::print_json(&report)?;
    } else {
        tables::print(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn options(settings: &Settings, args: &Arguments) -> anyhow::Result<Options> {
    let broker_urls = if args.broker_url.is_empty() {
        settings.broker.url.clone()
    } else {
        let read = |text: &String| url("--broker-url", text, &BROKER_SCHEMES);
        args.broker_url.iter().map(read).collect::<anyhow::Result<_>>()?
    };
    let store_url = match &args.store_url {
        Some(text) => Some(url("--store-url", text, &STORE_SCHEMES)?),
        None => settings.store.url.clone(),
    };
    let mut parts: Vec<Part> = Vec::new();
    for part in args.what.iter().flat_map(|what| parts_of(*what)) {
        if !parts.contains(part) {
            parts.push(*part);
        }
    }
    let executable = std::env::current_exe().context("finding this executable")?;
    let data_dir = settings.data_dir.clone();
    Ok(Options {
        parts,
        broker_urls,
        store_url,
        concurrencies: args.concurrency.clone(),
        seconds: args.seconds,
        runs: args.runs,
        data_dir,
        executable,
    })
}

const fn parts_of(what: What) -> &'static [Part] {
    match what {
        What::Ingest => &[Part::Ingest],
        What::Worker => &[Part::Worker],
        What::Pacing => &[Part::Pacing],
        What::OptOuts => &[Part::OptOuts],
        What::Isolation => &[Part::Isolation],
        What::All => &[Part::Ingest, Part::Worker, Part::Pacing, Part::OptOuts, Part::Isolation],
    }
}

/// Resolves a flag to a URL with one of these schemes. The URL is never shown, because it may contain a password.
fn url(flag: &str, text: &str, schemes: &[&str]) -> anyhow::Result<Secret> {
    let secret = secret::given(flag, text)?;
    let known = Url::parse(secret.expose()).is_ok_and(|url| schemes.contains(&url.scheme()) && url.has_host());
    if known {
        Ok(secret)
    } else {
        Err(wrong_usage(format!("{flag} is no URL of the form {}://USER:PASSWORD@HOST/NAME", schemes[0])))
    }
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn steps(&self, count: u64) {
        self.0.set_length(count);
    }

    fn begin(&self, step: &str) {
        if self.0.message().is_empty() {
            self.0.reset_eta();
        } else {
            self.0.inc(1);
        }
        self.0.set_message(step.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_nonsense_is_refused() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
        for line in ["hookline-bench nonsense", "hookline-bench --runs 0", "hookline-bench --seconds 61"] {
            let error = Arguments::try_parse_from(line.split(' ')).err().expect(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
