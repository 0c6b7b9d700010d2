//! The pause of a destination. An operator's pause lasts until `hookline resume`. A pause after refused credentials lasts
//! until a probe or an operator finds that the destination takes them again. All of this is pure: the caller brings the
//! time, in milliseconds of one clock.
//!
//! The probe of a refused destination is the one call that tells whether the credentials are good, never the delivery
//! that happens to come first: one forbidden message would keep everything paused for ever. Where that call tells
//! nothing, the next opt-out that waits is the probe.

use serde::{Deserialize, Serialize};

use super::policy::{Call, Wait, Why};
use crate::destinations::pause_reason::{CREDENTIALS_REFUSED, is_probed};

/// The time within which a check that is due has most likely told its result.
const CHECKED_WITHIN_MS: i64 = 500;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Pause {
    /// The pause as the store keeps it, or `None` where calls may be made.
    reason: Option<String>,
    /// The time of the next check of refused credentials.
    check_due_ms: i64,
    /// Whether the check told nothing, so that an opt-out may find out.
    opt_out_may_probe: bool,
    /// The time of the last resume or change of credentials. A refusal of a call from before says nothing about now.
    pub(super) resumed_ms: i64,
}

impl Pause {
    /// Decides whether a call may be made. Nobody knows when an operator's pause will end.
    pub(super) fn passes(&self, now_ms: i64, call: Call) -> Result<(), Wait> {
        let Some(reason) = &self.reason else { return Ok(()) };
        let may_probe = match call.checks_credentials {
            true => self.check_due_ms <= now_ms,
            false => self.opt_out_may_probe && call == Call::OPT_OUT_WRITE,
        };
        let is_probed = is_probed(reason);
        if is_probed && may_probe {
            return Ok(());
        }
        let until_ms = is_probed.then(|| self.check_due_ms.max(now_ms + CHECKED_WITHIN_MS));
        Err(Wait { until_ms, why: Why::Paused(reason.clone()) })
    }

    /// Notes that a call is made. Where the destination is paused, that call is the probe of this interval.
    pub(super) fn probe(&mut self, now_ms: i64, call: Call, every_ms: i64) {
        if call.checks_credentials {
            self.check_due_ms = now_ms + every_ms;
        } else {
            self.opt_out_may_probe = false;
        }
    }

    /// Notes that the check could not be made, or told nothing.
    pub(super) fn check_found_nothing(&mut self, now_ms: i64, every_ms: i64) {
        self.opt_out_may_probe = true;
        self.check_due_ms = self.check_due_ms.max(now_ms + every_ms);
    }

    /// Returns when the check of refused credentials is due.
    pub(super) fn check_due_ms(&self) -> Option<i64> {
        self.reason.as_deref().filter(|reason| is_probed(reason)).map(|_reason| self.check_due_ms)
    }

    pub(super) fn is_flowing(&self) -> bool {
        self.reason.is_none()
    }

    /// Returns the pause as the store keeps it.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Notes that the destination refused the credentials of a call that was sent at `sent_ms`.
    pub(super) fn refused(&mut self, sent_ms: i64, now_ms: i64, every_ms: i64, status: u16) {
        if self.is_flowing() && sent_ms >= self.resumed_ms {
            self.reason = Some(format!("{CREDENTIALS_REFUSED} ({status}): set valid ones, then `hookline resume`"));
            (self.check_due_ms, self.opt_out_may_probe) = (now_ms + every_ms, false);
        }
    }

    /// Notes that the answer to a call that was sent at `sent_ms` needs a person's attention.
    pub(super) fn stop(&mut self, sent_ms: i64, reason: &str) {
        if sent_ms >= self.resumed_ms {
            self.follow(Some(reason), sent_ms);
        }
    }

    /// Makes the check due at once, because there are new credentials or a new process that may hold them.
    pub(super) fn check_now(&mut self, now_ms: i64) {
        self.check_due_ms = self.check_due_ms.min(now_ms);
        if self.is_flowing() {
            self.resumed_ms = self.resumed_ms.max(now_ms);
        }
    }

    /// Ends a pause after a probe, sent at `sent_ms`, whose credentials were taken. Only an operator ends an operator's
    /// pause.
    pub(super) fn accepted(&mut self, sent_ms: i64) {
        if self.check_due_ms().is_some() {
            self.follow(None, sent_ms);
        }
    }

