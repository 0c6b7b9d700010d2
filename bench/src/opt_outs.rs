//! Part 4: how long an opt-out waits behind a backlog of notes that uses up the token's quota, and how many calls are
//! made before it. Measured with the token to ourselves, and beside another program that spends what is left of each
//! window, including the reserve for opt-outs.
//!
//! The time runs from publishing the opt-out to the broker until its PUT arrives at the API.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::{join_all, try_join_all};
use hookline_common::event::Event;
use hookline_common::names::HandlerName;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tempfile::TempDir;

use crate::child::Child;
use crate::figures::{Spread, spread};
use crate::options::{Options, Progress};
use crate::pacing::{await_first_call, calls_of};
use crate::process::{
    ApiCall, ApiSpec, Caller, LimitSpec, Other, PublishEvents, Published, WorkerQuestion, WorkerSpec,
};
use crate::quota::{self, CALLS, LATENCY};
use crate::rabbitmq::Rabbitmq;
use crate::samples;
use crate::stage::{Backend, Stage};

/// Number of waiting notes, and the number when `--seconds` is too short for figures anyway.
const WAITING: usize = 10_000;
const WAITING_BRIEFLY: usize = 2_000;
/// Number of workers, if they can share the token.
const WORKERS: usize = 4;
/// Number of windows over which opt-outs are sent, and the average number of opt-outs per window.
const WINDOWS: u32 = 3;
const A_WINDOW: u32 = 10;
/// The moments are drawn from this seed and the number of the run, so they are the same in every benchmark.
const SEED: u64 = 0x0b7_0075;
/// Maximum wait for the PUTs after the last opt-out.
const TO_ARRIVE: Duration = Duration::from_secs(30);
const ASKED: Duration = Duration::from_secs(10);
const HANDLERS: [HandlerName; 2] = [HandlerName::LogNote, HandlerName::RecordOptOut];

#[derive(Clone, Debug, Serialize)]
pub struct OptOutsReport {
    pub limit_calls: u32,
    pub window_ms: u64,
    /// Number of notes that wait when the workers start.
    pub waiting: usize,
    pub measurements: Vec<OptOutsMeasurement>,
}

/// One case, with the opt-outs of all runs together, because the slowest of a few says little.
#[derive(Clone, Debug, Serialize)]
pub struct OptOutsMeasurement {
    pub broker: &'static str,
    pub store: &'static str,
    pub workers: usize,
    /// Whether another program spends what is left of each window after half of it has passed.
    pub beside_another: bool,
    pub opt_outs: u64,
    /// Opt-outs whose PUT did not arrive within 30 s after the last one was sent. They are in no other figure.
    pub missing: u64,
    /// Opt-outs that came when no call was left in the window.
    pub without_a_slot: u64,
    /// Opt-outs whose PUT was first answered 429, because nobody could know that another program had made the last
    /// call.
    pub met_429: u64,
    /// Opt-outs that were PUT again after a successful answer, because the worker did not accept that answer as proof.
    pub put_again: u64,
    /// Time from the broker to the API.
    pub seconds: Spread,
    /// The same time, counted from when the quota allowed a call.
    pub beyond_slot_seconds: Spread,
    /// Number of calls of any kind that the API took on the token in between.
    pub calls_before: Spread,
    pub calls_before_counts: Vec<CallsBefore>,
    /// How many of our calls, notes included, were answered 429.
    pub refused: u64,
    pub calls: u64,
}

/// How many opt-outs had this many calls before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CallsBefore {
    pub at_least: u64,
    /// `None` means no upper bound.
    pub at_most: Option<u64>,
    pub opt_outs: u64,
}

/// One opt-out that arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Arrived {
    seconds: f64,
    beyond_slot_seconds: f64,
    calls_before: u64,
    without_a_slot: bool,
    met_429: bool,
    put_again: bool,
}

#[derive(Default)]
struct Run {
    arrived: Vec<Arrived>,
    missing: u64,
    refused: u64,
    calls: u64,
}

/// Returns the number of steps that [`measure`] takes.
pub(crate) fn steps(options: &Options) -> u64 {
    2 * u64::from(options.runs)
}

