//! Part 3: how much of a token's quota workers use, how little they overrun it, and whether they wait when they are
//! told to; with the token to themselves and beside another program that takes half of it evenly.
//!
//! The handler is `log_note`: one call a note, and nothing else in its way. More notes wait than can be called in time.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use hookline_common::names::HandlerName;
use serde::Serialize;
use tempfile::TempDir;

use crate::child::Child;
use crate::figures::median;
use crate::options::{Options, Progress};
use crate::process::{ApiCall, ApiQuestion, ApiSpec, LimitSpec, Other, WorkerSpec};
use crate::quota::{self, CALLS, LATENCY, WINDOW};
use crate::rabbitmq::Rabbitmq;
use crate::samples;
use crate::stage::{Place, Stage};

const WORKERS: [usize; 3] = [1, 4, 10];
/// At least so many wait.
const WAITING: usize = 2000;
/// What is measured, in lengths of `--seconds`: many windows have to pass.
const LENGTHS: u32 = 5;
const HANDLER: HandlerName = HandlerName::LogNote;
const TO_BEGIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const ASKED: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Serialize)]
pub struct PacingReport {
    /// The API's limit: so many calls in a window of this length.
    pub limit_calls: u32,
    pub window_ms: u64,
    /// Events that wait when the workers start.
    pub waiting: usize,
    /// What is used is counted from so long after the first call, in whole windows.
    pub learning_ms: u64,
    pub measurements: Vec<PacingMeasurement>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PacingMeasurement {
    pub broker: &'static str,
    pub store: &'static str,
    /// Processes on the one token.
    pub workers: usize,
    /// Another program takes half of the quota.
    pub beside_another: bool,
    /// Of the calls that the other program left, after the window was learned and before the last one.
    pub used: f64,
    /// The same from our first call to our last.
    pub used_overall: f64,
    /// Of our calls, from the first on: answered 429. All runs together.
    pub refused_share: f64,
    /// Our calls that arrived before a `Retry-After` had passed, 250 ms for the other workers to hear of it left out.
    /// All runs together.
    pub violations: u64,
    /// From the first call to the first of two windows running that were used to 90 %. `None`: there were none.
    pub learned_seconds: Option<f64>,
    pub runs: Vec<PacingRun>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct PacingRun {
    pub used: f64,
    pub used_overall: f64,
    pub calls: u64,
    pub refused: u64,
    /// Of these, when the window had been learned.
    pub refused_later: u64,
    pub violations: u64,
    pub learned_seconds: Option<f64>,
    /// How many windows `used` is made of.
    pub windows: u64,
    /// Of the other program, answered and refused.
    pub others_calls: u64,
    pub others_refused: u64,
}

/// How many steps [`measure`] takes.
pub(crate) fn steps(options: &Options) -> u64 {
    cases(options).len() as u64 * u64::from(options.runs)
}

/// Worker processes, and whether another program is there. Several workers need a store that they share.
fn cases(options: &Options) -> Vec<(usize, bool)> {
    let workers = if Place::largest(options).is_shared() { &WORKERS[..] } else { &WORKERS[..1] };
    workers.iter().flat_map(|workers| [(*workers, false), (*workers, true)]).collect()
}

pub(crate) async fn measure(
    options: &Options,
    rabbitmq: Option<&Rabbitmq>,
    progress: &dyn Progress,
) -> anyhow::Result<PacingReport> {
    let place = Place::largest(options);
    let bench = Bench { stage: Stage { options, rabbitmq }, place };
    let cases = cases(options);
    let mut figures: Vec<Vec<PacingRun>> = vec![Vec::new(); cases.len()];
    for run in 0..options.runs {
        for ((workers, beside_another), runs) in cases.iter().zip(&mut figures) {
            let beside = if *beside_another { ", beside another program" } else { "" };
            progress.begin(&format!("pacing, run {} of {}: {workers} on one token{beside}", run + 1, options.runs));
            runs.push(bench.run(*workers, *beside_another).await?);
        }
    }
    let of = |((workers, beside_another), runs)| measurement(place, workers, beside_another, runs);
    Ok(PacingReport {
        limit_calls: CALLS,
        window_ms: millis(WINDOW),
        waiting: bench.waiting(),
        learning_ms: millis(quota::learning(options)),
        measurements: cases.into_iter().zip(figures).map(of).collect(),
    })
}

fn measurement(place: Place, workers: usize, beside_another: bool, runs: Vec<PacingRun>) -> PacingMeasurement {
    let of = |figure: fn(&PacingRun) -> f64| median(runs.iter().map(figure));
    let sum = |figure: fn(&PacingRun) -> u64| runs.iter().map(figure).sum::<u64>();
    let learned: Option<Vec<f64>> = runs.iter().map(|run| run.learned_seconds).collect();
    PacingMeasurement {
        broker: place.broker(),
        store: place.store(),
        workers,
        beside_another,
        used: of(|run| run.used),
        used_overall: of(|run| run.used_overall),
        refused_share: sum(|run| run.refused) as f64 / sum(|run| run.calls).max(1) as f64,
        violations: sum(|run| run.violations),
        learned_seconds: learned.map(median),
        runs,
    }
}

struct Bench<'a> {
    stage: Stage<'a>,
    place: Place,
}

impl Bench<'_> {
    async fn run(&self, workers: usize, beside_another: bool) -> anyhow::Result<PacingRun> {
        self.stage.begin_anew(self.place).await?;
        let other = beside_another.then_some(Other::HalfEvenly);
        let limit = Some(LimitSpec { calls: CALLS, window: WINDOW, other });
        let mut api = self.stage.api(&ApiSpec { latency: LATENCY, limit }).await?;
        let account = samples::new_account();
        let dirs: Vec<TempDir> = (0..workers).map(|_| self.stage.dir()).collect::<anyhow::Result<_>>()?;
        let first = dirs.first().context("no worker")?;
        let events = samples::events("message.received", &account, 0..self.waiting())?;
        self.stage.fill(self.stage.worker(self.place, first, &[HANDLER]), &events).await?;

        let api_addr = api.addr()?;
        let specs: Vec<WorkerSpec> = dirs
            .iter()
            .map(|dir| WorkerSpec {
                api: api_addr,
                account: account.clone(),
                ..self.stage.worker(self.place, dir, &[HANDLER])
            })
            .collect();
        let started = try_join_all(specs.iter().map(|spec| self.stage.start(spec))).await?;
        let watched = self.watch(&mut api).await;
        futures::future::join_all(started.into_iter().map(Child::stop)).await;
        api.stop().await;
        figures(&watched?, quota::learning(self.stage.options))
    }

