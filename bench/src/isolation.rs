//! Measures whether a destination that hangs slows down unrelated work. `sync_contact`, which writes to the built-in
//! system of record, is measured once while TextUs answers `log_note` and once while it does not.
//!
//! Each phase has its own processes, and the same events at the same pace; healthy and hanging phases alternate. The
//! latency runs from the moment when an event is due to the settlement of its delivery.

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
/// Timeout of a call to TextUs. It is scaled down, so that a phase contains both calls that hang and an open breaker.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Interval between events for the measured handler. Every second one comes with an event for the other handler.
const EVERY: Duration = Duration::from_millis(20);
const NOTE_EACH: usize = 2;
/// Time from the start, or from the beginning of the hang, to the first event that counts.
const WARM_UP: Duration = Duration::from_secs(1);
/// Length of the measured window, in multiples of `--seconds`. It gives enough events for a p99, which is one of a
/// hundred.
const LENGTHS: u32 = 4;
const TO_SETTLE: Duration = Duration::from_secs(20);
const ASKED: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Serialize)]
pub struct IsolationReport {
    pub broker: &'static str,
    pub store: &'static str,
    /// The handler whose deliveries are measured.
    pub handler: &'static str,
    /// The destination that hangs, and the handler that calls it.
    pub hanging: &'static str,
    pub hanging_handler: &'static str,
    /// Timeout of a call to the destination that hangs.
    pub timeout_ms: u64,
    /// Events per second for the measured handler.
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
    /// Number of deliveries behind the latency, and number of those that were not settled in time.
    pub settled: u64,
    pub missing: u64,
    /// Answers of the API after the first event that counts; none if it hangs.
    pub answered: u64,
}

/// Returns the number of steps that [`measure`] takes.
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
        // The order of the phases alternates from run to run.
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
        // The notes are about other people, because two handlers that create the same person wait for each other.
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

/// The events of a phase. Each is due at its time, whatever became of the previous one.
struct Pace<'a> {
    contacts: &'a [Event],
    notes: &'a [Event],
    begin: Instant,
}

impl Pace<'_> {
    /// Publishes these events, and returns when those of the measured handler were due.
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

/// Returns the latencies of the events that were settled in time, in milliseconds.
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
