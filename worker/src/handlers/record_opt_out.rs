//! Records an opt-out or opt-in in the ledger, and PUTs an opt-out to every configured account. A text that consists
//! only of a stop word is an opt-out. One that asks for texts again (START) changes no state, and is recorded as that.
//!
//! State alone never decides whether to PUT: a retried opt-out has already recorded its own state and must still be
//! sent. The store decides per target, from the ledger (docs/guarantees.md, "When an opt-out is PUT").

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::event::{Event, Keyword};
use hookline_common::names::{DeadReason, Destination, HandlerName, OperationClass, SkipReason};
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Claim, ClaimRequest, OptEvent, OptStanding, PutAnswer, PutDecision};

use super::effects::{Claimed, Effects, OurClaim, Written};
use super::opt_out_event::{self, OptOutEvents};
use super::{Clients, Targets, soon};
use crate::delivery::handler::{Attempt, Failure, Handler, HandlerError, Outcome};
use crate::destinations::error::{DestinationError, Disposition};
use crate::gate::Gate;
use crate::textus::client::TextUs;
use crate::textus::opt_outs::{OptOutNumber, PutAnswered, Shows};

const NAME: HandlerName = HandlerName::RecordOptOut;

pub(super) struct RecordOptOut {
    store: Store,
    textus: TextUs,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    events: OptOutEvents,
    accounts: Vec<String>,
    effects: Effects,
}

/// An opt-out that is being sent to the accounts.
struct OptOut<'a> {
    facts: &'a OptEvent<'a>,
    number: OptOutNumber<'a>,
}

/// The outcome for one target account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Put,
    Skipped(SkipReason),
}

impl RecordOptOut {
    pub(super) fn new(settings: &Settings, clients: &Clients) -> Self {
        Self {
            store: clients.store.clone(),
            textus: clients.textus.clone(),
            gate: Arc::clone(&clients.textus_gate),
            metrics: Arc::clone(&clients.metrics),
            events: OptOutEvents::new(settings),
            accounts: settings.handlers.record_opt_out.accounts.clone(),
            effects: Effects::by_calls(clients.store.clone(), NAME, settings.textus.timeout),
        }
    }

    /// Records an opt-in. No API opts a person in; the record re-arms the next PUT.
    async fn opt_in(&self, event: &OptEvent<'_>) -> Result<Outcome, Failure> {
        let outcome = match self.store.record_opt_event(event).await? {
            OptStanding::Current => Outcome::skipped(SkipReason::OptIn),
            OptStanding::Stale => self.skip(event, SkipReason::Stale).await?,
        };
        self.reopen_overtaking(event).await?;
        Ok(outcome)
    }

    /// Records a text that asks for texts again, so that no earlier PUT stands in for a later opt-out.
    async fn start(&self, event: &OptEvent<'_>) -> Result<Outcome, Failure> {
        let outcome = self.skip(event, SkipReason::NoAction).await?;
        self.reopen_overtaking(event).await?;
        Ok(outcome)
    }

    /// Reopens the opt-outs that are newer than this opt-in and were decided before it was recorded: they may count on a
    /// PUT from before it.
    async fn reopen_overtaking(&self, event: &OptEvent<'_>) -> Result<(), Failure> {
        let overtaking = self.store.reopen_overtaking(event, &self.accounts).await?;
        for opt_out in &overtaking.reopened {
            tracing::warn!(event.id = %event.event_id, opt_out = %opt_out,
                "opt_out.reopened: this opt-in was recorded after a newer opt-out had been decided; that opt-out is \
                 decided again");
        }
        for opt_out in &overtaking.erased {
            tracing::error!(event.id = %event.event_id, opt_out = %opt_out,
                "opt_out.not_reopened: this opt-in was recorded after a newer opt-out had been decided, and that \
                 opt-out's payload was erased; look in TextUs whether the person is opted out");
        }
        match overtaking.in_hand_until {
            Some(until) => Err(HandlerError::Wait {
                until: soon(until),
                why: "a newer opt-out of this number is being decided, perhaps without this opt-in",
            }
            .into()),
            None => Ok(()),
        }
    }

