//! Writes what the store knows and the system of record lacks: `hookline notes sync` and `hookline opt-outs sync`. The
//! command itself makes the calls, so no worker need run, and any number may.
//!
//! - Within the budget: the calls pass the destination's gate, which all processes share through the store.
//! - Behind new work: their priority is the lowest, and a part of the quota is left to calls that somebody waits for.
//! - Once: a thread is written under its lease, by the code that deliveries use, so workers and other back-fills may
//!   write at the same time.
//! - Resumable: what is written is in the store as soon as it was answered, so another run goes on where one was killed.

mod estimate;
mod held;
mod lanes;
pub mod notes;
pub mod opt_outs;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hookline_common::backoff;
use hookline_common::names::{DeadReason, Destination};
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::settings::{RetrySettings, Settings};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::held::Held;
pub use self::held::Progress;
use crate::calls::log::CallLog;
use crate::delivery::handler::HandlerError;
use crate::destinations::error::{DestinationError, Disposition};
use crate::destinations::priority::Priority;
use crate::gate::Gate;
use crate::records::{self, SystemOfRecord};
use crate::textus::client::TextUs;
use crate::textus::limits;

/// Groups that are worked off at once, and calls in flight.
const LANES: usize = 8;
/// How often an item is tried that fails, apart from waits that the gate asks for.
const MOST_TRIES: u32 = 8;
/// The longest wait between two tries that nobody asked for. Somebody watches the command.
const MOST_BACK_OFF: Duration = Duration::from_mins(1);
/// How often what other processes did to the gates is read.
const FOLLOW_EVERY: Duration = Duration::from_millis(150);
/// How soon to look again for the lock that another back-fill begins with.
const LOCKED_LOOK: Duration = Duration::from_millis(20);
/// How soon to look again where nobody knows how long to wait.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What both back-fills work with.
struct Tools {
    store: Store,
    records: Arc<dyn SystemOfRecord>,
    gates: Vec<Arc<Gate>>,
    retry: RetrySettings,
    /// Unique to this run.
    owner: String,
    in_flight: Arc<Semaphore>,
    items: AtomicU64,
    calls: AtomicU64,
    held: Held,
    /// Ends the background tasks.
    _ends: DropGuard,
    ended: CancellationToken,
    /// Held as long as this back-fill works; `None` for PostgreSQL.
    _lock: Option<File>,
}

/// Something that could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// What it is: a thread's id, or a masked number.
    pub what: String,
    pub reason: DeadReason,
    /// Why, in words without personal data.
    pub detail: String,
}

/// What became of an item.
enum Tried<T> {
    Done(T),
    Again(Timestamp),
    Left(DeadReason, String),
    /// Nothing else can be written either.
    Stop(String),
}

impl Tools {
    async fn new(settings: &Settings, store: Store) -> anyhow::Result<(Self, Option<TextUs>)> {
        let metrics = Arc::new(Metrics::new(Role::Worker, &[]));
        let records = records::open(settings, &store, &metrics).context("opening the system of record")?;
        let asks_textus = crate::handlers::log_note::asks_textus(settings);
        let textus = match asks_textus {
            true => {
                let rules = limits::rules(&settings.textus);
                let gate = Arc::new(Gate::new(Destination::TextUs, store.clone(), Arc::clone(&metrics), rules));
                let client = TextUs::new(&settings.textus, Arc::clone(&gate), Arc::clone(&metrics));
                Some((client.context("building the client for the TextUs API")?.only_looking(), gate))
            }
            false => None,
        };
        let (textus, textus_gate) = textus.unzip();
        let gates: Vec<_> = records.gate().cloned().into_iter().chain(textus_gate).collect();
        for gate in &gates {
            gate.refresh().await?;
        }
        let ended = CancellationToken::new();
        let tools = Self {
            _lock: only_one(settings, &store).await?,
            owner: Store::sync_owner(),
            retry: settings.handlers.log_note.basics.retry.clone(),
            in_flight: Arc::new(Semaphore::new(LANES)),
            items: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            held: Held::default(),
            _ends: ended.clone().drop_guard(),
            ended,
            records,
            gates,
            store,
        };
        Ok((tools, textus))
    }

