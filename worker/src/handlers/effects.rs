//! Makes each effect once for its handler, target and effect key, whatever repeats. An attempt claims the effect and
//! writes under the claim. The claim then ends according to the outcome of the write.

use std::time::Duration;

use hookline_common::event::{Event, EventId};
use hookline_common::names::{HandlerName, SkipReason};
use hookline_common::time::Timestamp;
use hookline_store::model::{Claim, ClaimRequest, ClaimToken, CompletedEffect};
use hookline_store::{Store, StoreError};

use super::soon;
use crate::delivery::handler::{Attempt, HandlerError, Outcome};
use crate::records::SystemOfRecord;

/// The effects of one handler.
pub(super) struct Effects {
    store: Store,
    handler: HandlerName,
    /// How long claims and locks are held.
    pub(super) lease: Duration,
    /// How long a write with an unknown outcome may still take effect.
    pub(super) settle_after: Duration,
}

/// Whether this attempt has to make an effect.
pub(super) enum Claimed {
    Ours(OurClaim),
    /// This event or another made the effect before.
    MadeBefore {
        event_id: EventId,
    },
}

/// The right to write one effect.
pub(super) struct OurClaim {
    pub(super) before: Before,
    token: ClaimToken,
}

/// What is known about earlier writes of the effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// A write for another event got no usable answer.
    Unknown,
    /// A write for this event got no usable answer.
    OwnUnknown,
    /// A write got no usable answer, and a person found that it had no effect (`dead-letters resolve --write-again`).
    RuledOut,
}

/// Whether an effect was made now or before.
pub(super) enum Once<T> {
    Now(Written<T>),
    /// This event or another made the effect before.
    Before {
        event_id: EventId,
    },
}

/// The result of a write under a claim.
pub(super) struct Written<T> {
    pub(super) value: T,
    /// `None` if nothing was written; the claim is then released.
    pub(super) effect: Option<CompletedEffect>,
}

/// A failure under a claim, which decides what happens to the claim.
pub(super) enum WriteError {
    /// The effect surely didn't happen, or may be repeated. The claim is released.
    NotMade(HandlerError),
    /// The effect may have happened. The next claim looks for it first.
    InDoubt(HandlerError),
}

impl Effects {
    /// Margin on top of three call time-outs, for the work between the calls.
    const MARGIN: Duration = Duration::from_secs(5);

    /// For effects written by calls with this time-out.
    pub(super) fn by_calls(store: Store, handler: HandlerName, timeout: Duration) -> Self {
        Self { store, handler, lease: timeout * 3 + Self::MARGIN, settle_after: timeout }
    }

    /// For effects written to the system of record, with calls to TextUs on the way.
    pub(super) fn in_records(
        store: Store,
        handler: HandlerName,
        timeout: Duration,
        records: &dyn SystemOfRecord,
    ) -> Self {
        let settle_after = records.settle_after();
        Self { settle_after, ..Self::by_calls(store, handler, timeout.max(settle_after)) }
    }

    /// Claims the effect, writes it and ends the claim. `busy` describes what another delivery that holds the claim is
    /// doing. The caller records the completed effect.
    pub(super) async fn once<T, W>(
        &self,
        attempt: &Attempt<'_>,
        (target, effect_key): (&str, &str),
        busy: &'static str,
        write: impl FnOnce(OurClaim) -> W,
    ) -> Result<Once<T>, WriteError>
    where
        W: Future<Output = Result<Written<T>, WriteError>>,
    {
        let claim = self.store.claim(&self.request(attempt.event, attempt.owner, (target, effect_key))).await?;
        match self.claimed(attempt, claim, busy)? {
            Claimed::Ours(claim) => self.write(claim, write).await.map(Once::Now),
            Claimed::MadeBefore { event_id } => Ok(Once::Before { event_id }),
        }
    }

