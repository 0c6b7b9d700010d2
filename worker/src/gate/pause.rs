//! Paused: by an operator until `hookline resume`, or because the destination refused our credentials until a probe or
//! an operator finds that they are taken again. Pure: the caller brings the clock, in milliseconds of one clock.
//!
//! A refused destination is probed by the one call that tells whether the credentials are good, never by whichever
//! delivery comes first: one forbidden message would keep everything paused for ever. Where that call tells nothing, the
//! next opt-out that waits is the probe.

use serde::{Deserialize, Serialize};

/// How the reason of a pause for refused credentials begins in the store, so that other processes know that it may be
/// probed. An operator's pause never is.
pub const CREDENTIALS_REFUSED: &str = "credentials refused";

/// How soon a check that is due has told, most likely.
const CHECKED_WITHIN_MS: i64 = 500;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Pause {
    state: State,
    /// Grows with each resume: an answer to a call from before it says nothing about now.
    resumes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    #[default]
    Flowing,
    ByOperator {
        reason: String,
    },
    Refused {
        reason: String,
        check_due_ms: i64,
        /// The check told nothing: an opt-out may find out.
        opt_out_may_probe: bool,
    },
}

/// Which call asks to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    CredentialsCheck,
    OptOutWrite,
    Other,
}

impl Pause {
    /// Why and until when a call is held; `None` where it may be made. An operator's pause has no end that is known.
    pub(super) fn holds(&self, now_ms: i64, asking: Asking) -> Option<(Option<i64>, &str)> {
        match &self.state {
            State::Flowing => None,
            State::ByOperator { reason } => Some((None, reason)),
            State::Refused { reason, check_due_ms, opt_out_may_probe } => match asking {
                Asking::CredentialsCheck if *check_due_ms <= now_ms => None,
                Asking::OptOutWrite if *opt_out_may_probe => None,
                Asking::CredentialsCheck | Asking::OptOutWrite | Asking::Other => {
                    Some((Some((*check_due_ms).max(now_ms + CHECKED_WITHIN_MS)), reason))
                }
            },
        }
    }

    /// A call is made although the destination is paused: the probe of this interval is spent.
    pub(super) fn probe(&mut self, now_ms: i64, asking: Asking, every_ms: i64) {
        if let State::Refused { check_due_ms, opt_out_may_probe, .. } = &mut self.state {
            match asking {
                Asking::CredentialsCheck => *check_due_ms = now_ms + every_ms,
                Asking::OptOutWrite | Asking::Other => *opt_out_may_probe = false,
            }
        }
    }

    /// The check could not be made or told nothing.
    pub(super) fn check_told_nothing(&mut self, now_ms: i64, every_ms: i64) {
        if let State::Refused { check_due_ms, opt_out_may_probe, .. } = &mut self.state {
            *opt_out_may_probe = true;
            *check_due_ms = (*check_due_ms).max(now_ms + every_ms);
        }
    }

    /// When the check of refused credentials is due.
    pub(super) fn check_due_ms(&self) -> Option<i64> {
        match &self.state {
            State::Refused { check_due_ms, .. } => Some(*check_due_ms),
            State::Flowing | State::ByOperator { .. } => None,
        }
    }

    pub(super) fn is_flowing(&self) -> bool {
        self.state == State::Flowing
    }

    pub(super) fn resumes(&self) -> u64 {
        self.resumes
    }

    /// The destination refused the credentials of a call that was made after `resumes` resumes.
    pub(super) fn refused(&mut self, now_ms: i64, every_ms: i64, status: u16, resumes: u64) {
        if self.is_flowing() && resumes == self.resumes {
            self.state = State::Refused {
                reason: format!(
                    "{CREDENTIALS_REFUSED} ({status}): set valid ones, then `hookline resume`, or wait for the next probe"
                ),
                check_due_ms: now_ms + every_ms,
                opt_out_may_probe: false,
            };
        }
    }

    /// There are other credentials, or a new process that may hold them: the check need not wait.
    pub(super) fn check_now(&mut self, now_ms: i64) {
        if let State::Refused { check_due_ms, .. } = &mut self.state {
            *check_due_ms = (*check_due_ms).min(now_ms);
        }
    }

    /// A probe was answered by something that took our credentials. An operator's pause is the operator's to end.
    pub(super) fn accepted(&mut self) {
        if matches!(self.state, State::Refused { .. }) {
            self.flow();
        }
    }

