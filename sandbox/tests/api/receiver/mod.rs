//! The stand-in for a user's own endpoint, and a client that signs documents.

mod answers;
mod documents;
mod signatures;

use std::time::Duration;

use hookline_sandbox::receiver::{SECRET, sign};
use hookline_sandbox::{Receiver, ReceiverOptions};
use jiff::Timestamp;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::helpers::answer;

pub(crate) struct Endpoint {
    pub(crate) receiver: Receiver,
    client: Client,
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ReceiverOptions)) -> Self {
        let mut options = ReceiverOptions::default();
        change(&mut options);
        let receiver = Receiver::start(options).await.expect("a loopback port");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let redirect = reqwest::redirect::Policy::none();
        let client = Client::builder().timeout(Duration::from_secs(5)).redirect(redirect).no_proxy().build();
        Self { receiver, client: client.expect("a client") }
    }

    /// Builds a post with these headers and no others.
    pub(crate) fn bare(&self, headers: &[(&str, &str)], body: &str) -> RequestBuilder {
        let request = self.client.post(self.receiver.url()).header("Content-Type", "application/json");
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(body.to_owned())
    }

    /// Builds a post that is signed with this secret, as if this many seconds ago.
    pub(crate) fn signed(&self, secret: &str, age: i64, id: &str, body: &str) -> RequestBuilder {
        let at = Timestamp::now().as_second() - age;
        let signature = sign(secret, id, at, body.as_bytes());
        let at = at.to_string();
        self.bare(&[("webhook-id", id), ("webhook-timestamp", &at), ("webhook-signature", &signature)], body)
    }

    /// Posts a document as the connector does.
    pub(crate) async fn post(&self, document: &Value) -> (u16, Value) {
        let id = document["id"].as_str().unwrap_or_default();
        answer(self.signed(SECRET, 0, id, &document.to_string())).await
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.receiver.violations().into_iter().map(|violation| violation.what).collect()
    }

    pub(crate) fn assert_proper(&self) {
        assert_eq!(self.violations(), Vec::<String>::new());
    }
}

pub(crate) fn document(kind: &str, id: &str, data: Value) -> Value {
    json!({ "type": kind, "id": id, "timestamp": "2026-11-02T15:04:05Z", "data": data })
}

pub(crate) fn sam() -> Value {
    json!({ "id": "p1", "contact_id": "c1", "phones": ["+14155550123"], "name": "Sam Doe" })
}

pub(crate) fn a_thread(id: &str, text: &str) -> Value {
    let message = json!({
        "message_id": "m1", "direction": "inbound", "outcome": "received", "body": "Hello", "author": null,
        "media": [], "occurred_at": "2026-11-02T15:04:05Z",
    });
    let data = json!({
        "thread_id": "t1", "person": sam(), "account": "acme", "business_number": "+12025550100",
        "day": "2026-11-02", "text": text, "messages": [message], "author": null,
    });
    document("thread.written", id, data)
}

pub(crate) fn an_upsert(id: &str, contact_id: &str, phone: &str) -> Value {
    let person = json!({ "contact_id": contact_id, "phones": [phone], "name": null });
    document("person.upserted", id, json!({ "person": person }))
}

pub(crate) fn a_question(id: &str, contact_id: Option<&str>, phone: Option<&str>) -> Value {
    document("people.find", id, json!({ "contact_id": contact_id, "phone": phone }))
}

pub(crate) fn an_opt_out(id: &str, opted_out: bool) -> Value {
    let data = json!({
        "person": sam(), "phone": "+14155550123", "opted_out": opted_out, "opted_out_at": "2026-11-02T15:04:05Z",
        "opted_in_at": null, "source": "keyword",
    });
    document("opt_out.changed", id, data)
}
