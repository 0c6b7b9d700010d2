//! Whether an answer is of the world that the store is for: the real API's, or the sandbox's, which marks each of its
//! answers. The first answer of all decides which store it is; every later one is compared, whatever its status.
//!
//! An answer of the other world counts for nothing and pauses the destination: the webhooks that come meanwhile are
//! kept, where a process that ended would take none. Only a person resumes it, for only a person knows which of the two
//! is configured by mistake.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hookline_common::time::Timestamp;
use hookline_store::{StoreError, StoreKind};
use reqwest::header::HeaderMap;
use tokio::sync::{Mutex, MutexGuard};

use super::held::paused_until;
use crate::destinations::error::DestinationError;
use crate::destinations::pause_reason::{REAL_API_ANSWERS, SANDBOX_ANSWERS};
use crate::gate::Gate;

/// What the sandbox says in every answer.
const MARK: &str = "x-hookline-sandbox";
/// How soon a sandbox that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// When this process last asked in vain, and why that was.
pub(crate) type LastAsked = Option<(Instant, DestinationError)>;

/// Of one destination in one process.
pub(crate) struct World {
    gate: Arc<Gate>,
    /// Never changes once a store has it.
    kind: OnceLock<StoreKind>,
    /// An answer was of the store's world, or none came and nothing speaks against going on.
    may_write: AtomicBool,
    asking: Mutex<LastAsked>,
    /// A command that asks with its own configuration fixes no kind, and pauses no worker.
    only_looks: AtomicBool,
}

impl World {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self {
            gate,
            kind: OnceLock::new(),
            may_write: AtomicBool::new(false),
            asking: Mutex::default(),
            only_looks: AtomicBool::new(false),
        }
    }

    pub(crate) fn may_write(&self) -> bool {
        self.may_write.load(Ordering::Acquire)
    }

    pub(crate) fn only_look(&self) {
        self.only_looks.store(true, Ordering::Release);
    }

    /// One caller at a time asks whether this process may write.
    pub(crate) async fn asking(&self) -> MutexGuard<'_, LastAsked> {
        self.asking.lock().await
    }

    /// No answer tells which world this is. A real store goes on, for an opt-out must not wait for a call that is no part
    /// of it, and its own answer is compared; a sandbox's store waits, for what it would be written to may be real.
    pub(crate) async fn did_not_answer(&self) -> Result<(), DestinationError> {
        let kind = match self.kind.get() {
            Some(kind) => Some(*kind),
            None => self.gate.store().kind().await.map_err(|error| hold(&store_away(&error)))?,
        };
        match kind {
            Some(StoreKind::Sandbox) => Err(hold("nothing tells that the sandbox is there, which this store is for")),
            Some(StoreKind::Real) | None => {
                self.may_write.store(true, Ordering::Release);
                Ok(())
            }
        }
    }

    /// Compares an answer with the store, before anybody reads it. `sent_ms`: when its call was made, by the gate's clock.
    pub(crate) async fn answered(&self, headers: &HeaderMap, sent_ms: i64) -> Result<(), DestinationError> {
        let answered = if headers.contains_key(MARK) { StoreKind::Sandbox } else { StoreKind::Real };
        let only_looks = self.only_looks.load(Ordering::Acquire);
        let kind = match self.kind.get() {
            Some(kind) => *kind,
            None if only_looks => {
                let known = self.gate.store().kind().await;
                let known = known.map_err(|error| DestinationError::NoAnswer { detail: store_away(&error) })?;
                known.unwrap_or(answered)
            }
            None => {
                let fixed = self.gate.store().fix_kind(answered).await;
                // The answer is not told to anybody: whether a write took effect is unknown then.
                let fixed = fixed.map_err(|error| DestinationError::NoAnswer { detail: store_away(&error) })?;
                *self.kind.get_or_init(|| fixed)
            }
        };
        self.may_write.store(kind == answered, Ordering::Release);
        if kind == answered {
            return Ok(());
        }
        let reason = match kind {
            StoreKind::Real => SANDBOX_ANSWERS,
            StoreKind::Sandbox => REAL_API_ANSWERS,
        };
        if only_looks {
            let why = reason.to_owned();
            return Err(DestinationError::GateClosed { until: Timestamp::now(), why, is_paused: true });
        }
        self.gate.stop(sent_ms, reason);
        let why = format!("calls to {} are held: paused: {reason}", self.gate.destination());
        Err(DestinationError::GateClosed { until: paused_until(), why, is_paused: true })
    }
}

fn hold(why: &str) -> DestinationError {
    let until = Timestamp::now().plus(ASK_AGAIN.mul_f64(0.5 + rand::random::<f64>() / 2.0));
    DestinationError::GateClosed { until, why: why.to_owned(), is_paused: false }
}

fn store_away(error: &StoreError) -> String {
    format!("whether this is the sandbox cannot be told: {error}")
}
