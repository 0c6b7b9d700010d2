//! Part 3: how much of a token's quota the workers use, how little they overrun it, and whether they wait when told to.
//! Measured with the token to themselves, and beside another program that takes half of it evenly.
//!
//! The handler is `log_note`, which makes one call per note and nothing else. More notes wait than can be called in
//! time.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use hookline_common::names::HandlerName;
use serde::Serialize;
use tempfile::TempDir;

use crate::child::Child;
use crate::figures::median;
use crate::options::{Options, Progress};
use crate::process::{ApiCall, ApiQuestion, ApiSpec, Caller, LimitSpec, Other, WorkerSpec};
use crate::quota::{self, CALLS, LATENCY};
use crate::rabbitmq::Rabbitmq;
use crate::samples;
use crate::stage::{Backend, Stage};

const WORKERS: [usize; 3] = [1, 4, 10];
/// Number of waiting notes: more than can be called until the end.
const WAITING: usize = 2000;
/// Number of whole windows behind a figure.
const WINDOWS: usize = 4;
const HANDLER: HandlerName = HandlerName::LogNote;
const TO_BEGIN: Duration = Duration::from_secs(30);
/// Maximum number of windows to watch. If the workers open windows too slowly, the calls seen by then must suffice.
const LONGEST: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const ASKED: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Serialize)]
pub struct PacingReport {
    /// The API's limit: this many calls in a window of `window_ms`.
    pub limit_calls: u32,
    pub window_ms: u64,
    /// Number of events that wait when the workers start.
    pub waiting: usize,
    pub measurements: Vec<PacingMeasurement>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PacingMeasurement {
    pub broker: &'static str,
    pub store: &'static str,
    /// Number of worker processes that share the token.
    pub workers: usize,
    /// Whether another program takes half of the quota.
    pub beside_another: bool,
    /// Share that we used of the calls left by the other program, over whole windows. The window in which the workers
    /// start is left out.
    pub used: f64,
    /// The same share from our first call to our last.
    pub used_overall: f64,
    /// Share of our calls, from the first on, that were answered 429, over all runs together.
    pub refused_share: f64,
    /// Number of our calls that arrived before a `Retry-After` had passed, over all runs together. Calls within 250 ms
    /// are left out, because the other workers take that long to learn of it.
    pub violations: u64,
    pub runs: Vec<PacingRun>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct PacingRun {
    pub used: f64,
    pub used_overall: f64,
    pub calls: u64,
    pub refused: u64,
    pub violations: u64,
    /// Number of windows behind `used`.
    pub windows: usize,
    /// The other program's calls, all of them and the refused ones.
    pub others_calls: u64,
    pub others_refused: u64,
}

/// Returns the number of steps that [`measure`] takes.
pub(crate) fn steps(options: &Options) -> u64 {
    cases(options).len() as u64 * u64::from(options.runs)
}

/// Returns pairs of the number of worker processes and whether another program runs. Several workers need a shared
/// store.
fn cases(options: &Options) -> Vec<(usize, bool)> {
    let workers = if Backend::largest(options).is_shared() { &WORKERS[..] } else { &WORKERS[..1] };
    workers.iter().flat_map(|workers| [(*workers, false), (*workers, true)]).collect()
}

pub(crate) async fn measure(
    options: &Options,
    rabbitmq: Option<&Rabbitmq>,
    progress: &dyn Progress,
) -> anyhow::Result<PacingReport> {
    let backend = Backend::largest(options);
    let bench = Bench { stage: Stage { options, rabbitmq }, backend };
    let cases = cases(options);
    let mut figures: Vec<Vec<PacingRun>> = vec![Vec::new(); cases.len()];
    for run in 0..options.runs {
        for ((workers, beside_another), runs) in cases.iter().zip(&mut figures) {
            let beside = if *beside_another { ", beside another program" } else { "" };
            progress.begin(&format!("pacing, run {} of {}: {workers} on one token{beside}", run + 1, options.runs));
            runs.push(bench.run(*workers, *beside_another).await?);
        }
    }
    let of = |((workers, beside_another), runs)| measurement(backend, workers, beside_another, runs);
    Ok(PacingReport {
        limit_calls: CALLS,
        window_ms: quota::micros(quota::window(options)) / 1000,
        waiting: WAITING,
        measurements: cases.into_iter().zip(figures).map(of).collect(),
    })
}

fn measurement(backend: Backend, workers: usize, beside_another: bool, runs: Vec<PacingRun>) -> PacingMeasurement {
    let of = |figure: fn(&PacingRun) -> f64| median(runs.iter().map(figure));
    let sum = |figure: fn(&PacingRun) -> u64| runs.iter().map(figure).sum::<u64>();
    PacingMeasurement {
        broker: backend.broker(),
        store: backend.store(),
        workers,
        beside_another,
        used: of(|run| run.used),
        used_overall: of(|run| run.used_overall),
        refused_share: sum(|run| run.refused) as f64 / sum(|run| run.calls).max(1) as f64,
        violations: sum(|run| run.violations),
        runs,
    }
}

struct Bench<'a> {
    stage: Stage<'a>,
    backend: Backend,
}

impl Bench<'_> {
    async fn run(&self, workers: usize, beside_another: bool) -> anyhow::Result<PacingRun> {
        self.stage.begin_anew(self.backend).await?;
        let other = beside_another.then_some(Other::HalfEvenly);
        let window = quota::window(self.stage.options);
        let limit = Some(LimitSpec { calls: CALLS, window, other });
        let mut api = self.stage.api(&ApiSpec { latency: LATENCY, limit }).await?;
        let account = samples::new_account();
        let dirs: Vec<TempDir> = (0..workers).map(|_| self.stage.dir()).collect::<anyhow::Result<_>>()?;
        let first = dirs.first().context("no worker")?;
        let events = samples::events("message.received", &account, 0..WAITING)?;
        self.stage.fill(self.stage.worker(self.backend, first, &[HANDLER]), &events).await?;

        let api_addr = api.addr()?;
        let specs: Vec<WorkerSpec> = dirs
            .iter()
            .map(|dir| WorkerSpec {
                api: api_addr,
                account: account.clone(),
                rate_limit_window: Some(window),
                ..self.stage.worker(self.backend, dir, &[HANDLER])
            })
            .collect();
        let started = try_join_all(specs.iter().map(|spec| self.stage.start(spec))).await?;
        let watched = watch(&mut api, window).await;
        futures::future::join_all(started.into_iter().map(Child::stop)).await;
        api.stop().await;
        figures(&watched?, window)
    }
}

