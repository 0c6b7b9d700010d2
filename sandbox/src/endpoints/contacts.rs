//! The Contacts API, with the phones and notes of contacts. <https://apidocs.next.textus.com/docs/contacts/index>,
//! <https://apidocs.next.textus.com/docs/contact_phones/index/>

use jiff::Timestamp;
use serde_json::{Value, json};

use super::contact_body::ContactBody;
use super::pages;
use crate::answer::Answer;
use crate::ledger::EffectKind;
use crate::model::{Contact, ContactPhone, Note, fresh_slug};
use crate::options::Related;
use crate::shapes::{self, ContactForm};
use crate::state::{Call, State};
use crate::webhooks;

/// Creates a contact even if one with this phone exists, because the vendor documents no uniqueness.
pub(super) fn create(state: &mut State, call: &Call<'_>) -> Answer {
    let body = match ContactBody::read(&call.body) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let account = call.account();
    let phones = body.phones.unwrap_or_default();
    if let Some(refusal) = taken(state, account, &phones, None) {
        return refusal;
    }
    let contact = Contact {
        slug: fresh_slug(),
        account: account.to_owned(),
        name: body.name,
        phones,
        data: body.data.unwrap_or_else(|| json!({})),
        notes: Vec::new(),
        created_at: Timestamp::now(),
    };
    let key = contact.phones.first().map(|phone| phone.number.clone()).or_else(|| contact.name.clone());
    state.record_effect(call, account, EffectKind::ContactCreated, key.unwrap_or_default());
    state.world.put_contact(contact.clone());
    let at = state.now();
    state.echo("contact.created", || webhooks::contact_created("contact.created", &contact, at));
    written(state, &contact)
}

/// Updates a contact. If the body has phones, they replace all previous ones; whether TextUs keeps the ones left out is
/// not documented.
pub(super) fn update(state: &mut State, call: &Call<'_>) -> Answer {
    let Some(mut contact) = state.world.contact(&call.route.parameter).cloned() else { return Answer::absent() };
    let body = match ContactBody::read(&call.body) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    if let Some(phones) = body.phones {
        if let Some(refusal) = taken(state, &contact.account, &phones, Some(&contact.slug)) {
            return refusal;
        }
        contact.phones = phones;
    }
    contact.name = body.name.or(contact.name);
    contact.data = body.data.unwrap_or(contact.data);
    state.record_effect(call, &contact.account, EffectKind::ContactUpdated, contact.slug.clone());
    state.world.put_contact(contact.clone());
    written(state, &contact)
}

pub(super) fn get(state: &State, call: &Call<'_>) -> Answer {
    state.world.contact(&call.route.parameter).map_or_else(Answer::absent, |contact| written(state, contact))
}

pub(super) fn list(state: &State, call: &Call<'_>) -> Answer {
    let members = state
        .world
        .contacts_of(call.account())
        .map(|contact| with_links(state, contact, shapes::contact(contact, ContactForm::Related)))
        .collect();
    pages::page(state, call, members)
}

pub(super) fn phones(state: &State, call: &Call<'_>) -> Answer {
    let contact = state.world.contact(&call.route.parameter);
    contact.map_or_else(Answer::absent, |contact| Answer::resource(200, shapes::phones(contact)))
}

/// Finds phones by `q`, which matches part of a name, in any case, or part of a number.
pub(super) fn find_phones(state: &State, call: &Call<'_>) -> Answer {
    let q = call.query("q").unwrap_or_default().trim().to_lowercase();
    let as_digits: Option<String> = q
        .chars()
        .all(|c| c.is_ascii_digit() || " +-().".contains(c))
        .then(|| q.chars().filter(char::is_ascii_digit).collect());
    let matches = |contact: &Contact, phone: &ContactPhone| match as_digits.as_deref() {
        Some(digits) => phone.number.contains(digits),
        None => contact.name.as_ref().is_some_and(|name| name.to_lowercase().contains(&q)),
    };
    let members = state
        .world
        .contacts_of(call.account())
        .flat_map(|contact| contact.phones.iter().map(move |phone| (contact, phone)))
        .filter(|(contact, phone)| matches(contact, phone))
        .map(|(contact, phone)| shapes::recipient_contact_phone(contact, phone, state.options.related))
        .collect();
    pages::page(state, call, members)
}

pub(super) fn notes(state: &State, call: &Call<'_>) -> Answer {
    let contact = state.world.contact(&call.route.parameter);
    contact.map_or_else(Answer::absent, |contact| Answer::resource(200, shapes::notes(contact)))
}

/// Adds a note: <https://apidocs.next.textus.com/docs/contact_notes/create/>
pub(super) fn create_note(state: &mut State, call: &Call<'_>) -> Answer {
    let content = call.body.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("content"));
    let Some(content) = content.and_then(Value::as_str) else {
        return Answer::improper(400, "a note has content only, a string");
    };
    let Some(contact) = state.world.contact_mut(&call.route.parameter) else { return Answer::absent() };
    let note = Note { slug: fresh_slug(), content: content.to_owned(), created_at: Timestamp::now() };
    contact.notes.push(note.clone());
    let (account, key) = (contact.account.clone(), format!("{} {content}", contact.slug));
    let answer = Answer::resource(201, shapes::note(contact, &note));
    state.record_effect(call, &account, EffectKind::NoteCreated, key);
    answer
}

/// Refuses a number that another contact of the account has, if the options ask for that.
fn taken(state: &State, account: &str, phones: &[ContactPhone], own: Option<&str>) -> Option<Answer> {
    let has_another = |phone: &ContactPhone| {
        let holders = state.world.contacts_with_phone(account, &phone.number);
        holders.into_iter().any(|holder| own != Some(holder.slug.as_str()))
    };
    (state.options.unique_phones && phones.iter().any(has_another))
        .then(|| Answer::invalid("Validation failed: Phone has already been taken"))
}

/// A contact as the answer to its own create, update or read.
fn written(state: &State, contact: &Contact) -> Answer {
    Answer::resource(200, with_links(state, contact, shapes::contact(contact, ContactForm::Whole)))
}

fn with_links(state: &State, contact: &Contact, mut value: Value) -> Value {
    if state.options.related == Related::Links {
        value["phones"] = json!(format!("/contacts/{}/phones", contact.slug));
        value["notes"] = json!(format!("/contacts/{}/notes", contact.slug));
    }
    value
}
