//! Whether one destination that hangs slows down what has nothing to do with it: `sync_contact`, which writes to the
//! built-in system of record, while TextUs answers `log_note`, and while it does not.
//!
//! Each phase has processes of its own, and the same events at the same pace; healthy and hanging ones take turns. The
//! latency is from when an event is due to when its delivery is settled.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use hookline_common::event::Event;
use hookline_common::names::HandlerName;
use serde::Serialize;
use tokio::time::Instant;

use crate::child::Child;
use crate::figures::{Spread, median, spread};
use crate::options::{Options, Progress};
use crate::process::{ApiQuestion, ApiSpec, PublishEvents, Published, Settled, Snapshot, WorkerQuestion, WorkerSpec};
use crate::rabbitmq::Rabbitmq;
use crate::samples;
use crate::stage::{Backend, Stage};

/// The handler that is measured, and the one whose destination hangs.
const MEASURED: HandlerName = HandlerName::SyncContact;
const HANGING: HandlerName = HandlerName::LogNote;
const API_LATENCY: Duration = Duration::from_millis(50);
/// Of a call to TextUs, scaled down, so that calls that hang and an open breaker are both in a phase.
const TIMEOUT: Duration = Duration::from_secs(2);
/// An event for the measured handler each time, and one for the other each second time.
const EVERY: Duration = Duration::from_millis(20);
const NOTE_EACH: usize = 2;
/// From the start, or from when it hangs, to the first event that counts.
const WARM_UP: Duration = Duration::from_secs(1);
/// What is measured, in lengths of `--seconds`: one event of a hundred is the p99.
const LENGTHS: u32 = 4;
const TO_SETTLE: Duration = Duration::from_secs(20);
const ASKED: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Serialize)]
pub struct IsolationReport {
    pub broker: &'static str,
    pub store: &'static str,
    /// Whose deliveries are measured.
    pub handler: &'static str,
    /// What hangs, and the handler that calls it.
    pub hanging: &'static str,
    pub hanging_handler: &'static str,
    /// Of a call to what hangs.
    pub timeout_ms: u64,
    /// Events of the measured handler.
    pub per_second: f64,
    /// Hanging ÷ healthy, median of the runs' ratios.
    pub p99_ratio: f64,
    pub p50_ratio: f64,
    pub runs: Vec<IsolationRun>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct IsolationRun {
    pub healthy: IsolationPhase,
    pub hanging: IsolationPhase,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct IsolationPhase {
    pub latency_ms: Spread,
    /// How many deliveries that is made of, and how many were not settled in time.
    pub settled: u64,
    pub missing: u64,
    /// Answers of the API from the first event that counts on: none where it hangs.
    pub answered: u64,
}

/// How many steps [`measure`] takes.
pub(crate) fn steps(options: &Options) -> u64 {
    2 * u64::from(options.runs)
}

pub(crate) async fn measure(
    options: &Options,
    rabbitmq: Option<&Rabbitmq>,
    progress: &dyn Progress,
) -> anyhow::Result<IsolationReport> {
    let backend = Backend::largest(options);
    let bench = Bench { stage: Stage { options, rabbitmq }, backend };
    let mut runs = Vec::new();
    for run in 0..options.runs {
        let phase = async |hangs: bool| {
            let how = if hangs { "hangs" } else { "answers" };
            progress.begin(&format!("isolation, run {} of {}: TextUs {how}", run + 1, options.runs));
            bench.phase(hangs).await
        };
        // In turn first and last.
        let (healthy, hanging) = if run % 2 == 0 {
            let healthy = phase(false).await?;
            (healthy, phase(true).await?)
        } else {
            let hanging = phase(true).await?;
            (phase(false).await?, hanging)
        };
        runs.push(IsolationRun { healthy, hanging });
    }
    let ratio = |of: fn(&Spread) -> f64| {
        median(runs.iter().map(|run| of(&run.hanging.latency_ms) / of(&run.healthy.latency_ms)))
    };
    Ok(IsolationReport {
        broker: backend.broker(),
        store: backend.store(),
        handler: MEASURED.as_str(),
        hanging: "textus",
        hanging_handler: HANGING.as_str(),
        timeout_ms: u64::try_from(TIMEOUT.as_millis()).context("a time-out")?,
        per_second: 1.0 / EVERY.as_secs_f64(),
        p99_ratio: ratio(|spread| spread.p99),
        p50_ratio: ratio(|spread| spread.p50),
        runs,
    })
}

struct Bench<'a> {
    stage: Stage<'a>,
    backend: Backend,
}

impl Bench<'_> {
    async fn phase(&self, hangs: bool) -> anyhow::Result<IsolationPhase> {
        self.stage.begin_anew(self.backend).await?;
        let mut api = self.stage.api(&ApiSpec { latency: API_LATENCY, limit: None }).await?;
        let dir = self.stage.dir()?;
        let account = samples::new_account();
        let worker = WorkerSpec {
            api: api.addr()?,
            account: account.clone(),
            timeout: Some(TIMEOUT),
            watched: Some(MEASURED),
            ..self.stage.worker(self.backend, &dir, &[MEASURED, HANGING])
        };
        let mut worker = self.stage.start(&worker).await?;
        let window = self.stage.options.window() * LENGTHS;
        let counts = |time: Duration| (time.as_millis() / EVERY.as_millis()) as usize;
        let (unmeasured, all) = (counts(2 * WARM_UP), counts(2 * WARM_UP + window));
        let contacts = samples::events("contact.created", &account, 0..all)?;
        // Other people: two handlers that make the same person wait for each other.
        let notes = samples::events("message.received", &account, all..all + all.div_ceil(NOTE_EACH))?;

        let pace = Pace { contacts: &contacts, notes: &notes, begin: Instant::now() + EVERY };
        pace.publish(&mut worker, 0..counts(WARM_UP)).await?;
        if hangs {
            let _: Snapshot = api.ask(&ApiQuestion::Hang, ASKED).await?;
        }
        pace.publish(&mut worker, counts(WARM_UP)..unmeasured).await?;
        let before: Snapshot = api.ask(&ApiQuestion::Counts, ASKED).await?;
        let due = pace.publish(&mut worker, unmeasured..all).await?;
        let after: Snapshot = api.ask(&ApiQuestion::Counts, ASKED).await?;
        let latencies = settled(&mut worker, &due).await;
        worker.stop().await;
        api.stop().await;
        let latencies = latencies?;
        Ok(IsolationPhase {
            latency_ms: spread(latencies.iter().copied()),
            settled: latencies.len() as u64,
            missing: (due.len() - latencies.len()) as u64,
            answered: after.answered - before.answered,
        })
    }
}

