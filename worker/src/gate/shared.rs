//! Keeps a gate and its row in the store alike, so that a 429 or a pause in one process binds all of them: what
//! happened here is written at once, what happened elsewhere is read every 150 ms (contract.md section 8 allows 250).

use std::time::Duration;

use hookline_common::time::Timestamp;
use hookline_store::StoreError;
use hookline_store::model::{GateRow, GateStanding};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::headers::MAX_WAIT;
use super::pause::{Change, Shared, is_probed};
use super::{Gate, log_resumed};

const POLL: Duration = Duration::from_millis(150);
/// Budget and pace are for people to look at: no more often than this are they written.
const STANDING_EVERY: Duration = Duration::from_secs(1);
/// A last write on shutdown; the store may be away.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// What the store has not been told yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    closed: Option<(Timestamp, &'static str)>,
    pub(super) pause: Option<PauseNews>,
    standing: GateStanding,
    /// What the store was told of it last, and when.
    standing_told: Option<(GateStanding, Instant)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PauseNews {
    Refused { reason: String },
    Accepted,
}

impl Outbox {
    pub(super) fn close(&mut self, until: Timestamp, why: &'static str) {
        if self.closed.is_none_or(|(current, _)| current < until) {
            self.closed = Some((until, why));
        }
    }

    /// Keeps what is not known anew.
    pub(super) fn standing(&mut self, budget: Option<(i64, i64)>, per_second: Option<f64>, failing: bool) {
        let (limit, remaining) = budget.map_or((self.standing.limit, self.standing.remaining), |(limit, remaining)| {
            (Some(limit), Some(remaining))
        });
        #[expect(clippy::cast_possible_truncation, reason = "calls per minute of an API")]
        let per_minute = per_second.map(|rate| (rate * 60.0).round() as i64).or(self.standing.per_minute);
        self.standing = GateStanding { limit, remaining, per_minute, failing };
    }

    fn is_urgent(&self) -> bool {
        self.closed.is_some() || self.pause.is_some()
    }

    fn due_standing(&mut self, now: Instant) -> Option<GateStanding> {
        let is_due = match &self.standing_told {
            None => self.standing != GateStanding::default(),
            Some((told, at)) => *told != self.standing && now.duration_since(*at) >= STANDING_EVERY,
        };
        if is_due {
            self.standing_told = Some((self.standing, now));
        }
        is_due.then_some(self.standing)
    }
}

pub(super) async fn watch(gate: &Gate, shutdown: &CancellationToken) {
    let mut store_is_away = false;
    loop {
        match gate.refresh().await {
            Ok(()) => store_is_away = false,
            Err(error) => {
                if !store_is_away {
                    tracing::warn!(destination = %gate.destination, error = %error,
                        "gate.alone: the store does not answer; what other processes close or pause is not seen until it does");
                }
                store_is_away = true;
            }
        }
        // A store that is away is asked again at the poll's pace only, however much there is to tell it.
        let may_hurry = !store_is_away;
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = gate.news.notified(), if may_hurry => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
    // What this process was told in its last moments binds the others too.
    let _ = tokio::time::timeout(LAST_WRITE, gate.refresh()).await;
}

impl Gate {
    /// Tells the store what happened here, or takes over what it says. Await it once before the first call: a pause
    /// outlives a restart.
    ///
    /// # Errors
    /// Where the store cannot be asked; the gate then stays as it was.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        self.exchange().await.map(|_| ())
    }

    /// Returns once what the store says was taken over, by a look that began after this was called.
    ///
    /// # Errors
    /// As [`Gate::refresh`].
    pub(crate) async fn catch_up(&self) -> Result<(), StoreError> {
        // What happens here meanwhile is written first.
        while !self.exchange().await? {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// `true` where this process has nothing to tell, and follows what it read.
    async fn exchange(&self) -> Result<bool, StoreError> {
        let (version, outbox, standing) = {
            let mut state = self.lock();
            let view = self.line().view();
            state.outbox.standing(None, view.per_second, view.is_open);
            let standing = state.outbox.due_standing(Instant::now());
            (state.version, state.outbox.clone(), standing)
        };
        let rows = self.store.gates().await?;
        let row = rows.into_iter().find(|row| row.destination == self.destination);
        let mut followed = false;
        if outbox.is_urgent() {
            self.write(&outbox, row.as_ref()).await?;
            let mut state = self.lock();
            // Otherwise more was put into it meanwhile: the next round writes all of it once more, which changes nothing.
            if state.version == version {
                state.outbox.closed = None;
                state.outbox.pause = None;
            }
        } else {
            followed = self.follow(version, row.as_ref());
        }
        if let Some(standing) = standing {
            self.store.gate_standing(self.destination, standing).await?;
        }
        Ok(followed)
    }

    async fn write(&self, outbox: &Outbox, row: Option<&GateRow>) -> Result<(), StoreError> {
        if let Some((until, why)) = outbox.closed {
            self.store.close_gate(self.destination, until, why).await?;
        }
        let reason = row.filter(|row| row.paused).map(|row| row.reason.as_deref().unwrap_or_default());
        let by_operator = reason.is_some_and(|reason| !is_probed(reason));
        match &outbox.pause {
            // What an operator paused is theirs: neither probed nor resumed because of an answer.
            Some(_) if by_operator => {}
            Some(PauseNews::Refused { reason }) => self.store.pause_gate(self.destination, reason).await?,
            Some(PauseNews::Accepted) => self.store.resume_gate(self.destination).await?,
            None => {}
        }
        Ok(())
    }

    fn follow(&self, version: u64, row: Option<&GateRow>) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        if state.version != version {
            // Older than what just happened here.
            return false;
        }
        let closing = row.and_then(|row| row.closed_until);
        // Once per closing: after a wall clock was set back, the same row must not close the gate anew each time.
        if let Some(until) = closing.filter(|_| closing != state.read_closing) {
            let wait = until.since(Timestamp::now()).min(MAX_WAIT);
            state.throttle.close_for(now, wait);
        }
        state.read_closing = closing;

        let shared = match row {
            Some(row) if row.paused => Shared::Paused { reason: row.reason.as_deref().unwrap_or_default() },
            Some(_) | None => Shared::Flowing,
        };
        // A process that has just started may hold new credentials: it need not wait to try them.
        let first_probe = if state.has_read { now + self.paused_probe } else { now };
        match state.pause.follow(shared, first_probe) {
            Change::None => {}
            Change::Paused => {
                tracing::warn!(destination = %self.destination, "destination.paused: as the store says; deliveries wait");
            }
            Change::Resumed => log_resumed(self.destination),
        }
        state.has_read = true;
        self.show(&state);
        true
    }
}