    /// Takes over the reason of the pause that the store holds; `None`: the destination is not paused.
    pub(super) fn follow(&mut self, reason: Option<&str>, now_ms: i64) {
        match (reason, &self.state) {
            (None, State::Flowing) => {}
            (None, State::ByOperator { .. } | State::Refused { .. }) => self.flow(),
            (Some(reason), State::Refused { .. }) if is_probed(reason) => {}
            (Some(reason), _) if is_probed(reason) => {
                let (reason, check_due_ms) = (reason.to_owned(), now_ms);
                self.state = State::Refused { reason, check_due_ms, opt_out_may_probe: false };
            }
            (Some(reason), _) => self.state = State::ByOperator { reason: reason.to_owned() },
        }
    }

    /// The reason as the store keeps it.
    pub(super) fn reason(&self) -> Option<&str> {
        match &self.state {
            State::Flowing => None,
            State::ByOperator { reason } | State::Refused { reason, .. } => Some(reason),
        }
    }

    fn flow(&mut self) {
        self.state = State::Flowing;
        self.resumes += 1;
    }
}

/// Whether a pause with this reason may be probed.
pub(super) fn is_probed(reason: &str) -> bool {
    reason.starts_with(CREDENTIALS_REFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: i64 = 60_000;
    const REFUSED: &str = "credentials refused (401)";

    fn refused_at(now_ms: i64) -> Pause {
        let mut pause = Pause::default();
        pause.refused(now_ms, EVERY, 401, 0);
        pause
    }

    fn is_held(pause: &Pause, now_ms: i64, asking: Asking) -> bool {
        pause.holds(now_ms, asking).is_some()
    }

    #[test]
    fn refused_credentials_are_probed_by_the_check_and_by_nothing_else() {
        let mut pause = refused_at(0);
        for asking in [Asking::CredentialsCheck, Asking::OptOutWrite, Asking::Other] {
            assert_eq!(pause.holds(59_000, asking).expect("held").0, Some(EVERY), "{asking:?}");
        }
        assert!(is_held(&pause, EVERY, Asking::OptOutWrite) && is_held(&pause, EVERY, Asking::Other));
        assert!(!is_held(&pause, EVERY, Asking::CredentialsCheck));

        pause.probe(EVERY, Asking::CredentialsCheck, EVERY);
        assert!(is_held(&pause, EVERY + 1, Asking::CredentialsCheck), "one check for each interval");
        pause.accepted();
        assert!(pause.is_flowing());
    }

    #[test]
    fn where_the_check_tells_nothing_one_opt_out_finds_out() {
        let mut pause = refused_at(0);
        pause.probe(EVERY, Asking::CredentialsCheck, EVERY);
        pause.check_told_nothing(EVERY, EVERY);

        assert!(is_held(&pause, EVERY, Asking::Other));
        assert!(!is_held(&pause, EVERY, Asking::OptOutWrite));
        pause.probe(EVERY, Asking::OptOutWrite, EVERY);
        assert!(is_held(&pause, EVERY, Asking::OptOutWrite), "one opt-out for each check");
    }

    #[test]
    fn an_operators_pause_is_neither_probed_nor_ended_by_an_answer() {
        let mut pause = refused_at(0);
        pause.follow(Some("maintenance"), 1);
        pause.accepted();
        pause.check_now(1);

        assert_eq!(pause.holds(10 * EVERY, Asking::CredentialsCheck), Some((None, "maintenance")));
        pause.follow(None, 2);
        assert!(pause.is_flowing());
    }

    #[test]
    fn a_late_refusal_from_before_a_resume_pauses_nothing() {
        let mut pause = refused_at(0);
        pause.follow(None, 1);
        pause.refused(2, EVERY, 401, 0);
        assert!(pause.is_flowing());

        pause.refused(3, EVERY, 401, pause.resumes());
        assert!(!pause.is_flowing());
    }

    #[test]
    fn a_process_that_finds_refused_credentials_checks_its_own_at_once() {
        let mut pause = Pause::default();
        pause.follow(Some(REFUSED), 7);
        assert!(!is_held(&pause, 7, Asking::CredentialsCheck));

        pause.probe(7, Asking::CredentialsCheck, EVERY);
        pause.follow(Some(REFUSED), 8);
        assert!(is_held(&pause, 8, Asking::CredentialsCheck), "the same pause again is no news");
        pause.check_now(8);
        assert!(!is_held(&pause, 8, Asking::CredentialsCheck));
    }
}
