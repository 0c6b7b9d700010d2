//! Whether the token is good, told apart from what a good token may not see. A 403 may mean either: the vendor documents
//! no statuses (reference: <https://apidocs.next.textus.com/overview/auth/>). One cheap call in our own account decides,
//! so that one forbidden message never stops opt-outs.

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
/// A 2xx that is younger shows that the token is good although the check is forbidden.
const STILL_GOOD: Duration = Duration::from_secs(300);
/// How often a process looks whether refused credentials are to be checked.
const LOOK: Duration = Duration::from_millis(200);

/// What the check told.
enum Verdict {
    Good,
    Refused {
        status: u16,
    },
    Nothing,
    /// As `Nothing`, and the check was a probe.
    ProbeFailed {
        until: Timestamp,
    },
    /// No check was made: another process makes it, or no call may be made now.
    NotAsked,
}

impl TextUs {
    /// `GET /{account}/contact_phones?q=0000000000` in the account that the settings name. Where it is answered 2xx, a
    /// pause for refused credentials ends.
    ///
    /// # Errors
    /// Any [`DestinationError`]; `Forbidden` may be about the token here.
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

    /// Whether an answer has told this process already that it may write.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.world().may_write()
    }

    /// Awaited by whoever writes, before the first write of this process: the call that tells whether the token is good tells by its answer, whatever the
    /// status, whether the sandbox or the real API is there. The others that write meanwhile wait for it. The call goes
    /// with the `class` of the write, for reads that fail hold up no opt-out. Where any call was answered before, none is made.
    ///
    /// # Errors
    /// `GateClosed` where this process must not write now.
    pub async fn ask_before_writing(&self, class: OperationClass) -> Result<(), DestinationError> {
        if self.may_write() {
            return Ok(());
        }
        let began = Instant::now();
        let mut last_asked = self.world().asking().await;
        if self.may_write() {
            return Ok(());
        }
        // What it was told while this one waited is for this one too: else each would wait for a call of its own.
        if let Some((_, error)) = last_asked.as_ref().filter(|(ended, _)| *ended >= began) {
            return Err(error.clone());
        }
        // In no delivery's log: the call is about none of them.
        let asked = match self.ask_as(&CallLog::default(), class).await {
            _ if self.may_write() => Ok(()),
            Err(closed @ DestinationError::GateClosed { .. }) => Err(closed),
            Ok(_) | Err(_) => self.world().did_not_answer().await,
        };
        *last_asked = asked.as_ref().err().map(|error| (Instant::now(), error.clone()));
        asked
    }

    /// A 403 is about one resource unless the check says that the token is refused; the other results stay as they are.
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
                // The status of this call: the ledger records what a PUT was answered.
                DestinationError::CredentialsRefused { status: 403, until: paused_until() }
            }
            // Another call has found out meanwhile that the token is refused: this one costs no attempt either.
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

    /// A background task: while the token is refused, checks it as often as the gate lets it, until `shutdown`. Where the
    /// check tells nothing, an opt-out that waits may find out.
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