    pub(super) fn request<'a>(
        &self,
        event: &'a Event,
        owner: &'a str,
        (target, effect_key): (&'a str, &'a str),
    ) -> ClaimRequest<'a> {
        ClaimRequest {
            handler: self.handler,
            target,
            effect_key,
            event_id: &event.id,
            owner,
            lease: self.lease,
            settle_after: self.settle_after,
        }
    }

    /// Turns the store's answer to a claim into what the attempt has to do.
    pub(super) fn claimed(
        &self,
        attempt: &Attempt<'_>,
        claim: Claim,
        busy: &'static str,
    ) -> Result<Claimed, HandlerError> {
        let (token, before) = match claim {
            Claim::Fresh(token) => (token, Before::Nothing),
            Claim::AfterUnknown { token, write_again: true, .. } => (token, Before::RuledOut),
            Claim::AfterUnknown { token, event_id, .. } if event_id == attempt.event.id => (token, Before::OwnUnknown),
            Claim::AfterUnknown { token, .. } => (token, Before::Unknown),
            Claim::Done { event_id, .. } => return Ok(Claimed::MadeBefore { event_id }),
            Claim::Wait { until } => return Err(HandlerError::Wait { until: soon(until), why: busy }),
        };
        Ok(Claimed::Ours(OurClaim { before, token }))
    }

    /// Writes under a claim, and ends the claim if the effect wasn't made or is in doubt.
    pub(super) async fn write<T, W>(
        &self,
        claim: OurClaim,
        write: impl FnOnce(OurClaim) -> W,
    ) -> Result<Written<T>, WriteError>
    where
        W: Future<Output = Result<Written<T>, WriteError>>,
    {
        let token = claim.token.clone();
        let result = write(claim).await;
        match &result {
            Ok(Written { effect: Some(_), .. }) => {}
            Ok(Written { effect: None, .. }) | Err(WriteError::NotMade(_)) => self.store.release(&token).await?,
            // The store hasn't heard of the outcome, so the claim ends with its lease.
            Err(WriteError::InDoubt(HandlerError::Store(_))) => {}
            Err(WriteError::InDoubt(_)) => self.store.effect_unknown(&token).await.map_err(WriteError::in_doubt)?,
        }
        result
    }

    /// Must be called right before the write. Fails if another delivery took over the claim because this attempt was
    /// slow: the other one's result counts.
    pub(super) async fn begin_write(&self, claim: &OurClaim) -> Result<(), HandlerError> {
        if self.store.still_mine(&claim.token, self.lease).await? {
            return Ok(());
        }
        let until = soon(Timestamp::now().plus(Duration::from_secs(1)));
        Err(HandlerError::Wait { until, why: "the claim passed to another delivery" })
    }

    pub(super) async fn release(&self, claim: &OurClaim) -> Result<(), HandlerError> {
        Ok(self.store.release(&claim.token).await?)
    }
}

impl OurClaim {
    /// Completes the effect; its target knows it as `remote_id`.
    pub(super) fn made<T>(self, value: T, remote_id: Option<&str>) -> Written<T> {
        Written { value, effect: Some(CompletedEffect::new(self.token, remote_id)) }
    }
}

impl<T> Written<T> {
    pub(super) fn nothing(value: T) -> Self {
        Self { value, effect: None }
    }

    pub(super) fn map<U>(self, with: impl FnOnce(T) -> U) -> Written<U> {
        Written { value: with(self.value), effect: self.effect }
    }
}

impl<T> Written<Option<T>> {
    pub(super) fn transpose(self) -> Option<Written<T>> {
        let Self { value, effect } = self;
        value.map(|value| Written { value, effect })
    }
}

impl Once<Outcome> {
    /// Returns how the attempt ends if this is its only effect.
    pub(super) fn outcome(self, attempt: &Attempt<'_>) -> Outcome {
        match self {
            Self::Now(Written { value, effect }) => value.with_effects(effect),
            Self::Before { event_id } if event_id == attempt.event.id => Outcome::done(),
            Self::Before { .. } => Outcome::skipped(SkipReason::Duplicate),
        }
    }
}

