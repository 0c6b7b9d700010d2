//! A mixed load generated from a seed, and the results it must have.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use hookline_sandbox::samples::sample;
use hookline_sandbox::{SampleFacts, Sandbox};
use serde_json::Value;

use crate::all_in_one::ACCOUNT;
use crate::people::People;
use crate::sender::Sender;

/// Personal data that belongs to nobody. It is planted so that the tests can search everything written for it.
pub(super) const CANARY_PHONE: &str = "+15550001234";
pub(super) const CANARY_EMAIL: &str = "secret-canary@example.com";
const AT_ONCE: usize = 8;

/// Webhook bodies in the order in which they are posted. Of ten, six are texts, three are opt-outs and one is a
/// contact.
pub struct Load {
    pub bodies: Vec<Value>,
    pub opted_out: Vec<SampleFacts>,
    pub created: Vec<SampleFacts>,
    /// The texts' message ids.
    pub texts: BTreeSet<String>,
}

impl Load {
    /// Generates `events` different bodies and, among them, `repeats` that repeat one of them. The first text is from a
    /// person whose data are searched for afterwards.
    ///
    /// # Panics
    /// If there are no events.
    #[must_use]
    pub fn mixed(seed: u64, events: usize, repeats: usize, sandbox: &Sandbox) -> Self {
        let mut people = People::new(seed);
        let mut load = Self { bodies: Vec::new(), opted_out: Vec::new(), created: Vec::new(), texts: BTreeSet::new() };
        for number in 0..events {
            let mut person = people.next(ACCOUNT);
            if number == 0 {
                person.phone = CANARY_PHONE.to_owned();
                person.body = format!("write to {CANARY_EMAIL}");
                person.contact_name = format!("Planted {CANARY_EMAIL}");
                person.embed_contact = true;
            }
            load.add(number, person, sandbox);
        }
        for _ in 0..repeats {
            // The repeat comes after its original.
            let original = people.draw(load.bodies.len());
            let place = original + 1 + people.draw(load.bodies.len() - original);
            let body = load.bodies[original].clone();
            load.bodies.insert(place, body);
        }
        load
    }

    fn add(&mut self, number: usize, person: SampleFacts, sandbox: &Sandbox) {
        match number % 10 {
            3 | 6 | 9 => {
                self.bodies.push(sample("contact.opted_out", &person));
                self.opted_out.push(person);
            }
            5 => {
                self.bodies.push(sample("contact.created", &person));
                self.created.push(person);
            }
            _ => {
                let body = sample("message.received", &person);
                sandbox.learn(&body).expect("a sample's shape");
                self.texts.insert(body["message"]["id"].as_str().expect("a text").to_owned());
                self.bodies.push(body);
            }
        }
    }

    /// Drops the texts and contacts after the first `most`.
    pub fn keep_of_others(&mut self, most: usize) {
        let Self { bodies, created, texts, .. } = self;
        let mut others = 0;
        bodies.retain(|body| {
            others += usize::from(!body["optOut"].is_object());
            if body["optOut"].is_object() || others <= most {
                return true;
            }
            match body["message"]["id"].as_str() {
                Some(id) => drop(texts.remove(id)),
                None => created.retain(|person| !body.to_string().contains(&person.phone)),
            }
            false
        });
    }

    /// Posts all bodies, several at once, each until it is answered 200.
    pub async fn send(&self, sender: &Sender) {
        send_all(sender, &self.bodies).await;
    }

    /// Cuts the bodies into `count` parts, in order.
    #[must_use]
    pub fn parts(&self, count: usize) -> Vec<&[Value]> {
        self.bodies.chunks(self.bodies.len().div_ceil(count)).collect()
    }
}

/// Posts these bodies, several at once, each until it is answered 200.
pub async fn send_all(sender: &Sender, bodies: &[Value]) {
    let sends = futures::stream::iter(bodies).map(|body| sender.send(body));
    sends.buffer_unordered(AT_ONCE).for_each(async |_id| {}).await;
}
