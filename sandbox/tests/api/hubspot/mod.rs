//! The stand-in for HubSpot, and a client with its token.

mod associations;
mod batch;
mod by_hand;
mod create;
mod faults;
mod limits;
mod properties;
mod read;
mod search;
mod unique;

use std::time::Duration;

use hookline_sandbox::{HubSpot, HubSpotObject, HubSpotOptions};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::helpers::answer;

pub(crate) const KEY: &str = "textus_thread_key";

pub(crate) struct Crm {
    pub(crate) hubspot: HubSpot,
    client: Client,
}

impl Crm {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut HubSpotOptions)) -> Self {
        let mut options = HubSpotOptions::default();
        change(&mut options);
        let hubspot = HubSpot::start(options).await.expect("a loopback port");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(Duration::from_secs(5)).no_proxy().build().expect("a client");
        Self { hubspot, client }
    }

    /// Starts a stand-in whose communications have a unique key.
    pub(crate) async fn keyed() -> Self {
        let crm = Self::start().await;
        crm.hubspot.add_property(HubSpotObject::Communication, KEY, true);
        crm
    }

    /// Builds a request without a token.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.hubspot.base_url()))
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth("synthetic-token")
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, properties: Value) -> (u16, Value) {
        answer(self.request(Method::PATCH, path).json(&json!({ "properties": properties }))).await
    }

    pub(crate) async fn put(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::PUT, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn create(&self, objects: &str, properties: Value) -> (u16, Value) {
        let body = json!({ "properties": properties, "associations": [] });
        self.post(&format!("/crm/objects/2026-09/{objects}"), &body).await
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.hubspot.violations().into_iter().map(|violation| violation.what).collect()
    }

    pub(crate) fn assert_proper(&self) {
        assert_eq!(self.violations(), Vec::<String>::new());
    }
}

/// The properties of a text, as the vendor's page has them.
pub(crate) fn a_text() -> Value {
    json!({
        "hs_communication_channel_type": "SMS",
        "hs_communication_logged_from": "CRM",
        "hs_communication_body": "Hello",
        "hs_timestamp": "2026-11-02T15:04:05.000Z",
    })
}

/// `base` with some properties changed; `null` removes one.
pub(crate) fn but(mut base: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        let fields = base.as_object_mut().expect("an object");
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    base
}

/// The association of a create with a contact.
pub(crate) fn to_contact(id: &str, type_id: u64) -> Value {
    let types = json!([{ "associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_id }]);
    json!([{ "to": { "id": id }, "types": types }])
}

/// Returns the id of an answered record.
pub(crate) fn id(body: &Value) -> String {
    body["id"].as_str().expect("an id").to_owned()
}

/// Returns the ids of answered records.
pub(crate) fn ids(body: &Value) -> Vec<String> {
    body["results"].as_array().expect("results").iter().map(id).collect()
}

/// Returns the codes of an answer's `errors`.
pub(crate) fn codes(body: &Value) -> Vec<&str> {
    body["errors"].as_array().into_iter().flatten().filter_map(|error| error["code"].as_str()).collect()
}