    async fn opt_out(&self, attempt: &Attempt<'_>, event: &OptOut<'_>) -> Result<Outcome, Failure> {
        let mut targets = Targets::default();
        let mut accounts = self.accounts.iter();
        match accounts.next() {
            Some(first) => match self.record_and_put_to(attempt, event, first).await.transpose() {
                Some(target) => targets.add(target)?,
                None => return self.skip(event.facts, SkipReason::Stale).await,
            },
            // The settings name at least one account.
            None => drop(self.store.record_opt_event(event.facts).await?),
        }
        for account in accounts {
            targets.add(self.put_to(attempt, event, account).await)?;
        }
        let (targets, effects) = targets.all()?;
        if targets.contains(&Target::Put) {
            return Ok(Outcome::done().with_effects(effects));
        }
        // An echo explains why the event came at all.
        let echo = targets.iter().find(|target| **target == Target::Skipped(SkipReason::Echo));
        match echo.or(targets.first()) {
            Some(Target::Skipped(reason)) => self.skip(event.facts, *reason).await,
            Some(Target::Put) | None => Ok(Outcome::done()),
        }
    }

    /// Records the opt-out whether or not it can be PUT now; `None` if it is stale.
    async fn record_and_put_to(
        &self,
        attempt: &Attempt<'_>,
        event: &OptOut<'_>,
        account: &str,
    ) -> Result<Option<Written<Target>>, HandlerError> {
        let turn = match self.turn(attempt, account, attempt.first_claim.clone()).await {
            Ok(Claimed::Ours(claim)) => {
                let written = self.effects.write(claim, async |claim| {
                    // Claim first, so that the record and the decision drawn from it are one write.
                    match self.store.record_and_decide(event.facts, account).await? {
                        None => Ok(Written::nothing(None)),
                        Some(decision) => Ok(self.carry_out(attempt, event, account, claim, decision).await?.map(Some)),
                    }
                });
                return Ok(written.await?.transpose());
            }
            Ok(Claimed::MadeBefore { .. }) => Ok(Some(Written::nothing(Target::Put))),
            Err(error) => Err(error),
        };
        match self.store.record_opt_event(event.facts).await? {
            OptStanding::Current => turn,
            OptStanding::Stale => Ok(None),
        }
    }

    async fn put_to(
        &self,
        attempt: &Attempt<'_>,
        event: &OptOut<'_>,
        account: &str,
    ) -> Result<Written<Target>, HandlerError> {
        let Claimed::Ours(claim) = self.turn(attempt, account, None).await? else {
            return Ok(Written::nothing(Target::Put));
        };
        let written = self.effects.write(claim, async |claim| {
            let decision = self.store.decide_put(event.facts, account).await?;
            Ok(self.carry_out(attempt, event, account, claim, decision).await?)
        });
        Ok(written.await?)
    }

    /// Claims the PUT to one account. Copies of one event (a sender's repeat, a redelivery) are handled concurrently,
    /// and the ledger alone would say "put" to each until one has its answer.
    async fn turn(&self, attempt: &Attempt<'_>, account: &str, claim: Option<Claim>) -> Result<Claimed, HandlerError> {
        let shut = || self.gate.shut().map_err(|held| HandlerError::textus(held.into()));
        let claim = match claim {
            Some(claim) => claim,
            None => {
                shut()?;
                // Ask before the claim, whose lease doesn't cover this call, and before the ledger says "sent".
                let asked = self.textus.ask_before_writing(OperationClass::OptOutWrites).await;
                asked.map_err(HandlerError::textus)?;
                self.store.claim(&self.claim(attempt.event, attempt.owner, account)).await?
            }
        };
        let claimed = self.effects.claimed(attempt, claim, "another delivery is making this PUT")?;
        // A closed gate must leave no "sent" in the ledger for a call that was never made.
        if let (Claimed::Ours(claim), Err(held)) = (&claimed, shut()) {
            self.effects.release(claim).await?;
            return Err(held);
        }
        Ok(claimed)
    }

