//! Texts of some people on two days, with later ones, and what each thread has to show.

use std::collections::BTreeMap;

use hookline_e2e::ACCOUNT;
use hookline_sandbox::samples::{SampleFacts, sample};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The day from which back-fills take threads.
pub(crate) const SINCE: &str = "2026-11-01";
const BUSINESS: &str = "+14155550001";
/// The first texts and the last ones are this far apart, so they are of two days.
const SPAN: usize = 100_000;

/// Who a thread is with, and its day.
pub(crate) type ThreadKey = (String, String);

pub(crate) fn phone(person: usize) -> String {
    format!("+1415555{:04}", 100 + person)
}

/// As a person types it into a CRM.
pub(crate) fn typed(person: usize) -> String {
    format!("(415) 555-{:04}", 100 + person)
}

/// The last segment of the id of a person's contact at TextUs.
pub(crate) fn contact(person: usize) -> String {
    format!("person{person}")
}

pub(crate) fn facts(person: usize) -> SampleFacts {
    SampleFacts {
        phone: phone(person),
        account_phone: BUSINESS.to_owned(),
        contact_id: contact(person),
        ..SampleFacts::random(ACCOUNT)
    }
}

/// The texts that were sent, by thread and time.
pub(crate) struct History {
    people: usize,
    texts: usize,
    is_named: fn(usize) -> bool,
    threads: BTreeMap<ThreadKey, BTreeMap<Timestamp, String>>,
    late: usize,
}

impl History {
    /// Returns the webhooks of `texts` texts of each of the `people`. Those of others than `is_named` tell only the number.
    pub(crate) fn new(people: usize, texts: usize, is_named: fn(usize) -> bool) -> (Self, Vec<Value>) {
        let mut history = Self { people, texts, is_named, threads: BTreeMap::new(), late: 0 };
        let of_person = |person| (0..texts).map(move |text| (person, text));
        let bodies = (0..people)
            .flat_map(of_person)
            .map(|(person, text)| history.text(person, history.offset(text), &format!("text {text} of {person}.")))
            .collect();
        (history, bodies)
    }

    /// Returns more texts: by turns one between two of a thread that is there, and one of a day without a thread.
    pub(crate) fn later(&mut self, count: usize) -> Vec<Value> {
        let mut bodies = Vec::new();
        for late in self.late..self.late + count {
            // Each of them has a second of its own.
            let after = SignedDuration::from_secs(60 + i64::try_from(late).expect("a small number"));
            let days = SignedDuration::from_hours(if late % 2 == 0 { 0 } else { 72 });
            let at = self.offset(late % self.texts) + after + days;
            bodies.push(self.text(late * 7 % self.people, at, &format!("late {late}.")));
        }
        self.late += count;
        bodies
    }

    fn offset(&self, text: usize) -> SignedDuration {
        SignedDuration::from_secs(i64::try_from(text * SPAN / self.texts).expect("a small number"))
    }

    fn text(&mut self, person: usize, offset: SignedDuration, words: &str) -> Value {
        let timestamp = "2026-11-02T10:00:00Z".parse::<Timestamp>().expect("a time") + offset;
        let thread = (phone(person), timestamp.strftime("%Y-%m-%d").to_string());
        let texts = self.threads.entry(thread).or_default();
        assert_eq!(texts.insert(timestamp, words.to_owned()), None, "a second of its own");
        let event_type = if words.len() % 3 == 2 { "message.delivered" } else { "message.received" };
        let embed_contact = (self.is_named)(person);
        let facts = SampleFacts { timestamp, body: words.to_owned(), embed_contact, ..facts(person) };
        let mut body = sample(event_type, &facts);
        body["message"]["id"] = json!(format!("/messages/{}", words.replace([' ', '.'], "x")));
        body
    }

    /// Returns what each thread has to show, in order.
    pub(crate) fn threads(&self) -> BTreeMap<ThreadKey, Vec<String>> {
        self.threads.iter().map(|(key, texts)| (key.clone(), texts.values().cloned().collect())).collect()
    }
}
