//! Creates, reads, changes and archives one record.

use std::collections::BTreeSet;

use super::account::{self, Account};
use super::api::Call;
use super::object::HubSpotObject;
use super::{associations, error, write};
use crate::answer::Answer;

pub(crate) fn create(account: &mut Account, object: HubSpotObject, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&[])?;
    let fields = write::object_of(&call.body, &["properties", "associations", "objectWriteTraceId"])?;
    let associations = write::members_of(fields, "associations")?;
    let properties = write::properties_of(account, object, fields)?;
    write::check_required(object, &properties)?;
    write::check_unique(account, object, None, &properties)?;
    let (contacts, violation) = associations::in_create(account, object, associations)?;

    let id = account.add(object, properties, contacts);
    let record = account.record_mut(id).expect("it was just added");
    record.touch();
    Ok(Answer { violation, ..error::answer(201, record.body(None)) })
}

pub(crate) fn get(account: &Account, object: HubSpotObject, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&["properties", "idProperty", "archived"])?;
    let id = named(account, object, call)?;
    let asked = call.asked_properties().unwrap_or_else(|| by_default(object));
    Ok(error::answer(200, account.record(id).ok_or_else(error::absent)?.body(Some(&asked))))
}

pub(crate) fn update(account: &mut Account, object: HubSpotObject, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&["idProperty"])?;
    let fields = write::object_of(&call.body, &["properties", "objectWriteTraceId"])?;
    let id = named(account, object, call)?;
    let properties = write::properties_of(account, object, fields)?;
    write::check_unique(account, object, Some(id), &properties)?;

    let record = account.record_mut(id).ok_or_else(error::absent)?;
    account::set(record, properties);
    record.touch();
    Ok(error::answer(200, record.body(None)))
}

/// Archives a record. A repeat is answered 404: the vendor's pages don't say, and this is harder on a client.
pub(crate) fn archive(account: &mut Account, object: HubSpotObject, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&[])?;
    let id = account.find(object, call.route.id()).ok_or_else(error::absent)?;
    account.archive(id);
    Ok(Answer::bare(204))
}

/// Returns the id of the record in the path, which `idProperty` may name by a unique property.
fn named(account: &Account, object: HubSpotObject, call: &Call) -> Result<u64, Answer> {
    let found = match call.query("idProperty") {
        None => account.find(object, call.route.id()),
        Some(property) => {
            check_id_property(account, object, property)?;
            account.find_by(object, property, call.route.id())
        }
    };
    found.ok_or_else(error::absent)
}

/// Checks that a record can be named by this property.
pub(crate) fn check_id_property(account: &Account, object: HubSpotObject, property: &str) -> Result<(), Answer> {
    if account.schema(object).is_unique(property) {
        return Ok(());
    }
    let message = format!("idProperty {property} is not a unique property of {object}");
    Err(error::refused(400, "VALIDATION_ERROR", message))
}

/// The properties that are answered where none are asked for; id and times come besides.
pub(crate) fn by_default(object: HubSpotObject) -> Vec<String> {
    let names: BTreeSet<&str> = match object {
        HubSpotObject::Contact => ["email", "firstname", "lastname"].into(),
        HubSpotObject::Communication | HubSpotObject::Note => BTreeSet::new(),
    };
    names.into_iter().map(str::to_owned).collect()
}
