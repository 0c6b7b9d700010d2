//! What the receiver has taken, and how it answers the next document.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use hyper::http::request::Parts;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::document::{Document, DocumentType};
use super::options::ReceiverOptions;
use super::signature;
use crate::answer::Answer;
use crate::fault_rule::AnyEndpoint;
use crate::stand_in::{Admission, Api, JSON};
use crate::state::the_only;

/// A person as the receiver knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    pub id: String,
    /// TextUs's id of the contact.
    pub contact_id: Option<String>,
    /// Numbers in E.164.
    pub phones: Vec<String>,
    pub name: Option<String>,
}

/// A thread as its newest document wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub thread_id: String,
    pub text: String,
    /// The document's whole `data`.
    pub data: Value,
    /// How many different documents have written this thread.
    pub writes: usize,
}

/// The newest news about a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptOutState {
    /// The number in E.164. `None` if the news named only a person.
    pub phone: Option<String>,
    pub opted_out: bool,
    /// The document's whole `data`.
    pub data: Value,
}

#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) options: ReceiverOptions,
    pub(crate) documents: Vec<Document>,
    /// The answer to each document in `documents`, for repeats.
    answers: HashMap<String, Value>,
    /// The hash of each body that was signed, by `webhook-id`, taken or not.
    bodies: HashMap<String, [u8; 32]>,
    pub(crate) people: Vec<Person>,
    pub(crate) threads: BTreeMap<String, Thread>,
    pub(crate) opt_outs: Vec<OptOutState>,
}

impl Inbox {
    pub(crate) fn new(options: ReceiverOptions) -> Self {
        Self {
            options,
            documents: Vec::new(),
            answers: HashMap::new(),
            bodies: HashMap::new(),
            people: Vec::new(),
            threads: BTreeMap::new(),
            opt_outs: Vec::new(),
        }
    }