/// The events of a phase; each is due at its time, whatever became of the one before it.
struct Pace<'a> {
    contacts: &'a [Event],
    notes: &'a [Event],
    begin: Instant,
}

impl Pace<'_> {
    /// Publishes these, and tells when those of the measured handler were due.
    async fn publish(&self, worker: &mut Child, these: std::ops::Range<usize>) -> anyhow::Result<HashMap<String, u64>> {
        let mut due = HashMap::with_capacity(these.len());
        for nth in these {
            let contact = &self.contacts[nth];
            let note = self.notes.get(nth / NOTE_EACH).filter(|_| nth % NOTE_EACH == 0);
            let at = self.begin + EVERY * u32::try_from(nth).context("few events")?;
            tokio::time::sleep_until(at).await;
            let late_us = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
            due.insert(contact.id.to_string(), crate::clock::now_us().saturating_sub(late_us));
            let events: Vec<&Event> = std::iter::once(contact).chain(note).collect();
            let _: Published = worker.ask(&WorkerQuestion::Publish(PublishEvents::of(&events)), ASKED).await?;
        }
        Ok(due)
    }
}

/// The latencies of those that were settled in time, in milliseconds.
async fn settled(worker: &mut Child, due: &HashMap<String, u64>) -> anyhow::Result<Vec<f64>> {
    let deadline = Instant::now() + TO_SETTLE;
    let mut latencies = Vec::with_capacity(due.len());
    loop {
        let settled: Vec<Settled> = worker.ask(&WorkerQuestion::Settled, ASKED).await?;
        let of_these = settled.iter().filter_map(|one| Some(one.at_us.saturating_sub(*due.get(&one.event_id)?)));
        latencies.extend(of_these.map(|micros| micros as f64 / 1000.0));
        if latencies.len() >= due.len() || Instant::now() >= deadline {
            return Ok(latencies);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
