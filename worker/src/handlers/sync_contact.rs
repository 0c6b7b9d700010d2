//! Creates or links the person in the system of record when a contact is created in TextUs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::{Destination, HandlerName, OperationClass, SkipReason};
use hookline_common::phone::Phone;
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Claim, ClaimToken, PersonFacts};

use super::create_contact::{contact_payload, details_of};
use super::log_note::{lost_claim, settle_claim};
use super::{Clients, Leases, soon};
use crate::delivery::handler::{Attempt, Handler, HandlerError, Outcome};
use crate::gate::Gate;
use crate::records::{Person, SystemOfRecord};
use crate::textus::client::TextUs;
use crate::textus::payload::{ContactPayload, PhonesRef};

const NAME: HandlerName = HandlerName::SyncContact;

pub(super) struct SyncContact {
    store: Store,
    textus: TextUs,
    records: Arc<dyn SystemOfRecord>,
    leases: Leases,
}

impl SyncContact {
    pub(super) fn new(settings: &Settings, clients: &Clients) -> Self {
        Self {
            store: clients.store.clone(),
            textus: clients.textus.clone(),
            records: Arc::clone(&clients.records),
            leases: Leases::for_records(settings.textus.timeout, clients.records.as_ref()),
        }
    }

    async fn claim(&self, attempt: &Attempt<'_>, effect_key: &str) -> Result<Claimed, HandlerError> {
        let claim = self.leases.claim(NAME, Destination::SystemOfRecord.as_str(), effect_key, attempt);
        match self.store.claim(&claim).await? {
            Claim::Fresh(token) | Claim::AfterUnknown { token, .. } => Ok(Claimed::Ours(token)),
            Claim::Done { event_id, .. } if event_id == attempt.event.id => Ok(Claimed::Ended(Outcome::Done)),
            Claim::Done { .. } => Ok(Claimed::Ended(Outcome::Skipped(SkipReason::Duplicate))),
            Claim::Wait { until } => {
                Err(HandlerError::Wait { until: soon(until), why: "another delivery is syncing this contact" })
            }
        }
    }

    /// The effect key for a contact that was synced before and whose payload names numbers that its person does not
    /// have; `None` where it tells nothing new. A repeat is not worth a call: numbers that are elsewhere are left there.
    async fn news(&self, attempt: &Attempt<'_>, payload: &ContactPayload) -> Result<Option<String>, HandlerError> {
        let PhonesRef::Known(numbers) = &payload.phones else { return Ok(None) };
        let people = self.records.find_people(attempt, Some(&payload.raw_id), None).await?;
        let is_known = |phone: &Phone| people.iter().any(|person| person.phones.contains(phone));
        let mut unknown: Vec<&str> =
            numbers.usable.iter().filter(|(phone, _)| !is_known(phone)).map(|(phone, _)| phone.as_e164()).collect();
        unknown.sort_unstable();
        // A person who is no longer there was erased, and is not made anew by a repeat.
        Ok((!people.is_empty() && !unknown.is_empty()).then(|| format!("{} {}", payload.raw_id, unknown.join(" "))))
    }

    async fn write(
        &self,
        attempt: &Attempt<'_>,
        payload: &ContactPayload,
        token: &ClaimToken,
    ) -> Result<Outcome, HandlerError> {
        let details = details_of(&self.textus, attempt, payload).await?;
        let facts = PersonFacts {
            contact_id: Some(payload.raw_id.clone()),
            phones: details.numbers.usable.iter().map(|(phone, _)| phone.clone()).collect(),
            name: details.name,
        };
        for phone in &facts.phones {
            if self.store.contact_in_doubt(phone, &attempt.event.id).await? {
                let until = soon(Timestamp::now().plus(Duration::from_secs(1)));
                return Err(HandlerError::Wait {
                    until,
                    why: "this may be the echo of a POST that is not answered yet",
                });
            }
        }
        // Again: the answer may have come in between.
        if self.store.created_by_us(&payload.raw_id).await? {
            self.store.release(token).await?;
            return Ok(Outcome::Skipped(SkipReason::Echo));
        }
        if !self.store.still_mine(token, self.leases.lease).await? {
            return Err(lost_claim());
        }
        // An upsert needs no look before it: by contact id and phone it meets the person it made.
        let upserted = self.records.upsert_person(attempt, &facts).await?;
        apply_opt_state(&self.store, self.records.as_ref(), attempt, &upserted.person).await?;
        self.store.effect_done(token, Some(&upserted.person.id.0)).await?;
        Ok(if upserted.changed { Outcome::Done } else { Outcome::Skipped(SkipReason::Unchanged) })
    }
}

/// Whose effect it is.
enum Claimed {
    Ours(ClaimToken),
    Ended(Outcome),
}

/// A number that opted out before its person was in the system of record, or before it was known to be theirs, gets its
/// flag with the record. The state is read after the record is written: whoever changes the state afterwards finds the
/// record.
pub(super) async fn apply_opt_state(
    store: &Store,
    records: &dyn SystemOfRecord,
    attempt: &Attempt<'_>,
    person: &Person,
) -> Result<(), HandlerError> {
    for phone in &person.phones {
        if let Some((true, at)) = store.newest_state(phone).await? {
            records.set_opt_out(attempt, &person.id, phone, true, at).await?;
        }
    }
    Ok(())
}

#[async_trait]
impl Handler for SyncContact {
    fn name(&self) -> HandlerName {
        NAME
    }

    fn gates(&self) -> Vec<(Arc<Gate>, &'static [OperationClass])> {
        // TextUs is asked only for what a payload leaves out: its trouble must not hold the others up.
        Vec::new()
    }

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, HandlerError> {
        let payload = contact_payload(attempt)?;
        if self.store.created_by_us(&payload.raw_id).await? {
            // The person was synced by the event that made us create this contact.
            return Ok(Outcome::Skipped(SkipReason::Echo));
        }
        let token = match self.claim(attempt, &payload.raw_id).await? {
            Claimed::Ours(token) => token,
            Claimed::Ended(outcome @ Outcome::Done) => return Ok(outcome),
            // The contact is there. What a later event says of its numbers may be news.
            Claimed::Ended(outcome) => match self.news(attempt, &payload).await? {
                None => return Ok(outcome),
                Some(effect_key) => match self.claim(attempt, &effect_key).await? {
                    Claimed::Ours(token) => token,
                    Claimed::Ended(outcome) => return Ok(outcome),
                },
            },
        };
        let result = self.write(attempt, &payload, &token).await;
        if let Err(error) = &result {
            settle_claim(&self.store, &token, error).await?;
        }
        result
    }
}