    fn verified(&self, head: &Parts, body: &Bytes) -> Result<String, &'static str> {
        signature::verify(&head.headers, body, &self.options.secrets, self.options.tolerance)
    }

    /// Reads and checks one request to the path of the documents.
    fn read(&self, head: &Parts, body: &Bytes) -> Result<Document, Answer> {
        let id = self.verified(head, body).map_err(|what| improper(401, what))?;
        let media_type = the_only(&head.headers, &CONTENT_TYPE).and_then(|value| value.split(';').next());
        if media_type.map(str::trim) != Some(JSON) {
            return Err(improper(415, format!("Content-Type must be {JSON}")));
        }
        if self.bodies.get(&id).is_some_and(|known| *known != hash(body)) {
            // `see` has recorded the violation.
            return Err(Answer { violation: None, ..improper(400, "the webhook-id came with another body before") });
        }
        let document = Document::read(body).map_err(|what| improper(400, what))?;
        if document.id != id {
            return Err(improper(400, "webhook-id is not the document's id"));
        }
        Ok(document)
    }

    fn take(&mut self, document: Document) -> Answer {
        if let Some(known) = self.documents.iter_mut().find(|known| known.id == document.id) {
            known.times += 1;
            if self.options.conflict_on_repeat {
                return answer(409, json!({ "error": "the document was taken before" }));
            }
            // A question is answered anew; a write is answered as before.
            let body = match document.kind {
                DocumentType::PeopleFind => self.find_people(&document.data),
                DocumentType::PersonUpserted | DocumentType::ThreadWritten | DocumentType::OptOutChanged => {
                    self.answers.get(&document.id).cloned().unwrap_or_default()
                }
            };
            return answer(200, body);
        }
        let body = match document.kind {
            DocumentType::PeopleFind => self.find_people(&document.data),
            DocumentType::PersonUpserted => self.upsert_person(&document.data),
            DocumentType::ThreadWritten => self.write_thread(&document.data),
            DocumentType::OptOutChanged => self.change_opt_out(&document.data),
        };
        self.answers.insert(document.id.clone(), body.clone());
        self.documents.push(document);
        answer(200, body)
    }

    /// Returns everyone who has the contact's id; if nobody has, everyone who has the number.
    fn find_people(&self, data: &Value) -> Value {
        if !self.options.knows_people {
            return json!({});
        }
        let with_id =
            |person: &&Person| data["contact_id"].is_string() && data["contact_id"] == json!(person.contact_id);
        let mut found: Vec<&Person> = self.people.iter().filter(with_id).collect();
        if found.is_empty() {
            let has_phone = |person: &&Person| person.phones.iter().any(|phone| data["phone"] == json!(phone));
            found = self.people.iter().filter(has_phone).collect();
        }
        let one = |person: &&Person| json!({ "id": person.id, "phones": person.phones, "name": person.name });
        json!({ "people": found.iter().map(one).collect::<Vec<_>>() })
    }

    /// Changes the person with this id or, if none is given, with this contact's id; else adds a new one.
    fn upsert_person(&mut self, data: &Value) -> Value {
        let given = &data["person"];
        let text = |key: &str| given[key].as_str().map(str::to_owned);
        let (id, contact_id, name) = (text("id"), text("contact_id"), text("name"));
        let is_it = |person: &Person| match &id {
            Some(id) => person.id == *id,
            None => contact_id.is_some() && person.contact_id == contact_id,
        };
        let known = self.people.iter().position(is_it);
        let at = known.unwrap_or_else(|| {
            let id = id.clone().unwrap_or_else(|| format!("person-{}", self.people.len() + 1));
            self.people.push(Person { id, ..Person::default() });
            self.people.len() - 1
        });
        let person = &mut self.people[at];
        person.contact_id = contact_id.or(person.contact_id.take());
        person.name = name.or(person.name.take());
        let phones = given["phones"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for phone in phones {
            if !person.phones.iter().any(|known| known == phone) {
                person.phones.push(phone.to_owned());
            }
        }
        if self.options.tells_ids { json!({ "person": { "id": person.id } }) } else { json!({}) }
    }

    fn write_thread(&mut self, data: &Value) -> Value {
        let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
        let thread = self.threads.entry(text("thread_id")).or_insert_with(|| Thread {
            thread_id: text("thread_id"),
            text: String::new(),
            data: Value::Null,
            writes: 0,
        });
        thread.text = text("text");
        thread.data = data.clone();
        thread.writes += 1;
        json!({})
    }

    fn change_opt_out(&mut self, data: &Value) -> Value {
        let phone = data["phone"].as_str().map(str::to_owned);
        let opted_out = data["opted_out"] == json!(true);
        let about = |state: &OptOutState| match &phone {
            Some(phone) => state.phone.as_ref() == Some(phone),
            None => state.phone.is_none() && state.data["person"]["id"] == data["person"]["id"],
        };
        self.opt_outs.retain(|state| !about(state));
        self.opt_outs.push(OptOutState { phone, opted_out, data: data.clone() });
        json!({})
    }

    /// The answer that the options ask for, instead of taking the document.
    fn refusal(&self) -> Option<Answer> {
        let mut refusal = Answer::bare(self.options.status?);
        let headers = [(RETRY_AFTER, &self.options.retry_after), (LOCATION, &self.options.location)];
        refusal.headers = headers.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
        Some(refusal)
    }
}

impl Api for Inbox {
    fn endpoint(&self, _head: &Parts, body: &Bytes) -> Option<AnyEndpoint> {
        let document: Value = serde_json::from_slice(body).ok()?;
        document["type"].as_str().and_then(DocumentType::named).map(AnyEndpoint::Receiver)
    }

    fn admit(&mut self, _head: &Parts) -> Admission {
        Admission::default()
    }

    /// One id never has two bodies, not even where a fault keeps the first of them from being taken.
    fn see(&mut self, head: &Parts, body: &Bytes) -> Option<String> {
        let id = self.verified(head, body).ok()?;
        let known = *self.bodies.entry(id).or_insert_with(|| hash(body));
        (known != hash(body)).then(|| "a webhook-id came with another body than before".to_owned())
    }

    fn carry_out(&mut self, head: &Parts, body: &Bytes) -> Answer {
        if head.uri.path() != self.options.path {
            return improper(404, "there is no such path");
        }
        if head.method != Method::POST {
            return Answer { allow: Some("POST"), ..improper(405, "the path has no such method") };
        }
        let document = match self.read(head, body) {
            Ok(document) => document,
            Err(refusal) => return refusal,
        };
        self.refusal().unwrap_or_else(|| self.take(document))
    }

    fn latency(&self) -> Duration {
        self.options.latency
    }
}

fn hash(body: &Bytes) -> [u8; 32] {
    Sha256::digest(body).into()
}

fn answer(status: u16, body: Value) -> Answer {
    Answer { media_type: JSON, ..Answer::resource(status, body) }
}

fn improper(status: u16, what: impl Into<String>) -> Answer {
    Answer::improper(status, what)
}
