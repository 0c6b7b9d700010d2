//! The stand-in for Salesforce, and a client that has a token.

mod by_hand;
mod composite;
mod create;
mod describe;
mod faults;
mod limits;
mod oauth;
mod query;
mod read;
mod rules;
mod search;
mod tokens;
mod upsert;

use std::time::Duration;

use hookline_sandbox::salesforce::{CustomField, Salesforce, SalesforceObject, SalesforceOptions};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::helpers::answer;

pub(crate) const KEY: &str = "Hookline_Key__c";
pub(crate) const DATA: &str = "/services/data/v67.0";

pub(crate) struct Crm {
    pub(crate) salesforce: Salesforce,
    client: Client,
    token: String,
}

impl Crm {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts an org whose tasks, contacts and leads have a unique key in which case counts, and a client that has a
    /// token.
    pub(crate) async fn with(change: impl FnOnce(&mut SalesforceOptions)) -> Self {
        let mut options = SalesforceOptions::default();
        change(&mut options);
        let salesforce = Salesforce::start(options).await.expect("a loopback port");
        for object in [SalesforceObject::Task, SalesforceObject::Contact, SalesforceObject::Lead] {
            salesforce.add_custom_field(object, CustomField::text(KEY, 255).external_id().unique().case_sensitive());
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(Duration::from_secs(5)).no_proxy().build().expect("a client");
        let mut crm = Self { salesforce, client, token: String::new() };
        crm.token = crm.new_token().await;
        crm
    }

    /// Gets a token by client credentials.
    pub(crate) async fn new_token(&self) -> String {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", "synthetic-client-id"),
            ("client_secret", "synthetic-client-secret"),
        ];
        let (status, body) = self.post_form(&form).await;
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().expect("a token").to_owned()
    }

    pub(crate) async fn post_form(&self, form: &[(&str, &str)]) -> (u16, Value) {
        let encoded: Vec<String> =
            form.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
        let request = self.bare(Method::POST, "/services/oauth2/token");
        let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(encoded.join("&"));
        answer(request).await
    }

    /// Builds a request without a token.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.salesforce.base_url()))
    }

    /// Builds a request for a path behind the version.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, &format!("{DATA}{path}")).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.request(Method::PATCH, path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::DELETE, path)).await
    }

    /// Upserts a task by its key.
    pub(crate) async fn upsert(&self, key: &str, fields: Value) -> (u16, Value) {
        self.patch(&format!("/sobjects/Task/{KEY}/{key}"), fields).await
    }

    pub(crate) async fn query(&self, statement: &str) -> (u16, Value) {
        answer(self.request(Method::GET, "/query/").query(&[("q", statement)])).await
    }

    pub(crate) async fn query_all(&self, statement: &str) -> (u16, Value) {
        answer(self.request(Method::GET, "/queryAll/").query(&[("q", statement)])).await
    }

    pub(crate) async fn search(&self, statement: &str) -> (u16, Value) {
        answer(self.request(Method::GET, "/search/").query(&[("q", statement)])).await
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.salesforce.violations().into_iter().map(|violation| violation.what).collect()
    }

    pub(crate) fn assert_proper(&self) {
        assert_eq!(self.violations(), Vec::<String>::new());
    }
}

fn percent_encode(value: &str) -> String {
    percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The fields of a text's task.
pub(crate) fn a_task(who: &str) -> Value {
    json!({
        "Subject": "Text from (415) 555-0123",
        "Status": "Completed",
        "Priority": "Normal",
        "WhoId": who,
        "ActivityDate": "2026-11-02",
        "Description": "Hello",
    })
}

/// Returns the code of an answer's only error.
pub(crate) fn code((status, body): &(u16, Value)) -> (u16, &str) {
    let errors = body.as_array().unwrap_or_else(|| panic!("an array of errors: {body}"));
    assert_eq!(errors.len(), 1, "{body}");
    assert!(errors[0]["message"].is_string(), "{body}");
    (*status, errors[0]["errorCode"].as_str().expect("a code"))
}

/// Returns the message of an answer's only error.
pub(crate) fn message((_, body): &(u16, Value)) -> &str {
    body[0]["message"].as_str().expect("a message")
}

/// Returns the id of an answered record.
pub(crate) fn id(body: &Value) -> String {
    body.get("id").or(body.get("Id")).and_then(Value::as_str).expect("an id").to_owned()
}

/// Returns the ids that a query or a search found, sorted.
pub(crate) fn ids(body: &Value) -> Vec<String> {
    let records = body.get("records").or(body.get("searchRecords")).and_then(Value::as_array);
    let mut ids: Vec<String> = records.unwrap_or_else(|| panic!("records: {body}")).iter().map(id).collect();
    ids.sort();
    ids
}