pub(crate) async fn measure(
    options: &Options,
    rabbitmq: Option<&Rabbitmq>,
    progress: &dyn Progress,
) -> anyhow::Result<OptOutsReport> {
    let backend = Backend::largest(options);
    let bench = Bench { stage: Stage { options, rabbitmq }, backend };
    let mut cases = [(false, Vec::new()), (true, Vec::new())];
    for run in 0..options.runs {
        for (beside_another, runs) in &mut cases {
            let beside = if *beside_another { ", beside another program" } else { "" };
            progress.begin(&format!("opt-outs, run {} of {}: behind notes{beside}", run + 1, options.runs));
            runs.push(bench.run(run, *beside_another).await?);
        }
    }
    Ok(OptOutsReport {
        limit_calls: CALLS,
        window_ms: quota::micros(bench.window()) / 1000,
        waiting: bench.waiting(),
        measurements: cases
            .into_iter()
            .map(|(beside_another, runs)| bench.measurement(beside_another, &runs))
            .collect(),
    })
}

struct Bench<'a> {
    stage: Stage<'a>,
    backend: Backend,
}

impl Bench<'_> {
    fn waiting(&self) -> usize {
        if self.stage.options.is_brief() { WAITING_BRIEFLY } else { WAITING }
    }

    fn window(&self) -> Duration {
        quota::window(self.stage.options)
    }

    fn workers(&self) -> usize {
        if self.backend.is_shared() { WORKERS } else { 1 }
    }

    fn measurement(&self, beside_another: bool, runs: &[Run]) -> OptOutsMeasurement {
        let arrived: Vec<Arrived> = runs.iter().flat_map(|run| run.arrived.iter().copied()).collect();
        let of = |figure: fn(&Arrived) -> f64| spread(arrived.iter().map(figure));
        let missing = runs.iter().map(|run| run.missing).sum();
        OptOutsMeasurement {
            broker: self.backend.broker(),
            store: self.backend.store(),
            workers: self.workers(),
            beside_another,
            opt_outs: arrived.len() as u64 + missing,
            missing,
            without_a_slot: arrived.iter().filter(|one| one.without_a_slot).count() as u64,
            met_429: arrived.iter().filter(|one| one.met_429).count() as u64,
            put_again: arrived.iter().filter(|one| one.put_again).count() as u64,
            seconds: of(|one| one.seconds),
            beyond_slot_seconds: of(|one| one.beyond_slot_seconds),
            calls_before: of(|one| one.calls_before as f64),
            calls_before_counts: counts(&arrived),
            refused: runs.iter().map(|run| run.refused).sum(),
            calls: runs.iter().map(|run| run.calls).sum(),
        }
    }

    async fn run(&self, run: u32, beside_another: bool) -> anyhow::Result<Run> {
        self.stage.begin_anew(self.backend).await?;
        let other = beside_another.then_some(Other::SpendsTheRest);
        let limit = Some(LimitSpec { calls: CALLS, window: self.window(), other });
        let mut api = self.stage.api(&ApiSpec { latency: LATENCY, limit }).await?;
        let account = samples::new_account();
        let dirs: Vec<TempDir> = (0..self.workers()).map(|_| self.stage.dir()).collect::<anyhow::Result<_>>()?;
        let first = dirs.first().context("no worker")?;
        let waiting = self.waiting();
        let notes = samples::events("message.received", &account, 0..waiting)?;
        self.stage.fill(self.stage.worker(self.backend, first, &HANDLERS), &notes).await?;
        drop(notes);

        let api_addr = api.addr()?;
        let worker = |dir| WorkerSpec {
            api: api_addr,
            account: account.clone(),
            rate_limit_window: Some(self.window()),
            ..self.stage.worker(self.backend, dir, &HANDLERS)
        };
        let specs: Vec<WorkerSpec> = dirs.iter().map(worker).collect();
        let mut workers = try_join_all(specs.iter().map(|spec| self.stage.start(spec))).await?;
        let count = (WINDOWS * A_WINDOW) as usize;
        let opt_outs = samples::events("contact.opted_out", &account, waiting..waiting + count)?;
        let worker = workers.first_mut().context("no worker")?;
        let ran = self.send(&mut api, worker, &opt_outs, SEED + u64::from(run)).await;
        join_all(workers.into_iter().map(Child::stop)).await;
        api.stop().await;
        ran
    }

    /// Sends the opt-outs one after another, at moments unrelated to the windows.
    async fn send(&self, api: &mut Child, worker: &mut Child, opt_outs: &[Event], seed: u64) -> anyhow::Result<Run> {
        let mut calls = await_first_call(api).await?;
        // The workers start in the first window, so the opt-outs begin after it.
        let begin = Instant::now() + self.window();
        let mut sent = HashMap::new();
        for (after, event) in moments(opt_outs.len(), WINDOWS * self.window(), seed).into_iter().zip(opt_outs) {
            tokio::time::sleep_until((begin + after).into()).await;
            let Published { at_us } = worker.ask(&WorkerQuestion::Publish(PublishEvents::of(&[event])), ASKED).await?;
            sent.insert(phone_of(event)?, at_us);
        }
        let deadline = Instant::now() + TO_ARRIVE;
        loop {
            calls.append(&mut calls_of(api).await?);
            let there = sent.keys().filter(|phone| put_at(&calls, phone).is_some()).count();
            if there == sent.len() || Instant::now() >= deadline {
                return Ok(figures(&calls, &sent, self.window()));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Draws `count` moments uniformly from this time, in order.
fn moments(count: usize, within: Duration, seed: u64) -> Vec<Duration> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut moments: Vec<Duration> = (0..count).map(|_| within.mul_f64(random.random())).collect();
    moments.sort_unstable();
    moments
}

/// Returns the ten digits by which the API knows the opt-out.
fn phone_of(event: &Event) -> anyhow::Result<String> {
    let body: serde_json::Value = serde_json::from_slice(&event.body).context("reading a sample")?;
    let phone = body["optOut"]["phoneNumber"].as_str().context("an opt-out has a phone number")?;
    let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
    Ok(digits.get(digits.len().saturating_sub(10)..).unwrap_or_default().to_owned())
}

/// Returns when the opt-out's first PUT that was not refused arrived.
fn put_at(calls: &[ApiCall], phone: &str) -> Option<u64> {
    puts_of(calls, phone).find(|call| call.retry_after_s.is_none()).map(|call| call.at_us)
}

fn puts_of<'a>(calls: &'a [ApiCall], phone: &'a str) -> impl Iterator<Item = &'a ApiCall> {
    calls.iter().filter(move |call| matches!(&call.caller, Caller::OptOut(of) if of == phone))
}

fn figures(calls: &[ApiCall], sent: &HashMap<String, u64>, window: Duration) -> Run {
    let openings = quota::openings(calls, window);
    let mut run = Run {
        refused: quota::ours(calls).filter(|call| call.retry_after_s.is_some()).count() as u64,
        calls: quota::ours(calls).count() as u64,
        ..Run::default()
    };
    for (phone, sent_us) in sent {
        let Some(put_us) = put_at(calls, phone) else {
            run.missing += 1;
            continue;
        };
        let slot_us = first_slot_us(calls, &openings, window, *sent_us);
        let between = calls.iter().filter(|call| (*sent_us..put_us).contains(&call.at_us));
        let seconds_since = |from_us: u64| Duration::from_micros(put_us.saturating_sub(from_us)).as_secs_f64();
        run.arrived.push(Arrived {
            seconds: seconds_since(*sent_us),
            beyond_slot_seconds: seconds_since(slot_us),
            calls_before: between.filter(|call| call.retry_after_s.is_none()).count() as u64,
            without_a_slot: slot_us > *sent_us,
            met_429: puts_of(calls, phone).any(|call| call.retry_after_s.is_some()),
            put_again: puts_of(calls, phone).filter(|call| call.retry_after_s.is_none()).count() > 1,
        });
    }
    run
}

/// Upper bounds of the groups: up to a third of a window's calls, and one group beyond.
const BOUNDS: [u64; 6] = [0, 1, 2, 5, 10, 33];

fn counts(arrived: &[Arrived]) -> Vec<CallsBefore> {
    let mut at_least = 0;
    let mut counts = Vec::with_capacity(BOUNDS.len() + 1);
    for at_most in BOUNDS.into_iter().map(Some).chain([None]) {
        let within =
            |one: &&Arrived| one.calls_before >= at_least && at_most.is_none_or(|most| one.calls_before <= most);
        counts.push(CallsBefore { at_least, at_most, opt_outs: arrived.iter().filter(within).count() as u64 });
        at_least = at_most.map_or(at_least, |most| most + 1);
    }
    counts
}

/// Returns when the quota first allowed a call that was wanted at this time.
fn first_slot_us(calls: &[ApiCall], openings: &[u64], window: Duration, wanted_us: u64) -> u64 {
    let Some(opened_us) = openings.iter().rev().find(|opened_us| **opened_us <= wanted_us) else { return wanted_us };
    let before = calls.iter().filter(|call| (*opened_us..wanted_us).contains(&call.at_us));
    let taken = before.filter(|call| call.retry_after_s.is_none()).count() as u64;
    if taken < u64::from(CALLS) { wanted_us } else { wanted_us.max(opened_us + quota::micros(window)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Duration = Duration::from_secs(3);

    fn call(at_ms: u64, caller: Caller) -> ApiCall {
        ApiCall { at_us: at_ms * 1000, caller, retry_after_s: None }
    }

    /// A window that is used up after its first second.
    fn spent(at_ms: u64) -> impl Iterator<Item = ApiCall> {
        (0..100).map(move |nth| call(at_ms + nth * 10, Caller::Ours))
    }

    fn put(at_ms: u64, phone: &str) -> ApiCall {
        call(at_ms, Caller::OptOut(phone.to_owned()))
    }

    #[test]
    fn a_call_that_is_wanted_when_none_is_left_may_be_made_when_the_window_ends() {
        let calls: Vec<ApiCall> = spent(0).chain([call(4000, Caller::Other)]).collect();
        let openings = quota::openings(&calls, THREE);
        let at = |wanted_ms: u64| first_slot_us(&calls, &openings, THREE, wanted_ms * 1000) / 1000;

        assert_eq!([500, 2000, 3500, 4100].map(at), [500, 3000, 3500, 4100]);
    }

    #[test]
    fn what_went_before_an_opt_out_is_counted_from_when_it_was_sent() {
        let calls: Vec<ApiCall> =
            spent(0).chain([call(3005, Caller::Other), put(3010, "2025550147"), put(3020, "2025550147")]).collect();
        let sent = [("2025550147", 2_500_000), ("2025550148", 2_500_000)];

        let run = figures(&calls, &sent.map(|(phone, at)| (phone.to_owned(), at)).into(), THREE);

        assert_eq!((run.missing, run.calls), (1, 102));
        let arrived = run.arrived[0];
        assert!((arrived.seconds - 0.51).abs() < 1e-9 && (arrived.beyond_slot_seconds - 0.01).abs() < 1e-9);
        assert_eq!((arrived.calls_before, arrived.without_a_slot, arrived.put_again), (1, true, true));
        let told: Vec<u64> = counts(&run.arrived).iter().map(|one| one.opt_outs).collect();
        assert_eq!(told, [0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn opt_outs_are_sent_in_every_window_and_as_many_in_each_third_of_one_as_chance_has_it() {
        let window_ms = 20_000;
        let sent: Vec<u128> = (0..100)
            .flat_map(|run| moments(30, Duration::from_millis(3 * window_ms), SEED + run))
            .map(|moment| moment.as_millis())
            .collect();
        let within = |each: u128, nth: u128| sent.iter().filter(|at| **at % (3 * each) / each == nth).count();

        for length in [u128::from(window_ms), u128::from(window_ms) / 3] {
            let thirds = [0, 1, 2].map(|nth| within(length, nth));
            assert!(thirds.iter().all(|count| (900..1100).contains(count)), "{thirds:?}");
        }
        assert_eq!(moments(30, THREE, 7), moments(30, THREE, 7), "the same in every benchmark");
        assert!(moments(30, THREE, 7).is_sorted());
    }

    #[test]
    fn an_opt_out_is_known_to_the_api_by_ten_digits() {
        let events = samples::events("contact.opted_out", "acme", 0..1).unwrap();

        assert_eq!(phone_of(&events[0]).unwrap(), "2005550100");
    }
}
