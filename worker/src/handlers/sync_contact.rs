//! Creates or links the person in the system of record when a contact is created in TextUs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::{Destination, HandlerName, SkipReason};
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Claim, ClaimToken, PersonFacts};

use super::create_contact::{contact_payload, details_of};
use super::log_note::{lost_claim, settle_claim};
use super::{Clients, Leases, soon};
use crate::destinations::textus::client::TextUs;
use crate::gate::Gate;
use crate::handler::{Attempt, Handler, HandlerError, Outcome};
use crate::payload::ContactPayload;
use crate::records::{PersonId, SystemOfRecord};

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

    async fn write(
        &self,
        attempt: &Attempt<'_>,
        payload: &ContactPayload,
        token: &ClaimToken,
    ) -> Result<Outcome, HandlerError> {
        let details = details_of(&self.textus, attempt, payload).await?;
        let facts = PersonFacts {
            contact_id: Some(payload.raw_id.clone()),
            phone: details.numbers.usable.first().map(|(phone, _)| phone.clone()),
            name: details.name,
        };
        if let Some((phone, _)) = details.numbers.usable.first()
            && self.store.contact_in_doubt(phone, &attempt.event.id).await?
        {
            let until = soon(Timestamp::now().plus(Duration::from_secs(1)));
            return Err(HandlerError::Wait { until, why: "this may be the echo of a POST that is not answered yet" });
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
        apply_opt_state(&self.store, self.records.as_ref(), attempt, &upserted.person, &facts).await?;
        self.store.effect_done(token, Some(&upserted.person.0)).await?;
        Ok(if upserted.changed { Outcome::Done } else { Outcome::Skipped(SkipReason::Unchanged) })
    }
}

/// A person who opted out before they were in the system of record gets the flag with the record.
pub(super) async fn apply_opt_state(
    store: &Store,
    records: &dyn SystemOfRecord,
    attempt: &Attempt<'_>,
    person: &PersonId,
    facts: &PersonFacts,
) -> Result<(), HandlerError> {
    let Some(phone) = &facts.phone else { return Ok(()) };
    if let Some((true, at)) = store.newest_state(phone).await? {
        records.set_opt_out(attempt, person, phone, true, at).await?;
    }
    Ok(())
}

#[async_trait]
impl Handler for SyncContact {
    fn name(&self) -> HandlerName {
        NAME
    }

    fn gates(&self) -> Vec<Arc<Gate>> {
        // TextUs is asked only for what a payload leaves out: its trouble must not hold the others up.
        Vec::new()
    }

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, HandlerError> {
        let payload = contact_payload(attempt)?;
        if self.store.created_by_us(&payload.raw_id).await? {
            // The person was synced by the event that made us create this contact.
            return Ok(Outcome::Skipped(SkipReason::Echo));
        }
        let target = Destination::SystemOfRecord.as_str();
        let claim = self.leases.claim(NAME, target, &payload.raw_id, attempt);
        let token = match self.store.claim(&claim).await? {
            Claim::Fresh(token) | Claim::AfterUnknown { token, .. } => token,
            Claim::Done { event_id, .. } if event_id == attempt.event.id => return Ok(Outcome::Done),
            Claim::Done { .. } => return Ok(Outcome::Skipped(SkipReason::Duplicate)),
            Claim::Wait { until } => {
                return Err(HandlerError::Wait { until: soon(until), why: "another delivery is syncing this contact" });
            }
        };
        let result = self.write(attempt, &payload, &token).await;
        if let Err(error) = &result {
            settle_claim(&self.store, &token, error).await?;
        }
        result
    }
}