    /// Carries out the ledger's decision. A failed PUT may be repeated at once without a look-up, so whatever the
    /// error, its effect counts as not made.
    async fn carry_out(
        &self,
        attempt: &Attempt<'_>,
        event: &OptOut<'_>,
        account: &str,
        claim: OurClaim,
        decision: PutDecision,
    ) -> Result<Written<Target>, HandlerError> {
        match decision {
            // This was our own PUT. It was answered before a crash kept us from settling.
            PutDecision::Duplicate => Ok(claim.made(Target::Put, None)),
            PutDecision::Echo => Ok(Written::nothing(Target::Skipped(SkipReason::Echo))),
            PutDecision::AlreadyDone => Ok(Written::nothing(Target::Skipped(SkipReason::AlreadyDone))),
            PutDecision::Stale => Ok(Written::nothing(Target::Skipped(SkipReason::Stale))),
            PutDecision::Wait { until } => {
                Err(HandlerError::Wait { until: soon(until), why: "another event's PUT of this number is in flight" })
            }
            PutDecision::Put => {
                self.put(attempt, event, account).await?;
                Ok(claim.made(Target::Put, None))
            }
        }
    }

    fn claim<'a>(&self, event: &'a Event, owner: &'a str, account: &'a str) -> ClaimRequest<'a> {
        self.effects.request(event, owner, (account, event.id.as_str()))
    }

    async fn put(&self, attempt: &Attempt<'_>, event: &OptOut<'_>, account: &str) -> Result<(), HandlerError> {
        let mut put = self.textus.put_opt_out(attempt.calls, account, event.number).await;
        // A 429 did nothing. A parked opt-out would come back by a queue's clock, long after the gate opens.
        if matches!(put, Err(DestinationError::Throttled { .. })) && self.gate.shut().is_ok() {
            put = self.textus.put_opt_out(attempt.calls, account, event.number).await;
        }
        let (answer, result) = match put {
            Ok(PutAnswered { status, shows: Shows::This }) => (PutAnswer::Status(status), Ok(())),
            Ok(PutAnswered { status, shows }) => self.look_for_proof(attempt, event, account, status, shows).await,
            Err(DestinationError::Rejected { status: status @ (409 | 422), detail }) => {
                self.read_back(attempt, event, account, status, detail).await
            }
            Err(error) => (answer_of(&error), Err(failed(attempt, account, error))),
        };
        self.store.put_answered(&attempt.event.id, event.number.phone, account, answer).await?;
        if result.is_ok() {
            let latency = Timestamp::now().since(event.facts.received_at);
            self.metrics.worker.opt_out_latency_seconds.observe(latency.as_secs_f64());
        }
        result
    }

    /// Looks for proof with a GET. A 2xx alone proves nothing: a maintenance page has one too.
    async fn look_for_proof(
        &self,
        attempt: &Attempt<'_>,
        event: &OptOut<'_>,
        account: &str,
        status: u16,
        put_shows: Shows,
    ) -> (PutAnswer, Result<(), HandlerError>) {
        let shows = self.textus.get_opt_out(attempt.calls, account, event.number).await;
        let error = match shows {
            Ok(Shows::This) => return (PutAnswer::ReadBack(status), Ok(())),
            // Another try would be just as doubtful, and might again be about another person.
            Ok(shows) if [put_shows, shows].contains(&Shows::TenDigits) => HandlerError::GiveUp {
                reason: DeadReason::Rejected,
                destination: Some(Destination::TextUs),
                status: Some(status),
                detail: "the answer names ten digits only, which may be another person's +1 number; look in TextUs \
                         whether this number is opted out, and whether that one was by mistake"
                    .to_owned(),
            },
            Ok(_) => try_again("the PUT was answered without this opt-out, and a GET does not show it"),
            Err(error) if is_final(&error) => {
                try_again("the PUT was answered without this opt-out, and a GET of it is refused")
            }
            Err(error) => reads_failed(error),
        };
        (PutAnswer::Unproven(status), Err(error))
    }

    /// Finds out with a GET whether a 409 or 422 means "already there" (docs/textus-api.md, "Opt-outs").
    async fn read_back(
        &self,
        attempt: &Attempt<'_>,
        event: &OptOut<'_>,
        account: &str,
        status: u16,
        detail: String,
    ) -> (PutAnswer, Result<(), HandlerError>) {
        match self.textus.get_opt_out(attempt.calls, account, event.number).await {
            Ok(Shows::This) => (PutAnswer::ReadBack(status), Ok(())),
            Err(error) if !is_final(&error) => (PutAnswer::Status(status), Err(reads_failed(error))),
            Ok(Shows::TenDigits | Shows::SomethingElse | Shows::Nothing) | Err(_) => {
                let refused = HandlerError::GiveUp {
                    reason: DeadReason::Rejected,
                    destination: Some(Destination::TextUs),
                    status: Some(status),
                    detail,
                };
                (PutAnswer::Status(status), Err(refused))
            }
        }
    }

    async fn skip(&self, event: &OptEvent<'_>, reason: SkipReason) -> Result<Outcome, Failure> {
        self.store.note_skipped(event, reason).await?;
        Ok(Outcome::skipped(reason))
    }
}

