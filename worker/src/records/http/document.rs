//! The documents. A document's bytes follow from what it states and nothing else: no clock, no counter, no order of
//! arrival. So a repeat of a write has the same id and the same body.
//!
//! The fields are structures, because the order of a JSON map's keys depends on how a program was built.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use hookline_common::note_text::Media;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::model::{PersonFacts, ThreadMessage};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::records::{NotePart, OPT_OUT_SOURCE, OptOutFlag, Person};

/// A document that is ready to be signed. It has no `Debug`, because it is personal data.
pub(super) struct Document {
    pub(super) id: String,
    pub(super) body: Bytes,
    /// Texts in it that must not appear in an error.
    pub(super) private: Vec<String>,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    r#type: &'a str,
    id: &'a str,
    timestamp: String,
    data: &'a T,
}

#[derive(Serialize)]
struct PeopleFind<'a> {
    contact_id: Option<&'a str>,
    phone: Option<&'a str>,
}

#[derive(Serialize)]
struct PersonUpserted<'a> {
    person: UnknownPerson<'a>,
}

/// A person whose id the receiver chooses, or finds.
#[derive(Serialize)]
struct UnknownPerson<'a> {
    contact_id: Option<&'a str>,
    phones: Vec<&'a str>,
    name: Option<&'a str>,
    /// What templates fill; left out where there are none, so that the document is the same as before there were templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct KnownPerson<'a> {
    id: Option<&'a str>,
    contact_id: Option<&'a str>,
    phones: Vec<&'a str>,
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct ThreadWritten<'a> {
    thread_id: &'a str,
    person: KnownPerson<'a>,
    account: &'a str,
    business_number: Option<&'a str>,
    day: &'a str,
    text: &'a str,
    messages: Vec<Message<'a>>,
    author: Option<&'a str>,
}

#[derive(Serialize)]
struct Message<'a> {
    message_id: &'a str,
    direction: &'static str,
    outcome: &'static str,
    body: &'a str,
    author: Option<&'a str>,
    media: &'a [Media],
    occurred_at: String,
}

#[derive(Serialize)]
struct OptOutChanged<'a> {
    person: KnownPerson<'a>,
    phone: &'a str,
    opted_out: bool,
    opted_out_at: Option<String>,
    opted_in_at: Option<String>,
    source: &'static str,
}

impl Document {
    /// Asks who has this contact id or number. `asked_at` is part of the document, because a question is asked anew each
    /// time: a receiver that recognises documents by their id must not take it for the one before.
    pub(super) fn people_find(contact_id: Option<&str>, phone: Option<&str>, asked_at: Timestamp) -> Self {
        let data = PeopleFind { contact_id: stated(contact_id), phone };
        Self::new("people.find", asked_at, &data, Vec::new())
    }

    /// Tells of a person whom the receiver creates or completes. `at` is the time of the event that told of them.
    pub(super) fn person_upserted(facts: &PersonFacts, fields: BTreeMap<String, String>, at: Timestamp) -> Self {
        let private = facts.name.iter().chain(fields.values()).cloned().collect();
        let person = UnknownPerson {
            contact_id: stated(facts.contact_id.as_deref()),
            phones: facts.phones.iter().map(Phone::as_e164).collect(),
            name: stated(facts.name.as_deref()),
            fields,
        };
        Self::new("person.upserted", at, &PersonUpserted { person }, private)
    }

    /// Tells of a thread's note. Of the person only the id is taken from a look-up: name and numbers are known at one
    /// write and not at the next, when a link has spared the look-up, and a repeat must have the same body.
    pub(super) fn thread_written(person: &Person, part: &NotePart<'_>) -> Self {
        let thread = part.thread;
        let id = stated(Some(&person.id.0));
        let contact_id = match id {
            Some(_) => thread.contact_id.as_deref(),
            // Nothing but the contact's id tells whose thread this is.
            None => thread.contact_id.as_deref().or(person.contact_id.as_deref()),
        };
        let first = thread.messages.iter().find(|message| !message.is_inbound);
        let data = ThreadWritten {
            thread_id: part.key,
            person: KnownPerson {
                id,
                contact_id: stated(contact_id),
                phones: thread.phone.as_deref().into_iter().collect(),
                name: None,
            },
            account: &thread.account,
            business_number: stated(thread.business_number.as_deref()),
            day: &thread.day,
            text: part.text,
            messages: thread.messages.iter().map(Message::of).collect(),
            author: first.and_then(|message| stated(message.author.as_deref())),
        };
        // The time of the newest message rises with each message that comes, so that a receiver can tell an older document
        // that comes late.
        let newest = thread.messages.iter().map(|message| message.occurred_at).max().unwrap_or(Timestamp::EPOCH);
        let texts = thread
            .messages
            .iter()
            .flat_map(|message| [Some(message.body.clone()), message.author.clone(), message.author_email.clone()]);
        let private = texts.flatten().chain([part.text.to_owned()]).collect();
        Self::new("thread.written", newest, &data, private)
    }

    /// Tells of the opt-out state of one number.
    pub(super) fn opt_out_changed(person: &Person, phone: &Phone, flag: &OptOutFlag) -> Self {
        let data = OptOutChanged {
            person: KnownPerson {
                id: stated(Some(&person.id.0)),
                contact_id: stated(person.contact_id.as_deref()),
                phones: person.phones.iter().map(Phone::as_e164).collect(),
                name: stated(person.name.as_deref()),
            },
            phone: phone.as_e164(),
            opted_out: flag.opted_out,
            opted_out_at: flag.opted_out_at.map(|at| at.to_string()),
            opted_in_at: flag.opted_in_at.map(|at| at.to_string()),
            source: OPT_OUT_SOURCE,
        };
        Self::new("opt_out.changed", flag.since, &data, person.name.iter().cloned().collect())
    }

    fn new(kind: &str, timestamp: Timestamp, data: &impl Serialize, private: Vec<String>) -> Self {
        let timestamp = timestamp.to_string();
        let unnamed = Envelope { r#type: kind, id: "", timestamp: timestamp.clone(), data };
        let hash = Sha256::digest(json(&unnamed));
        let id = hash.iter().take(16).fold("doc_".to_owned(), |id, byte| format!("{id}{byte:02x}"));
        let body = json(&Envelope { r#type: kind, id: &id, timestamp, data });
        Self { id, body: body.into(), private }
    }
}

impl<'a> Message<'a> {
    fn of(message: &'a ThreadMessage) -> Self {
        Self {
            message_id: &message.message_id,
            direction: if message.is_inbound { "inbound" } else { "outbound" },
            outcome: message.outcome.as_str(),
            body: &message.body,
            author: stated(message.author.as_deref()),
            media: &message.media,
            occurred_at: message.occurred_at.to_string(),
        }
    }
}

/// Returns the time, or a little more: no two questions of one process have the same.
pub(super) fn a_moment() -> Timestamp {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = Timestamp::now().as_millis();
    let before = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
    let before = before.unwrap_or_else(|last| last);
    Timestamp::from_millis(now.max(before + 1))
}

/// What is absent is `null`, never an empty text.
fn stated(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// Structures of texts, numbers and lists always have a JSON form.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
