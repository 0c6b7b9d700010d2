//! Finds out whether the token is valid, as opposed to what a valid token may not see. A 403 may mean either: the
//! vendor documents no statuses (reference: <https://apidocs.next.textus.com/overview/auth/>). One cheap call in our
//! own account decides, so that one forbidden message never stops opt-outs.

use std::time::{Duration, Instant};

use hookline_common::names::{Operation, OperationClass};
use hookline_common::time::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::client::TextUs;
use super::paths::Path;
use crate::calls::held::paused_until;
use crate::calls::http::Answer;
use crate::calls::log::CallLog;
use crate::destinations::error::DestinationError;
use crate::gate::CheckResult;

/// A search that finds nobody.
const NOBODY: &str = "0000000000";
/// A 2xx younger than this shows that the token is valid even if the check is forbidden.
const STILL_GOOD: Duration = Duration::from_secs(300);
/// How often a process looks whether refused credentials must be checked.
const LOOK: Duration = Duration::from_millis(200);

/// The result of the check.
enum Verdict {
    Good,
    Refused {
        status: u16,
    },
    Nothing,
    /// Like `Nothing`, and the check was a probe.
    ProbeFailed {
        until: Timestamp,
    },
    /// No check was made: another process makes it, or no call may be made now.
    NotAsked,
}

impl TextUs {
    /// `GET /{account}/contact_phones?q=0000000000` in the account that the settings name. A 2xx ends a pause for
    /// refused credentials.
    ///
    /// # Errors
    /// Any [`DestinationError`]; here `Forbidden` may be about the token.
    pub async fn check_token(&self, log: &CallLog) -> Result<(), DestinationError> {
        self.ask_about_token(log).await.map(|_answer| self.gate().check_ended(CheckResult::Accepted))
    }

    async fn ask_about_token(&self, log: &CallLog) -> Result<Answer, DestinationError> {
        self.ask_as(log, Operation::CheckToken.class()).await
    }

    async fn ask_as(&self, log: &CallLog, class: OperationClass) -> Result<Answer, DestinationError> {
        let path = Path::of_account(self.account())?.word("contact_phones").query("q", NOBODY, NOBODY);
        self.get_as(log, Operation::CheckToken, class, &path).await
    }

    /// Returns whether an answer has already told this process that it may write.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.world().may_write()
    }

    /// Makes sure that this process may write; await it before the first write. The token check's answer, whatever its
    /// status, tells whether the sandbox or the real API is there. Concurrent writers wait for that one call. The call
    /// goes with the `class` of the write, so that failing reads hold up no opt-out. If any call was answered before,
    /// none is made.
    ///
    /// # Errors
    /// `GateClosed` if this process must not write now.
    pub async fn ask_before_writing(&self, class: OperationClass) -> Result<(), DestinationError> {
        if self.may_write() {
            return Ok(());
        }
        let began = Instant::now();
        let mut last_asked = self.world().asking().await;
        if self.may_write() {
            return Ok(());
        }
        // An answer that came while this writer waited counts for it too. Otherwise each would wait for a call of its
        // own.
        if let Some((_, error)) = last_asked.as_ref().filter(|(ended, _)| *ended >= began) {
            return Err(error.clone());
        }
        // The call is about no delivery, so it goes into no delivery's log.
        let asked = match self.ask_as(&CallLog::default(), class).await {
            _ if self.may_write() => Ok(()),
            Err(closed @ DestinationError::GateClosed { .. }) => Err(closed),
            Ok(_) | Err(_) => self.world().did_not_answer().await,
        };
        *last_asked = asked.as_ref().err().map(|error| (Instant::now(), error.clone()));
        asked
    }

    /// Decides what a 403 is about: one resource, unless the check says that the token is refused. Other results stay
    /// as they are.
    pub(super) async fn judged(
        &self,
        log: &CallLog,
        answer: Result<Answer, DestinationError>,
    ) -> Result<Answer, DestinationError> {
        let Err(DestinationError::Forbidden { detail }) = answer else { return answer };
        let undecided = |detail| DestinationError::Failed { status: 403, retry_after: None, detail };
        Err(match self.verdict(log).await {
            Verdict::Good => DestinationError::Forbidden { detail },
            Verdict::Refused { status } => {
                self.gate().check_ended(CheckResult::Refused(status));
                // Keep this call's status: the ledger records how a PUT was answered.
                DestinationError::CredentialsRefused { status: 403, until: paused_until() }
            }
            // Another call has found out meanwhile that the token is refused, so this one costs no attempt either.
            Verdict::NotAsked if self.gate().check_due_in().is_some() => {
                DestinationError::CredentialsRefused { status: 403, until: paused_until() }
            }
            Verdict::ProbeFailed { until } => undecided(detail).of_probe(until),
            Verdict::Nothing | Verdict::NotAsked => undecided(detail),
        })
    }

    async fn verdict(&self, log: &CallLog) -> Verdict {
        match self.ask_about_token(log).await {
            // A maintenance page says nothing about the token.
            Ok(answer) => answer.json::<Value>().map_or(Verdict::Nothing, |_json| Verdict::Good),
            Err(DestinationError::CredentialsRefused { status, .. }) => Verdict::Refused { status },
            Err(DestinationError::Forbidden { .. }) if self.gate().succeeded_within(STILL_GOOD) => Verdict::Good,
            Err(DestinationError::Forbidden { .. }) => Verdict::Refused { status: 403 },
            Err(DestinationError::NotFound { .. }) => Verdict::Good,
            Err(DestinationError::ProbeFailed { until, .. }) => Verdict::ProbeFailed { until },
            // Status 0 is a refusal on our side: no call was made.
            Err(DestinationError::Rejected { status, .. }) if status != 0 => Verdict::Good,
            Err(
                DestinationError::NotSent { .. }
                | DestinationError::NoAnswer { .. }
                | DestinationError::Failed { .. }
                | DestinationError::Rejected { .. },
            ) => Verdict::Nothing,
            Err(DestinationError::Throttled { .. } | DestinationError::GateClosed { .. }) => Verdict::NotAsked,
        }
    }

    /// Runs in the background until `shutdown`. While the token is refused, checks it as often as the gate allows. If
    /// the check finds nothing out, a waiting opt-out may probe.
    pub async fn check_refused_token(self, shutdown: CancellationToken) {
        loop {
            let wait = self.gate().check_due_in().map_or(LOOK, |due| due.min(LOOK));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            if self.gate().check_due_in().is_some_and(|due| due.is_zero()) {
                match self.verdict(&CallLog::default()).await {
                    Verdict::Good => self.gate().check_ended(CheckResult::Accepted),
                    Verdict::Refused { status: 401 } | Verdict::NotAsked => {}
                    Verdict::Refused { .. } | Verdict::Nothing | Verdict::ProbeFailed { .. } => {
                        self.gate().check_ended(CheckResult::Nothing);
                    }
                }
            }
        }
    }
}
