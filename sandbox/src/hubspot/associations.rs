//! Associations between contacts and what stands on their timelines.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::account::Account;
use super::api::Call;
use super::object::HubSpotObject;
use super::record::now;
use super::route::Version;
use super::{error, write};
use crate::answer::Answer;

/// A page has at most this many associations.
const MAX_PAGE: usize = 500;

/// Reads the `associations` of a create: the contacts on whose timelines the record will stand, and the fault in it that
/// HubSpot accepts. A wrong type id succeeds and leaves the record on nobody's timeline.
/// <https://github.com/HubSpot/hubspot-api-nodejs/issues/342>
pub(crate) fn in_create(
    account: &Account,
    object: HubSpotObject,
    associations: &[Value],
) -> Result<(BTreeSet<u64>, Option<String>), Answer> {
    let (mut contacts, mut violation) = (BTreeSet::new(), None);
    for association in associations {
        let fields = write::object_of(association, &["to", "types"])?;
        let to = write::object_of(fields.get("to").unwrap_or(&Value::Null), &["id"])?;
        let id = to.get("id").and_then(id_text).ok_or_else(|| error::improper(400, "to.id is required"))?;
        let types = write::members_of(fields, "types")?;
        if types.is_empty() {
            return Err(error::improper(400, "types is empty"));
        }
        let wrong = wrong_type(object.type_to_contact(), types)?;
        if wrong.is_some() {
            violation = wrong;
            continue;
        }
        let found = account.find(HubSpotObject::Contact, &id).ok_or_else(|| absent(account, &id))?;
        contacts.insert(found);
    }
    Ok((contacts, violation))
}

/// Checks the form of association types, and returns what is wrong with them if none is the one to a contact.
fn wrong_type(right: Option<u64>, types: &[Value]) -> Result<Option<String>, Answer> {
    let mut ids = Vec::new();
    for one in types {
        let fields = write::object_of(one, &["associationCategory", "associationTypeId"])?;
        let category = write::text_of(fields, "associationCategory")?;
        if !["HUBSPOT_DEFINED", "USER_DEFINED", "INTEGRATOR_DEFINED"].contains(&category) {
            return Err(error::improper(400, format!("there is no associationCategory {category}")));
        }
        let id = fields.get("associationTypeId").and_then(Value::as_u64);
        let id = id.ok_or_else(|| error::improper(400, "associationTypeId is required, as a number"))?;
        ids.push((category == "HUBSPOT_DEFINED").then_some(id));
    }
    let is_right = right.is_some_and(|right| ids.contains(&Some(right)));
    Ok((!is_right).then(|| format!("association types {ids:?} lead to no contact: an orphan")))
}

/// Answers an association with a contact that doesn't exist, or no longer.
fn absent(account: &Account, id: &str) -> Answer {
    let message = format!("Invalid object ids provided: CONTACT=[{id}] are not valid");
    error::refused(account.options.absent_associate_status, "VALIDATION_ERROR", message)
}

/// The record and the contact of an association, whichever the path names first.
struct Pair {
    record: u64,
    contact: u64,
}

fn pair(account: &Account, (from, to): (HubSpotObject, HubSpotObject), call: &Call) -> Result<Pair, Answer> {
    let (object, record, contact) = match (from, to) {
        (HubSpotObject::Contact, HubSpotObject::Communication | HubSpotObject::Note) => {
            (to, call.route.other_id(), call.route.id())
        }
        (HubSpotObject::Communication | HubSpotObject::Note, HubSpotObject::Contact) => {
            (from, call.route.id(), call.route.other_id())
        }
        _ => return Err(error::improper(400, format!("the stand-in has no association from {from} to {to}"))),
    };
    let record = account.find(object, record).ok_or_else(error::absent)?;
    let contact = account.find(HubSpotObject::Contact, contact).ok_or_else(|| absent(account, contact))?;
    Ok(Pair { record, contact })
}

