//! Compares each answer with the store: both belong either to the real API or to the sandbox, which marks each of its
//! answers. The first answer of all fixes the store's kind. Every later answer is compared with it, whatever its status.
//!
//! An answer of the other world counts for nothing and pauses the destination. The process goes on, so that the webhooks
//! that come meanwhile are kept. Only a person resumes the destination, because only a person knows which of the two was
//! configured by mistake.

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

/// The header that the sandbox sends with every answer.
const MARK: &str = "x-hookline-sandbox";
/// The time after which a sandbox that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The time at which this process last asked in vain, and the reason.
pub(crate) type LastAsked = Option<(Instant, DestinationError)>;

/// What one process knows about the world of one destination.
pub(crate) struct World {
    gate: Arc<Gate>,
    /// The store's kind never changes once it is fixed.
    kind: OnceLock<StoreKind>,
    /// Whether an answer was of the store's world, or none came and nothing speaks against going on.
    may_write: AtomicBool,
    asking: Mutex<LastAsked>,
    /// Whether this is a command with a configuration of its own, which fixes no kind and pauses no worker.
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

    /// Waits until no other caller asks whether this process may write.
    pub(crate) async fn asking(&self) -> MutexGuard<'_, LastAsked> {
        self.asking.lock().await
    }

    /// Decides what happens when no answer told which world this is. A real store goes on: an opt-out must not wait for a
    /// call that is no part of it, and the answer to its own PUT is compared. A sandbox's store waits, because the API
    /// that it would write to may be the real one.
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

    /// Compares an answer with the store before anybody reads it. `sent_ms` is when its call was made, by the gate's clock.
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
                // Nobody gets to see the answer, so it is unknown whether a write took effect.
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
