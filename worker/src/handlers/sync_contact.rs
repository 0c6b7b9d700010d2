//! Creates or links the person in the system of record when a contact is created in TextUs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::{HandlerName, OperationClass, SkipReason};
use hookline_common::phone::Phone;
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Ending, PersonFacts};

use super::create_contact::{contact_payload, details_of};
use super::effects::{Effects, OurClaim, WriteError, Written};
use super::people::Known;
use super::{Clients, people, soon};
use crate::delivery::handler::{Attempt, Failure, Handler, HandlerError, Outcome};
use crate::gate::Gate;
use crate::records::{self, SystemOfRecord};
use crate::textus::client::TextUs;
use crate::textus::payload::{ContactPayload, PhonesRef};

const NAME: HandlerName = HandlerName::SyncContact;

pub(super) struct SyncContact {
    store: Store,
    textus: TextUs,
    records: Arc<dyn SystemOfRecord>,
    effects: Effects,
}

impl SyncContact {
    pub(super) fn new(settings: &Settings, clients: &Clients) -> Self {
        let records = clients.records.as_ref();
        Self {
            store: clients.store.clone(),
            textus: clients.textus.clone(),
            records: Arc::clone(&clients.records),
            effects: Effects::in_records(clients.store.clone(), NAME, settings.textus.timeout, records),
        }
    }

    async fn sync(
        &self,
        attempt: &Attempt<'_>,
        payload: &ContactPayload,
        effect_key: &str,
    ) -> Result<Outcome, HandlerError> {
        let effect = (self.records.name(), effect_key);
        let write = |claim| self.write(attempt, payload, claim);
        let once = self.effects.once(attempt, effect, "another delivery is syncing this contact", write).await?;
        Ok(once.outcome(attempt))
    }

    /// Returns the effect key for news about a contact that was synced before: its payload names numbers that its
    /// person lacks. `None` if there is no news. A repeat isn't worth a call, so numbers that aren't in the payload are
    /// not fetched.
    async fn news(&self, attempt: &Attempt<'_>, payload: &ContactPayload) -> Result<Option<String>, HandlerError> {
        let PhonesRef::Known(numbers) = &payload.phones else { return Ok(None) };
        let people = self.records.find_people(attempt, Some(&payload.raw_id), None).await?;
        let is_known = |phone: &Phone| people.iter().any(|person| person.phones.contains(phone));
        let mut unknown: Vec<&str> =
            numbers.usable.iter().filter(|(phone, _)| !is_known(phone)).map(|(phone, _)| phone.as_e164()).collect();
        unknown.sort_unstable();
        // A person who is gone was erased; a repeat must not create them again.
        Ok((!people.is_empty() && !unknown.is_empty()).then(|| format!("{} {}", payload.raw_id, unknown.join(" "))))
    }

    async fn write(
        &self,
        attempt: &Attempt<'_>,
        payload: &ContactPayload,
        claim: OurClaim,
    ) -> Result<Written<Outcome>, WriteError> {
        let details = details_of(&self.textus, attempt, payload).await?;
        let remark = details.remark();
        let facts = PersonFacts {
            contact_id: Some(payload.raw_id.clone()),
            phones: details.numbers.usable.iter().map(|(phone, _)| phone.clone()).collect(),
            name: details.name,
        };
        for phone in &facts.phones {
            if self.store.contact_in_doubt(phone, &attempt.event.id).await? {
                let until = soon(Timestamp::now().plus(Duration::from_secs(1)));
                let why = "this may be the echo of a POST that is not answered yet";
                return Err(HandlerError::Wait { until, why }.into());
            }
        }
        // Check again: the answer may have come in between.
        if self.store.created_by_us(&payload.raw_id).await? {
            return Ok(Written::nothing(Outcome::skipped(SkipReason::Echo).with_remarks(remark)));
        }
        self.effects.begin_write(&claim).await?;
        // An upsert needs no look-up first: by contact id and phone it finds the person that it created.
        let upserted =
            people::upsert(&self.store, self.records.as_ref(), attempt, &facts, (Known::MayBe, self.effects.lease))
                .await;
        let (upserted, remarks) = upserted.map_err(WriteError::of_write)?;
        let outcome = if upserted.changed { Outcome::done() } else { Outcome::skipped(SkipReason::Unchanged) };
        Ok(claim.made(outcome.with_remarks(remark).with_remarks(remarks), Some(&upserted.person.id.0)))
    }
}

#[async_trait]
impl Handler for SyncContact {
    fn name(&self) -> HandlerName {
        NAME
    }

    fn gates(&self) -> Vec<(Arc<Gate>, &'static [OperationClass])> {
        // This handler calls TextUs only for what a payload leaves out. Trouble there must not hold up the other
        // deliveries.
        records::gates(self.records.as_ref(), &[OperationClass::ContactWrites])
    }

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, Failure> {
        let payload = contact_payload(attempt)?;
        if self.store.created_by_us(&payload.raw_id).await? {
            // The event that made us create this contact also synced the person.
            return Ok(Outcome::skipped(SkipReason::Echo));
        }
        let outcome = self.sync(attempt, &payload, &payload.raw_id).await?;
        if outcome.ending != Ending::Skipped(SkipReason::Duplicate) {
            return Ok(outcome);
        }
        // The contact is there. A later event may still bring new numbers.
        match self.news(attempt, &payload).await? {
            None => Ok(outcome),
            Some(effect_key) => Ok(self.sync(attempt, &payload, &effect_key).await?),
        }
    }
}