/// Makes the default association. A repeat changes nothing.
pub(crate) fn associate(
    account: &mut Account,
    kinds: (HubSpotObject, HubSpotObject),
    call: &Call,
) -> Result<Answer, Answer> {
    call.takes_only(&[])?;
    let pair = pair(account, kinds, call)?;
    put(account, &pair);
    let object = if kinds.0 == HubSpotObject::Contact { kinds.1 } else { kinds.0 };
    let one = |from: u64, to: u64, type_id: Option<u64>| {
        json!({
            "from": { "id": from.to_string() },
            "to": { "id": to.to_string() },
            "associationSpec": { "associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_id },
        })
    };
    let now = now().to_string();
    let body = json!({
        "status": "COMPLETE",
        "results": [
            one(pair.record, pair.contact, object.type_to_contact()),
            one(pair.contact, pair.record, object.type_from_contact()),
        ],
        "startedAt": now,
        "completedAt": now,
    });
    Ok(error::answer(200, body))
}

fn put(account: &mut Account, pair: &Pair) {
    if let Some(record) = account.record_mut(pair.record) {
        record.contacts.insert(pair.contact);
        record.was_associated = true;
    }
}

/// Makes an association of the types in the body. A wrong type id succeeds here too, and associates nobody.
pub(crate) fn label(
    account: &mut Account,
    kinds: (HubSpotObject, HubSpotObject),
    call: &Call,
) -> Result<Answer, Answer> {
    call.takes_only(&[])?;
    let types = call.body.as_array().filter(|types| !types.is_empty());
    let types = types.ok_or_else(|| error::improper(400, "the body is not an array of association types"))?;
    let right = match kinds.0 {
        HubSpotObject::Contact => kinds.1.type_from_contact(),
        HubSpotObject::Communication | HubSpotObject::Note => kinds.0.type_to_contact(),
    };
    let violation = wrong_type(right, types)?;
    let pair = pair(account, kinds, call)?;
    if violation.is_none() {
        put(account, &pair);
    }
    let body = json!({
        "fromObjectTypeId": kinds.0.type_id(),
        "fromObjectId": call.route.id(),
        "toObjectTypeId": kinds.1.type_id(),
        "toObjectId": call.route.other_id(),
        "labels": [],
    });
    Ok(Answer { violation, ..error::answer(201, body) })
}

pub(crate) fn dissociate(
    account: &mut Account,
    kinds: (HubSpotObject, HubSpotObject),
    call: &Call,
) -> Result<Answer, Answer> {
    call.takes_only(&[])?;
    let pair = pair(account, kinds, call)?;
    if let Some(record) = account.record_mut(pair.record) {
        record.contacts.remove(&pair.contact);
    }
    Ok(Answer::bare(204))
}

/// Lists what a contact is associated with, or which contacts a record has, in pages. The ids are numbers in version 4
/// and texts in the dated versions, as their interface descriptions declare them.
pub(crate) fn list(
    account: &mut Account,
    (from, to): (HubSpotObject, HubSpotObject),
    call: &Call,
) -> Result<Answer, Answer> {
    call.takes_only(&["limit", "after"])?;
    let id = account.find(from, call.route.id()).ok_or_else(error::absent)?;
    let (type_id, others): (_, Vec<u64>) = match (from, to) {
        (HubSpotObject::Contact, HubSpotObject::Communication | HubSpotObject::Note) => {
            let associated = account.live(to).filter(|record| record.contacts.contains(&id));
            (to.type_from_contact(), associated.map(|record| record.id).collect())
        }
        (HubSpotObject::Communication | HubSpotObject::Note, HubSpotObject::Contact) => {
            let contacts = account.record(id).map(|record| record.contacts.iter().copied().collect());
            (from.type_to_contact(), contacts.unwrap_or_default())
        }
        _ => return Err(error::improper(400, format!("the stand-in has no association from {from} to {to}"))),
    };
    let limit = match call.query("limit") {
        None => MAX_PAGE,
        Some(limit) => limit
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_PAGE).contains(limit))
            .ok_or_else(|| error::improper(400, format!("limit is a number from 1 to {MAX_PAGE}")))?,
    };
    let size = limit.min(account.options.association_page_size.max(1));
    // The page begins after the association with this id, so one that is made meanwhile is neither lost nor shifted.
    let after = call.query("after").map(|after| page(account, after)).transpose()?.unwrap_or_default();
    let rest: Vec<u64> = others.into_iter().filter(|other| *other > after).collect();
    let is_numbered = call.route.version == Version::Numbered;
    let one = |other: &u64| {
        json!({
            "toObjectId": if is_numbered { json!(other) } else { json!(other.to_string()) },
            "associationTypes": [{ "category": "HUBSPOT_DEFINED", "typeId": type_id, "label": null }],
        })
    };
    let shown = &rest[..rest.len().min(size)];
    let mut body = json!({ "results": shown.iter().map(one).collect::<Vec<_>>() });
    if let Some(last) = shown.last().filter(|_| rest.len() > size) {
        account.pages.insert(last.to_string());
        body["paging"] = json!({ "next": { "after": last.to_string() } });
    }
    Ok(error::answer(200, body))
}

/// Reads an `after`. One that no answer has had is refused, because a client must not make one up.
pub(crate) fn page(account: &Account, after: &str) -> Result<u64, Answer> {
    let known = account.pages.contains(after).then(|| after.parse().ok()).flatten();
    known.ok_or_else(|| error::improper(400, format!("no answer had the after {after}")))
}

fn id_text(id: &Value) -> Option<String> {
    id.as_str().map(str::to_owned).or_else(|| id.as_u64().map(|id| id.to_string()))
}