    /// Takes over the pause that the store holds. `None` means that the destination is not paused.
    pub(super) fn follow(&mut self, reason: Option<&str>, now_ms: i64) {
        match reason {
            None if self.reason.take().is_some() => self.resumed_ms = now_ms,
            // The pause is known already.
            Some(reason) if !(is_probed(reason) && self.check_due_ms().is_some()) => {
                self.reason = Some(reason.to_owned());
                (self.check_due_ms, self.opt_out_may_probe) = (now_ms, false);
            }
            None | Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use hookline_common::names::OperationClass;

    use super::*;
    use crate::destinations::priority::Priority;

    const CHECK: Call = Call { checks_credentials: true, ..Call::new(Priority::OptOut, OperationClass::Reads) };
    const OPT_OUT: Call = Call::OPT_OUT_WRITE;
    const NOTE: Call = Call::new(Priority::Note, OperationClass::Reads);

    const EVERY: i64 = 60_000;
    const REFUSED: &str = "credentials refused (401)";

    fn refused_at(now_ms: i64) -> Pause {
        let mut pause = Pause::default();
        pause.refused(now_ms, now_ms, EVERY, 401);
        pause
    }

    fn is_held(pause: &Pause, now_ms: i64, call: Call) -> bool {
        pause.passes(now_ms, call).is_err()
    }

    #[test]
    fn refused_credentials_are_probed_by_the_check_and_by_nothing_else() {
        let mut pause = refused_at(0);
        for call in [CHECK, OPT_OUT, NOTE] {
            assert_eq!(pause.passes(59_000, call).expect_err("held").until_ms, Some(EVERY), "{call:?}");
        }
        assert!(is_held(&pause, EVERY, OPT_OUT) && is_held(&pause, EVERY, NOTE));
        assert!(!is_held(&pause, EVERY, CHECK));

        pause.probe(EVERY, CHECK, EVERY);
        assert!(is_held(&pause, EVERY + 1, CHECK), "one check for each interval");
        pause.accepted(EVERY);
        assert!(pause.is_flowing());
    }

    #[test]
    fn where_the_check_tells_nothing_one_opt_out_finds_out() {
        let mut pause = refused_at(0);
        pause.probe(EVERY, CHECK, EVERY);
        pause.check_found_nothing(EVERY, EVERY);

        assert!(is_held(&pause, EVERY, NOTE));
        assert!(!is_held(&pause, EVERY, OPT_OUT));
        pause.probe(EVERY, OPT_OUT, EVERY);
        assert!(is_held(&pause, EVERY, OPT_OUT), "one opt-out for each check");
    }

    #[test]
    fn an_operators_pause_is_neither_probed_nor_ended_by_an_answer() {
        let mut pause = refused_at(0);
        pause.follow(Some("maintenance"), 1);
        pause.accepted(EVERY);
        pause.check_now(1);

        let why = Why::Paused("maintenance".to_owned());
        assert_eq!(pause.passes(10 * EVERY, CHECK), Err(Wait { until_ms: None, why }));
        pause.follow(None, 2);
        assert!(pause.is_flowing());
    }

    #[test]
    fn a_late_refusal_from_before_a_resume_pauses_nothing() {
        let mut pause = refused_at(0);
        pause.follow(None, 1);
        pause.refused(0, 2, EVERY, 401);
        assert!(pause.is_flowing());

        pause.refused(2, 3, EVERY, 401);
        assert!(!pause.is_flowing());
    }

    #[test]
    fn a_late_refusal_of_the_credentials_from_before_pauses_nothing() {
        let mut pause = Pause::default();
        pause.check_now(1);
        pause.refused(0, 2, EVERY, 401);
        assert!(pause.is_flowing());

        pause.refused(1, 3, EVERY, 401);
        assert!(!pause.is_flowing());
    }

    #[test]
    fn a_late_answer_from_before_a_resume_stops_nothing() {
        let mut pause = Pause::default();
        pause.stop(5, "look");
        pause.stop(6, "look");
        assert!(is_held(&pause, 10 * EVERY, CHECK) && is_held(&pause, 10 * EVERY, OPT_OUT), "nothing probes it");
        pause.follow(None, 10);

        pause.stop(9, "look");
        assert!(pause.is_flowing());
        pause.stop(10, "look");
        assert_eq!(pause.reason(), Some("look"));
    }

    #[test]
    fn a_process_that_finds_refused_credentials_checks_its_own_at_once() {
        let mut pause = Pause::default();
        pause.follow(Some(REFUSED), 7);
        assert!(!is_held(&pause, 7, CHECK));

        pause.probe(7, CHECK, EVERY);
        pause.follow(Some(REFUSED), 8);
        assert!(is_held(&pause, 8, CHECK), "the same pause again is no news");
        pause.check_now(8);
        assert!(!is_held(&pause, 8, CHECK));
    }
}