    /// Fails if no call can be made: the destination is paused, or refuses the credentials. From then on the gates are
    /// kept like those of all processes.
    ///
    /// The refusal of credentials is not passed on: running workers may hold other ones.
    async fn begin(&self) -> anyhow::Result<()> {
        let rows = self.store.gates().await?;
        if let Some(row) = rows.iter().find(|row| row.destination == Destination::SystemOfRecord && row.paused) {
            bail!(
                "system_of_record is paused: {}; end that, then `hookline resume system_of_record`, and run this again",
                row.reason.as_deref().unwrap_or("no reason given")
            );
        }
        match self.records.check(&CallLog::default()).await {
            Ok(()) => {}
            Err(HandlerError::Destination { error: DestinationError::CredentialsRefused { status, .. }, .. }) => bail!(
                "the system of record refuses the credentials with {status}: nothing was written; `hookline check --connect` \
                 tells what is wrong with them"
            ),
            Err(error) if error.paused_destination().is_some() => bail!("{error}"),
            // Any other failure may pass, and what is written meets it too.
            Err(error) => tracing::warn!(kind = error.kind(), "back_fill.check_failed: going on all the same"),
        }
        for gate in &self.gates {
            gate.exchange().await?;
            tokio::spawn(Arc::clone(gate).watch(self.ended.clone()));
        }
        let (store, gates, ended) = (self.store.clone(), self.gates.clone(), self.ended.clone());
        tokio::spawn(async move {
            while !ended.is_cancelled() {
                if let Ok((_question, rows)) = store.look().await {
                    gates.iter().for_each(|gate| gate.follow(&rows));
                }
                tokio::time::sleep(FOLLOW_EVERY).await;
            }
        });
        Ok(())
    }

    /// Returns an owner of leases and locks for one try.
    fn next_owner(&self) -> String {
        format!("{}:{}", self.owner, self.items.fetch_add(1, Ordering::Relaxed))
    }

    fn call_log(&self, about: Bytes) -> CallLog {
        CallLog::about(about).within(Arc::clone(&self.in_flight), Priority::BackFill)
    }

    fn count(&self, calls: &CallLog) {
        self.calls.fetch_add(calls.records().len() as u64, Ordering::Relaxed);
    }

    /// Decides about one try, by what the same outcome means for a delivery.
    fn tried<T>(&self, result: Result<T, HandlerError>, tries: &mut u32) -> Tried<T> {
        let error = match result {
            Ok(done) => return Tried::Done(done),
            Err(error) => error,
        };
        if let Some(destination) = error.paused_destination() {
            return Tried::Stop(format!("calls to {destination} stopped: {error}"));
        }
        let now = Timestamp::now();
        let again = |at: Timestamp, why: String| {
            self.held.waits(why);
            Tried::Again(at)
        };
        let after = match &error {
            HandlerError::Wait { until, why } => return again(*until, (*why).to_owned()),
            HandlerError::Store(failure) if failure.is_unavailable() => {
                return again(now.plus(LOOK_AGAIN), error.to_string());
            }
            HandlerError::Store(_) => None,
            HandlerError::TryAgain { after, .. } => Some(*after),
            HandlerError::GiveUp { reason, detail, .. } => return Tried::Left(*reason, detail.clone()),
            HandlerError::Destination { error: failure, .. } => match failure.disposition() {
                Disposition::Hold { until, why } => return again(until.max(now), why),
                Disposition::RetryAfterProbe { until } => return again(until.max(now), error.to_string()),
                Disposition::DeadLetter { reason } => return Tried::Left(reason, failure.detail()),
                Disposition::Retry { after } => after,
            },
        };
        *tries += 1;
        if *tries >= MOST_TRIES {
            return Tried::Left(DeadReason::AttemptsExhausted, format!("tried {tries} times; {error}"));
        }
        let RetrySettings { initial, multiplier, max, .. } = self.retry.clone();
        let wait =
            backoff::full_jitter(initial, multiplier, max.min(MOST_BACK_OFF), *tries).max(after.unwrap_or_default());
        again(now.plus(wait), error.to_string())
    }
}

/// Takes a lock that all back-fills of a data directory share. If no other back-fill holds it, what a killed one has
/// left locked is free again.
async fn only_one(settings: &Settings, store: &Store) -> anyhow::Result<Option<File>> {
    if settings.store.url.is_some() {
        return Ok(None);
    }
    let path = settings.data_dir.join("sync.lock");
    let cannot = || format!("cannot lock {}", path.display());
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.with_context(cannot)?;
    if file.try_lock().is_ok() {
        store.end_leases_of_dead_syncs().await?;
        // Another process may get the lock in between, and finds nothing of this one to end yet.
        file.unlock().with_context(cannot)?;
    }
    // Whoever holds it alone does so for a moment, and may be a task of this very thread.
    loop {
        match file.try_lock_shared() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCKED_LOOK).await,
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
    }
}
