//! Which seeds are run, several at once, and what is told of them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::StreamExt as _;

use crate::maker;
use crate::plan::{Below, Plan};
use crate::play::Play;
use crate::verdict;

/// A run waits most of its time.
const AT_ONCE: usize = 6;
/// A run that takes longer has hung somewhere.
const WITHIN: Duration = Duration::from_secs(240);

/// What `scripts/faults` asks for.
#[expect(clippy::disallowed_methods, reason = "the suite's own variables, no settings of Hookline")]
pub(crate) fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    text(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The seeds of this run.
fn seeds(below: Below, quick: u64, full: u64) -> Vec<u64> {
    if let Some(seed) = number("HOOKLINE_MIXED_SEED") {
        return vec![seed];
    }
    let default = if text("HOOKLINE_FAULTS_LANE").as_deref() == Some("full") { full } else { quick };
    let count = number("HOOKLINE_MIXED_SEEDS").unwrap_or(default);
    let first = number("HOOKLINE_MIXED_FIRST").unwrap_or(1);
    let about = text("HOOKLINE_MIXED_ABOUT").unwrap_or_default();
    let all = first..first + count;
    all.filter(|seed| maker::plan(*seed, below).about.iter().any(|name| name.contains(&about))).collect()
}

/// Runs the one seed that was asked for, or so many from the first on.
///
/// # Panics
/// Where one fails: with all that did, and how to see each again.
pub(crate) async fn all(below: Below, quick: u64, full: u64) {
    let seeds = seeds(below, quick, full);
    let (count, began) = (seeds.len(), Instant::now());
    let at_once = number("HOOKLINE_MIXED_AT_ONCE").and_then(|number| usize::try_from(number).ok()).unwrap_or(AT_ONCE);
    let mut runs = futures::stream::iter(seeds)
        .map(|seed| async move { (seed, alone(seed, below).await) })
        .buffer_unordered(at_once);
    let (mut failed, mut late) = (Vec::new(), Vec::new());
    while let Some((seed, failures)) = runs.next().await {
        match failures.as_slice() {
            [] => {}
            some if some.iter().all(|failure| failure.starts_with(verdict::LATE)) => late.push(seed),
            _ => {
                tell(seed, below, &failures);
                failed.push(seed);
            }
        }
    }
    // On a busy machine a run can be late for no fault of ours. What is late by itself is so when it runs alone.
    for seed in late {
        let mut failures = alone(seed, below).await;
        if !failures.is_empty() {
            failures = alone(seed, below).await;
        }
        if !failures.is_empty() {
            tell(seed, below, &failures);
            failed.push(seed);
        }
    }
    failed.sort_unstable();
    let took = began.elapsed().as_secs();
    println!("mixed lane on {}: {count} seeds in {took} s, failed: {failed:?}", name(below));
    if let Some(path) = text("HOOKLINE_MIXED_RESULTS") {
        let row = format!("{}\t{count}\t{took}\t{}\n", name(below), failed.len());
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.expect("the results can be written").write_all(row.as_bytes()).expect("written");
    }
    assert!(failed.is_empty(), "{} of {count} seeds failed: {failed:?}", failed.len());
}

/// A run on a thread of its own: what panics there is this seed's failure.
async fn alone(seed: u64, below: Below) -> Vec<String> {
    let here = tokio::runtime::Handle::current();
    let run = tokio::task::spawn_blocking(move || here.block_on(one(seed, below))).await;
    run.unwrap_or_else(|panic| vec![format!("panicked: {panic}")])
}

async fn one(seed: u64, below: Below) -> Vec<String> {
    let plan = maker::plan(seed, below);
    let mut play = Play::begin(&plan).await;
    let run = async {
        play.all_steps().await;
        verdict::of(&mut play).await
    };
    let failures =
        tokio::time::timeout(WITHIN, run).await.unwrap_or_else(|_| vec![format!("not over after {WITHIN:?}")]);
    if !failures.is_empty() || number("HOOKLINE_MIXED_SEED").is_some() {
        keep(&play);
    }
    play.stage.strike().await;
    failures
}

/// Everything there is to know of a run, in a file.
fn keep(play: &Play<'_>) {
    let mut text = told(play.plan);
    for request in play.stage.all_in_one.sandbox.requests() {
        let hookline_sandbox::RecordedRequest {
            at, method, path, status, effect, genuine, marked, answered_at, ..
        } = request;
        let took = answered_at.map(|answered| answered.as_millisecond() - at.as_millisecond());
        let what = format!("{method} {path} {status:?} after {took:?} ms");
        let _ = writeln!(text, "{at} {what} effect {effect} genuine {genuine} marked {marked}");
    }
    for sent in play.sent() {
        let at = |ms| jiff::Timestamp::from_millisecond(ms).expect("a time");
        let _ = writeln!(text, "{} posted {} accepted {} {}", sent.said, at(sent.posted), at(sent.accepted), sent.id);
    }
    for line in play.stage.written().iter().flat_map(|text| text.lines()) {
        let _ = writeln!(text, "{line}");
    }
    std::fs::write(kept(play.plan.seed, play.plan.below), text).expect("written");
}

fn kept(seed: u64, below: Below) -> PathBuf {
    let broker = if below == Below::OneMachine { "one-machine" } else { "rabbitmq" };
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mixed-{broker}-{seed}.log"))
}

/// The failures of a seed, in one write: runs are side by side.
fn tell(seed: u64, below: Below, failures: &[String]) {
    let plan = maker::plan(seed, below);
    let option = if below == Below::OneMachine { "" } else { " --rabbitmq" };
    let mut text = format!("\nseed {seed} on {} fails: {}\n", name(below), plan.about.join("; "));
    for failure in failures {
        let _ = writeln!(text, "  {failure}");
    }
    let _ = writeln!(text, "  all of it: {}", kept(seed, below).display());
    let _ = writeln!(text, "  again: scripts/faults mixed{option} --seed {seed}");
    // Not captured by the test harness.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn name(below: Below) -> &'static str {
    match below {
        Below::OneMachine => "one machine",
        Below::RabbitMqAndPostgres => "RabbitMQ and PostgreSQL",
    }
}

/// The plan, for whoever has to understand a seed.
pub(crate) fn told(plan: &Plan) -> String {
    let mut text = format!("seed {}, {} accounts: {}\n", plan.seed, plan.accounts, plan.about.join("; "));
    text.push_str(&crate::crm::told(plan));
    for (at, step) in &plan.steps {
        let _ = write!(text, "  {:>5} ms {step:?}", at.as_millis());
        if let crate::plan::Step::Send(said) = step {
            let said = &plan.said[*said];
            let _ = write!(text, " {:?} of {} {:?} by {}", said.what, said.phone(), said.dated, said.facts.account);
            let _ = write!(text, " as {:?}, id {:?}", said.written, said.opt_out_id);
        }
        if let crate::plan::Step::Begin(trouble) = step {
            let _ = write!(text, " {:?}", plan.troubles[*trouble].rule);
        }
        text.push('\n');
    }
    text
}
