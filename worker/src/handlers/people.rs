//! Writes people to the system of record, and the opt-out flags of their numbers.

use std::time::Duration;

use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{ConfirmedFlag, FlagConfirmation, PersonFacts};

use super::contact_locks::ContactLocks;
use crate::delivery::handler::{Attempt, HandlerError};
use crate::records::{FlagWrite, OptOutFlag, Person, SystemOfRecord, Upserted};

/// What a search said about a person before they are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A search has just found nobody.
    Nobody,
    /// Nobody searched, or somebody was found who lacks something.
    MayBe,
}

/// Creates or updates the person, and returns remarks on what was done. A number may have opted out before its person
/// was in the system of record, or before it was known to be theirs; its flag is then set along with the record. The
/// state is read after the record is written, so that whoever changes the state later finds the record.
pub(super) async fn upsert(
    store: &Store,
    records: &dyn SystemOfRecord,
    attempt: &Attempt<'_>,
    facts: &PersonFacts,
    (known, lease): (Known, Duration),
) -> Result<(Upserted, Vec<String>), HandlerError> {
    let upserted = upsert_locked(store, records, attempt, facts, (known, lease)).await?;
    let id = &upserted.person.id;
    let mut remarks = Vec::new();
    if upserted.created {
        remarks.push(format!("{id} created"));
    }
    for phone in &upserted.person.phones {
        if let Some(state) = newest_flag(store, phone).await?.filter(|state| state.opted_out) {
            remarks.extend(flag(store, records, attempt, &upserted.person, phone, state).await?);
        }
    }
    Ok((upserted, remarks))
}

/// Two processes must not create the same person, and the index of a CRM does not have a fresh person yet. So the
/// numbers are locked, and the person who was written is linked before the locks are given back.
async fn upsert_locked(
    store: &Store,
    records: &dyn SystemOfRecord,
    attempt: &Attempt<'_>,
    facts: &PersonFacts,
    (known, lease): (Known, Duration),
) -> Result<Upserted, HandlerError> {
    if records.gate().is_none() {
        // The transaction of the store takes locks of its own.
        return records.upsert_person(attempt, facts).await;
    }
    let locks = ContactLocks::new(store, (records.name(), attempt.owner), lease, &facts.phones);
    locks.take().await?;
    let upserted = match created_meanwhile(store, records, facts, known).await {
        Ok(Some(person)) => Ok(Upserted { person, created: false, changed: false }),
        Ok(None) => write_and_link(store, records, attempt, (facts, known)).await,
        Err(error) => Err(error),
    };
    match &upserted {
        // A person who may be there is not in the index yet.
        Err(HandlerError::Destination { error, .. }) if error.may_have_taken_effect() => {
            locks.keep(records.settle_after()).await?;
        }
        Ok(_) | Err(_) => locks.give_back().await?,
    }
    upserted
}

/// Returns the person whom another delivery created while this one waited for the locks.
async fn created_meanwhile(
    store: &Store,
    records: &dyn SystemOfRecord,
    facts: &PersonFacts,
    known: Known,
) -> Result<Option<Person>, HandlerError> {
    if known == Known::MayBe {
        return Ok(None);
    }
    let linked = store.linked_person(records.name(), facts.contact_id.as_deref(), facts.phones.first()).await?;
    Ok(linked.map(|id| Person::linked(id, facts.contact_id.clone(), facts.phones.clone())))
}

async fn write_and_link(
    store: &Store,
    records: &dyn SystemOfRecord,
    attempt: &Attempt<'_>,
    (facts, known): (&PersonFacts, Known),
) -> Result<Upserted, HandlerError> {
    let upserted = match known {
        Known::Nobody => records.create_person(attempt, facts).await?,
        Known::MayBe => records.upsert_person(attempt, facts).await?,
    };
    let id = upserted.person.id.0.as_str();
    if !id.is_empty() {
        store.link_person(records.name(), facts.contact_id.as_deref(), None, id).await?;
        for phone in &facts.phones {
            store.link_person(records.name(), None, Some(phone), id).await?;
        }
    }
    Ok(upserted)
}

/// Returns what is known of a number; `None` if nothing is.
pub(super) async fn newest_flag(store: &Store, phone: &Phone) -> Result<Option<OptOutFlag>, HandlerError> {
    let Some((opted_out, since)) = store.newest_state(phone).await? else { return Ok(None) };
    let [opted_out_at, opted_in_at] = store.opt_dates(phone).await?;
    Ok(Some(OptOutFlag { opted_out, since, opted_out_at, opted_in_at }))
}

/// Sets or clears the flag of one of the person's numbers. Returns a remark if something changed. News that came while the
/// flag was written are written too: another delivery may have been overtaken by this one.
pub(super) async fn flag(
    store: &Store,
    records: &dyn SystemOfRecord,
    attempt: &Attempt<'_>,
    person: &Person,
    phone: &Phone,
    state: OptOutFlag,
) -> Result<Option<String>, HandlerError> {
    const MOST_NEWS: usize = 3;
    let (mut state, mut remark) = (state, None);
    for _ in 0..MOST_NEWS {
        let written = records.set_opt_out(attempt, person, phone, &state).await?;
        if written == FlagWrite::Changed {
            let word = if state.opted_out { "opted out" } else { "opted in" };
            remark = Some(format!("{} flagged {word}", person.id));
        }
        if state.since > Timestamp::EPOCH {
            store.flag_confirmed(phone, confirmed(records, person, &state, written)).await?;
        }
        match newest_flag(store, phone).await? {
            Some(newest) if newest != state => state = newest,
            Some(_) | None => break,
        }
    }
    Ok(remark)
}

fn confirmed(records: &dyn SystemOfRecord, person: &Person, state: &OptOutFlag, written: FlagWrite) -> ConfirmedFlag {
    ConfirmedFlag {
        system: records.name().to_owned(),
        record_id: person.id.0.clone(),
        opted_out: state.opted_out,
        since: state.since,
        confirmation: match written {
            FlagWrite::Changed => FlagConfirmation::Written,
            FlagWrite::AsItWas => FlagConfirmation::Found,
            FlagWrite::NewerThere => FlagConfirmation::Newer,
        },
    }
}