#[async_trait]
impl Handler for RecordOptOut {
    fn name(&self) -> HandlerName {
        NAME
    }

    /// Returns none: opt-outs and opt-ins are recorded whether or not TextUs can be called; only the PUT waits.
    fn gates(&self) -> Vec<(Arc<Gate>, &'static [OperationClass])> {
        Vec::new()
    }

    fn first_claim<'a>(&'a self, event: &'a Event, owner: &'a str) -> Option<ClaimRequest<'a>> {
        let opts_out = || self.events.read(event).is_ok_and(|payload| payload.is_some_and(|payload| payload.opted_out));
        let may_put = self.textus.may_write() && self.gate.shut().is_ok();
        let to_put = may_put && opts_out();
        let first = self.accounts.first().filter(|_| to_put)?;
        Some(self.claim(event, owner, first))
    }

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, Failure> {
        let Some(payload) = self.events.read(attempt.event)? else { return Ok(opt_out_event::nobody()) };
        let event = self.events.opt_event(attempt.event, &payload, &self.accounts);
        if payload.disagrees {
            tracing::warn!(event.id = %attempt.event.id,
                "opt_out.contradictory: `action` and `optOut.type` disagree; taken as opted out");
        }
        let outcome = if payload.keyword == Some(Keyword::Start) {
            self.start(&event).await?
        } else if payload.opted_out {
            let number = OptOutNumber { phone: &payload.phone, in_id: payload.number_in_id.as_ref() };
            self.opt_out(attempt, &OptOut { facts: &event, number }).await?
        } else {
            self.opt_in(&event).await?
        };
        Ok(outcome.with_remarks(opt_out_event::remark_on_date(attempt.event, &payload)))
    }
}

/// Returns what to do after a failed GET. Reads may be held because they fail in one account; that must not keep PUTs
/// from the other accounts.
fn reads_failed(error: DestinationError) -> HandlerError {
    match error.disposition() {
        Disposition::Hold { until, .. } => {
            HandlerError::Wait { until, why: "reads are held, and a PUT waits for its proof" }
        }
        Disposition::Retry { .. } | Disposition::RetryAfterProbe { .. } | Disposition::DeadLetter { .. } => {
            HandlerError::textus(error)
        }
    }
}

/// Returns what to do after a failed PUT. A 403 or 404 for the account has to be fixed in TextUs or in the
/// configuration. So the opt-out is retried until it is too old, and an error is logged at once.
fn failed(attempt: &Attempt<'_>, account: &str, error: DestinationError) -> HandlerError {
    let Some(status @ (403 | 404)) = error.status().filter(|_| is_final(&error)) else {
        return HandlerError::textus(error);
    };
    tracing::error!(event.id = %attempt.event.id, account, status,
        "opt_out.refused: TextUs does not take this opt-out; it is tried again until it is too old. Mend the rights \
         of the token, or [handlers.record_opt_out] accounts");
    try_again(if status == 403 {
        "TextUs answered the PUT with 403: the token has no right to opt out in this account"
    } else {
        "TextUs answered the PUT with 404: it does not know this account or this number"
    })
}

fn try_again(why: &'static str) -> HandlerError {
    HandlerError::TryAgain { after: Duration::ZERO, destination: Destination::TextUs, why }
}

fn is_final(error: &DestinationError) -> bool {
    matches!(error.disposition(), Disposition::DeadLetter { .. })
}

fn answer_of(error: &DestinationError) -> PutAnswer {
    match error.status() {
        Some(status) => PutAnswer::Status(status),
        None if error.may_have_taken_effect() => PutAnswer::NoAnswer,
        None => PutAnswer::NotSent,
    }
}