impl WriteError {
    /// Classifies a failure of the call or transaction that writes the effect.
    pub(super) fn of_write(error: HandlerError) -> Self {
        let may_be_made = match &error {
            HandlerError::Store(_) => true,
            HandlerError::Destination { error, .. } => error.may_have_taken_effect(),
            HandlerError::Wait { .. } | HandlerError::TryAgain { .. } | HandlerError::GiveUp { .. } => false,
        };
        if may_be_made { Self::InDoubt(error) } else { Self::NotMade(error) }
    }

    /// For a store that failed after the write.
    pub(super) fn in_doubt(error: StoreError) -> Self {
        Self::InDoubt(error.into())
    }
}

impl From<HandlerError> for WriteError {
    fn from(error: HandlerError) -> Self {
        Self::NotMade(error)
    }
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::NotMade(error.into())
    }
}

impl From<WriteError> for HandlerError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NotMade(error) | WriteError::InDoubt(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use hookline_common::names::Destination;
    use hookline_common::secret::Secret;
    use hookline_common::testing::events::an_event;
    use hookline_store::{Location, StoreOptions};

    use super::*;
    use crate::calls::log::CallLog;
    use crate::destinations::error::DestinationError;

    /// An effect's target and key.
    const NOTE: (&str, &str) = ("system_of_record", "message 1");

    /// Returns the next claim of a note after a write under the first claim ended like this.
    async fn next_claim(end: impl FnOnce(OurClaim) -> Result<Written<()>, WriteError>) -> Claim {
        let dir = tempfile::tempdir().expect("a directory");
        let options = StoreOptions {
            location: Location::Sqlite(dir.path().to_owned()),
            ledger_key: Secret::new("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
        };
        let store = Store::open(options).await.expect("the store opens");
        let by_calls = Effects::by_calls(store.clone(), HandlerName::LogNote, Duration::from_secs(60));
        let effects = Effects { settle_after: Duration::ZERO, ..by_calls };
        let (event, calls) = (an_event("message.received"), CallLog::default());
        let attempt = Attempt { event: &event, owner: "one", calls: &calls, first_claim: None };

        if let Ok(Once::Now(Written { effect: Some(effect), .. })) =
            effects.once(&attempt, NOTE, "busy", async |claim| end(claim)).await
        {
            store.note_completed(effect).await.expect("the store answers");
        }
        store.claim(&effects.request(&event, "another", NOTE)).await.expect("the store answers")
    }

    fn failed(error: DestinationError) -> WriteError {
        WriteError::of_write(HandlerError::Destination { destination: Destination::SystemOfRecord, error })
    }

    #[tokio::test]
    async fn a_claim_ends_by_what_became_of_the_write() {
        let detail = String::new;
        assert!(matches!(next_claim(|_| Ok(Written::nothing(()))).await, Claim::Fresh(_)));
        let not_sent = DestinationError::NotSent { detail: detail() };
        assert!(matches!(next_claim(|_| Err(failed(not_sent))).await, Claim::Fresh(_)));
        let no_answer = DestinationError::NoAnswer { detail: detail() };
        assert!(matches!(next_claim(|_| Err(failed(no_answer))).await, Claim::AfterUnknown { .. }));
        // A failure before the write leaves nothing in doubt.
        let read = HandlerError::textus(DestinationError::NoAnswer { detail: detail() });
        assert!(matches!(next_claim(|_| Err(read.into())).await, Claim::Fresh(_)));
        // If the store heard nothing of a write, its outcome is found out after the lease.
        let unheard = StoreError::Unavailable("away".to_owned());
        assert!(matches!(next_claim(|_| Err(WriteError::of_write(unheard.into()))).await, Claim::Wait { .. }));
        let made = next_claim(|claim| Ok(claim.made((), Some("note 1")))).await;
        assert!(matches!(made, Claim::Done { remote_id: Some(id), .. } if id == "note 1"));
    }
}