/// Returns every call until enough windows have passed.
async fn watch(api: &mut Child, window: Duration) -> anyhow::Result<Vec<ApiCall>> {
    let mut calls = await_first_call(api).await?;
    let deadline = Instant::now() + LONGEST * window;
    while quota::following(&quota::openings(&calls, window), &calls).len() <= WINDOWS && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(500)).await;
        calls.append(&mut calls_of(api).await?);
    }
    let made = quota::ours(&calls).count();
    anyhow::ensure!(made < WAITING, "all {made} events were done before the end: nothing was paced");
    Ok(calls)
}

/// Returns the calls that the API recorded until one of ours was among them.
pub(crate) async fn await_first_call(api: &mut Child) -> anyhow::Result<Vec<ApiCall>> {
    let deadline = Instant::now() + TO_BEGIN;
    let mut calls = Vec::new();
    while quota::ours(&calls).next().is_none() {
        anyhow::ensure!(Instant::now() < deadline, "the workers made no call in {} s", TO_BEGIN.as_secs());
        tokio::time::sleep(LOOK_AGAIN).await;
        calls.append(&mut calls_of(api).await?);
    }
    Ok(calls)
}

/// Returns the calls that the API recorded since the previous request.
pub(crate) async fn calls_of(api: &mut Child) -> anyhow::Result<Vec<ApiCall>> {
    api.ask(&ApiQuestion::Calls, ASKED).await
}

fn figures(calls: &[ApiCall], window: Duration) -> anyhow::Result<PacingRun> {
    let openings = quota::openings(calls, window);
    let [from, .., to] = *quota::following(&openings, calls) else {
        anyhow::bail!("the workers called in no whole window of {} s", window.as_secs());
    };
    let times: Vec<u64> = quota::ours(calls).map(|call| call.at_us).collect();
    let (first, last) = times.first().zip(times.last()).context("no call was made")?;
    let count = |others: bool, refused: bool| {
        let of_whom = |call: &&ApiCall| (call.caller == Caller::Other) == others;
        calls.iter().filter(of_whom).filter(|call| call.retry_after_s.is_some() == refused).count() as u64
    };
    Ok(PacingRun {
        used: quota::used(calls, from..to, window),
        used_overall: quota::used(calls, *first..*last, window),
        calls: times.len() as u64,
        refused: count(false, true),
        violations: quota::early(calls),
        windows: openings.iter().filter(|opened_us| (from..to).contains(*opened_us)).count(),
        others_calls: count(true, false),
        others_refused: count(true, true),
    })
}
