//! Paused: by an operator, until `hookline resume`, or because the destination refused our credentials, until a probe
//! or an operator finds that it takes them again. Pure: the caller brings the clock.

use std::time::Duration;

use tokio::time::Instant;

/// How a pause for refused credentials begins in the store, so that other processes know that it may be probed. An
/// operator's pause never is.
pub const CREDENTIALS_REFUSED: &str = "credentials refused";
const REFUSED_WHY: &str = "paused: our credentials are refused";
/// An operator's pause has no end that is known; whoever waits looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A late 401 to a call from before a resume: the call is repeated with what is in force now.
const AFTER_RESUME: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Pause {
    state: State,
    /// Counts resumes: what a permit was issued under tells whether its 401 is about now.
    resumes: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Flowing,
    ByOperator {
        reason: String,
    },
    Refused {
        next_probe: Instant,
    },
}

/// What a call may do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Flow,
    /// The one careful call of this interval.
    Probe,
    Held {
        wait: Duration,
        why: String,
    },
}

/// What the store says of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared<'a> {
    Flowing,
    Paused { reason: &'a str },
}

/// What a change was, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Paused,
    Resumed,
}

impl Pause {
    pub(super) fn is_flowing(&self) -> bool {
        self.state == State::Flowing
    }

    /// What a permit given now is issued under.
    pub(super) fn resumes(&self) -> u64 {
        self.resumes
    }

    /// Asks to make a call; takes the probe where one is due.
    pub(super) fn pass(&mut self, now: Instant, probe_every: Duration) -> Pass {
        match &mut self.state {
            State::Flowing => Pass::Flow,
            State::ByOperator { reason } => {
                Pass::Held { wait: LOOK_AGAIN, why: format!("paused by an operator: {reason}") }
            }
            State::Refused { next_probe } if *next_probe <= now => {
                *next_probe = now + probe_every;
                Pass::Probe
            }
            State::Refused { next_probe } => Pass::Held { wait: *next_probe - now, why: REFUSED_WHY.to_owned() },
        }
    }

    /// How long calls are held, and why; `None`: one may be made now.
    pub(super) fn held(&self, now: Instant) -> Option<(Duration, String)> {
        let wait = self.held_for(now)?;
        let why = match &self.state {
            State::ByOperator { reason } => format!("paused by an operator: {reason}"),
            State::Flowing | State::Refused { .. } => REFUSED_WHY.to_owned(),
        };
        Some((wait, why))
    }

    /// How long until a call may be made; `None`: now.
    pub(super) fn held_for(&self, now: Instant) -> Option<Duration> {
        match &self.state {
            State::Flowing => None,
            State::ByOperator { .. } => Some(LOOK_AGAIN),
            State::Refused { next_probe } => next_probe.checked_duration_since(now).filter(|wait| !wait.is_zero()),
        }
    }

    /// A 401 or 403 was answered to a call whose permit was issued under `issued`. Returns how long to wait, and
    /// whether it paused the destination.
    pub(super) fn refused(&mut self, now: Instant, probe_every: Duration, issued: u64) -> (Duration, bool) {
        if let Some(wait) = self.held_for(now) {
            return (wait, false);
        }
        if self.is_flowing() && issued != self.resumes {
            return (AFTER_RESUME, false);
        }
        let news = self.is_flowing();
        self.state = State::Refused { next_probe: now + probe_every };
        (probe_every, news)
    }

    /// Other credentials are there: they may be tried.
    pub(super) fn probe_now(&mut self, now: Instant) {
        if let State::Refused { next_probe } = &mut self.state {
            *next_probe = now;
        }
    }

    /// The probe was answered by something that took our credentials.
    pub(super) fn accepted(&mut self) -> Change {
        match self.state {
            State::Refused { .. } => self.flow(),
            // An operator has paused it meanwhile: that is theirs to end.
            State::ByOperator { .. } | State::Flowing => Change::None,
        }
    }