    /// Every call from our first one on, until enough windows have passed.
    async fn watch(&self, api: &mut Child) -> anyhow::Result<Vec<ApiCall>> {
        let mut calls = await_first_call(api).await?;
        let end = Instant::now() + self.long() + 2 * WINDOW;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(500)).await;
            calls.append(&mut calls_of(api).await?);
        }
        let made = quota::ours(&calls).count();
        anyhow::ensure!(made < self.waiting(), "all {made} events were done before the end: nothing was paced");
        Ok(calls)
    }

    /// From the first call on, to learn and to be measured.
    fn long(&self) -> Duration {
        quota::learning(self.stage.options) + self.stage.options.window() * LENGTHS
    }

    /// More than can be called until the end.
    fn waiting(&self) -> usize {
        let seconds = (self.long() + 3 * WINDOW).as_secs_f64();
        let most = seconds / WINDOW.as_secs_f64() * f64::from(CALLS);
        // Positive and small.
        WAITING.max(most as usize)
    }
}

/// The calls that the API noted until one of ours was among them.
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

/// What the API noted since it was asked last.
pub(crate) async fn calls_of(api: &mut Child) -> anyhow::Result<Vec<ApiCall>> {
    api.ask(&ApiQuestion::Calls, ASKED).await
}

fn figures(calls: &[ApiCall], learning: Duration) -> anyhow::Result<PacingRun> {
    let windows = quota::windows(calls);
    let times: Vec<u64> = quota::ours(calls).map(|call| call.at_us).collect();
    let (first, last) = times.first().zip(times.last()).context("no call was made")?;
    let learned_us = first + quota::micros(learning);
    let (from, to) =
        quota::whole_windows(&windows, learned_us).context("no call was made after the window was learned")?;
    let count = |others: bool, refused: bool| {
        let of_whom = |call: &&ApiCall| (call.caller == crate::process::Caller::Other) == others;
        calls.iter().filter(of_whom).filter(|call| call.retry_after_s.is_some() == refused).count() as u64
    };
    let refused_from = |from_us: u64| {
        quota::ours(calls).filter(|call| call.retry_after_s.is_some() && call.at_us >= from_us).count() as u64
    };
    Ok(PacingRun {
        used: quota::used(calls, from, to),
        used_overall: quota::used(calls, *first, *last),
        calls: times.len() as u64,
        refused: count(false, true),
        refused_later: refused_from(learned_us),
        violations: quota::early(calls),
        learned_seconds: quota::learned_after(&windows, *first).map(|after| after.as_secs_f64()),
        windows: windows.iter().filter(|window| (from..to).contains(&window.opened_us)).count() as u64,
        others_calls: count(true, false),
        others_refused: count(true, true),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
