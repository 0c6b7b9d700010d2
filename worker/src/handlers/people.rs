//! Writes people to the system of record, and the opt-out flags of their numbers.

use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::PersonFacts;

use crate::delivery::handler::{Attempt, HandlerError};
use crate::records::{PersonId, SystemOfRecord, Upserted};

/// Creates or updates the person, and returns remarks on what was done. A number may have opted out before its person
/// was in the system of record, or before it was known to be theirs; its flag is then set along with the record. The
/// state is read after the record is written, so that whoever changes the state later finds the record.
pub(super) async fn upsert(
    store: &Store,
    records: &dyn SystemOfRecord,
    attempt: &Attempt<'_>,
    facts: &PersonFacts,
) -> Result<(Upserted, Vec<String>), HandlerError> {
    let upserted = records.upsert_person(attempt, facts).await?;
    let id = &upserted.person.id;
    let mut remarks = Vec::new();
    if upserted.created {
        remarks.push(format!("{} created", id.0));
    }
    for phone in &upserted.person.phones {
        if let Some((true, at)) = store.newest_state(phone).await? {
            remarks.extend(flag(records, attempt, (id, phone), true, at).await?);
        }
    }
    Ok((upserted, remarks))
}

/// Sets or clears the flag of one of the person's numbers. Returns a remark if something changed.
pub(super) async fn flag(
    records: &dyn SystemOfRecord,
    attempt: &Attempt<'_>,
    (person, phone): (&PersonId, &Phone),
    opted_out: bool,
    at: Timestamp,
) -> Result<Option<String>, HandlerError> {
    let changed = records.set_opt_out(attempt, person, phone, opted_out, at).await?;
    let state = if opted_out { "opted out" } else { "opted in" };
    Ok(changed.then(|| format!("{} flagged {state}", person.0)))
}