    /// Takes over what the store says. `first_probe` says when a pause that is new to us may be probed.
    pub(super) fn follow(&mut self, shared: Shared<'_>, first_probe: Instant) -> Change {
        match (shared, &self.state) {
            (Shared::Flowing, State::Flowing) => Change::None,
            (Shared::Flowing, State::ByOperator { .. } | State::Refused { .. }) => self.flow(),
            (Shared::Paused { reason }, State::Refused { .. }) if is_probed(reason) => Change::None,
            (Shared::Paused { reason }, before) => {
                let change = if *before == State::Flowing { Change::Paused } else { Change::None };
                self.state = if is_probed(reason) {
                    State::Refused { next_probe: first_probe }
                } else {
                    State::ByOperator { reason: reason.to_owned() }
                };
                change
            }
        }
    }

    fn flow(&mut self) -> Change {
        self.state = State::Flowing;
        self.resumes += 1;
        Change::Resumed
    }
}

/// Whether a pause with this reason may be probed.
pub(super) fn is_probed(reason: &str) -> bool {
    reason.starts_with(CREDENTIALS_REFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(60);
    const REFUSED: Shared<'_> = Shared::Paused { reason: "credentials refused (401)" };
    const OPERATOR: Shared<'_> = Shared::Paused { reason: "maintenance" };

    fn refused_at(now: Instant) -> Pause {
        let mut pause = Pause::default();
        assert_eq!(pause.refused(now, EVERY, 0), (EVERY, true));
        pause
    }

    #[test]
    fn one_probe_is_let_through_per_interval() {
        let now = Instant::now();
        let mut pause = refused_at(now);
        assert!(matches!(pause.pass(now, EVERY), Pass::Held { wait: EVERY, .. }));
        assert_eq!(pause.held_for(now + EVERY), None);

        assert_eq!(pause.pass(now + EVERY, EVERY), Pass::Probe);
        assert!(matches!(pause.pass(now + EVERY, EVERY), Pass::Held { wait: EVERY, .. }));
        assert_eq!(pause.pass(now + EVERY * 2, EVERY), Pass::Probe);
    }

    #[test]
    fn an_accepted_probe_resumes_and_a_late_refusal_does_not_pause_again() {
        let now = Instant::now();
        let mut pause = refused_at(now);

        assert_eq!(pause.accepted(), Change::Resumed);
        assert_eq!(pause.pass(now, EVERY), Pass::Flow);
        assert_eq!(pause.refused(now, EVERY, 0), (AFTER_RESUME, false));
        assert!(pause.is_flowing());
        assert_eq!(pause.refused(now, EVERY, pause.resumes()), (EVERY, true));
    }

    #[test]
    fn an_operators_pause_is_never_probed() {
        let now = Instant::now();
        let mut pause = refused_at(now);

        assert_eq!(pause.follow(OPERATOR, now), Change::None);
        assert!(matches!(pause.pass(now + EVERY * 2, EVERY), Pass::Held { wait: LOOK_AGAIN, .. }));
        assert_eq!(pause.accepted(), Change::None);
        assert_eq!(pause.refused(now, EVERY, 0), (LOOK_AGAIN, false));
        assert!(matches!(pause.pass(now + EVERY * 2, EVERY), Pass::Held { .. }));

        assert_eq!(pause.follow(Shared::Flowing, now), Change::Resumed);
        assert_eq!(pause.pass(now, EVERY), Pass::Flow);
    }

    #[test]
    fn another_processs_pause_is_taken_over_with_its_probes() {
        let now = Instant::now();
        let mut pause = Pause::default();

        assert_eq!(pause.follow(REFUSED, now + EVERY), Change::Paused);
        assert_eq!(pause.follow(REFUSED, now), Change::None);
        assert!(matches!(pause.pass(now, EVERY), Pass::Held { wait: EVERY, .. }));
        assert_eq!(pause.pass(now + EVERY, EVERY), Pass::Probe);
        assert_eq!(pause.follow(Shared::Flowing, now), Change::Resumed);
    }
}
