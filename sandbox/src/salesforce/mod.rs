//! A stand-in for the Salesforce REST API, as far as a pipeline for texts needs it: tokens, contacts, leads, tasks and
//! users, upserts by external id, queries and searches. It is as strict as the vendor's pages, and where these leave
//! something open it behaves in the way that is hardest on a client.
//! <https://developer.salesforce.com/docs/platform/api-rest/guide/intro-rest.html>
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use hookline_sandbox::salesforce::{self, CustomField, Salesforce, SalesforceEndpoint};
//! use hookline_sandbox::salesforce::{SalesforceObject, SalesforceOptions};
//! use hookline_sandbox::{Fault, FaultRule};
//! use serde_json::json;
//!
//! let crm = Salesforce::start(SalesforceOptions::default()).await?;
//! crm.add_custom_field(SalesforceObject::Task, CustomField::text("Key__c", 255).external_id().unique());
//! let sam = crm.add_contact(json!({ "LastName": "Doe", "Phone": "(415) 555-0123" }));
//! let upsert = SalesforceEndpoint::Upsert(SalesforceObject::Task);
//! crm.fault(FaultRule::new(Fault::EffectThenReset).on(upsert).times(1));
//! crm.fault(FaultRule::new(salesforce::lock_row()).on(upsert).times(2));
//! // ... point a client at crm.base_url() ...
//! assert!(crm.tasks().iter().all(|task| task.who() == sam));
//! assert!(crm.violations().is_empty() && crm.orphans().is_empty());
//! # Ok(())
//! # }
//! ```

mod api;
mod by_hand;
mod composite;
mod describe;
mod error;
mod ids;
mod jwt;
mod limits;
mod oauth;
mod object;
mod options;
mod org;
mod query;
mod record;
mod route;
mod rules;
mod schema;
mod search;
mod set_up;
mod sobjects;
mod soql;
mod standard;
mod token;
mod write;

use std::net::SocketAddr;

use crate::fault_rule::FaultRule;
use crate::ledger::Violation;
use crate::sandbox::FaultId;
use crate::stand_in::{ApiRequest, StandIn};
use org::Org;

pub use error::{
    duplicates_detected, insufficient_access, lock_row, oauth, query_timeout, request_limit, server_unavailable,
    status, validation_rule,
};
pub use object::{SalesforceEndpoint, SalesforceObject};
pub use options::{DeletedIds, PRIVATE_KEY, SalesforceOptions};
pub use record::SalesforceRecord;
pub use schema::CustomField;

/// A running stand-in for Salesforce. It ends with [`Salesforce::stop`], or when it is dropped.
pub struct Salesforce {
    stand_in: StandIn<Org>,
}

impl Salesforce {
    /// Listens and serves on the caller's tokio runtime.
    ///
    /// # Errors
    /// Fails when the address cannot be bound.
    pub async fn start(options: SalesforceOptions) -> anyhow::Result<Self> {
        let stand_in = StandIn::start(options.listen, Org::new(options)).await?;
        let salesforce = Self { stand_in };
        let base_url = salesforce.base_url();
        salesforce.stand_in.with(|org| org.base_url = base_url);
        Ok(salesforce)
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.stand_in.addr()
    }

    /// Returns `http://127.0.0.1:{port}`, without a slash at the end: the address of the org's My Domain.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Closes the listener and every connection, and waits until all are gone.
    pub async fn stop(&self) {
        self.stand_in.stop().await;
    }

    /// Changes how the stand-in behaves from the next request on; the address stays.
    pub fn configure(&self, change: impl FnOnce(&mut SalesforceOptions)) {
        self.stand_in.with(|org| change(&mut org.options));
    }

    /// Adds a rule after the existing ones; [`FaultRule`] describes how they combine.
    pub fn fault(&self, rule: FaultRule) -> FaultId {
        self.stand_in.fault(rule)
    }

    /// Removes a rule, if it exists.
    pub fn remove_fault(&self, id: FaultId) {
        self.stand_in.remove_fault(id);
    }

    pub fn clear_faults(&self) {
        self.stand_in.clear_faults();
    }

    /// Ends every token, as an administrator or a change of policy does.
    pub fn revoke_tokens(&self) {
        self.stand_in.with(|org| org.tokens.revoke_all());
    }

    /// Ends one token, if it is good.
    pub fn revoke_token(&self, token: &str) {
        self.stand_in.with(|org| org.tokens.revoke(token));
    }

    /// Returns every token that was ever issued, oldest first.
    #[must_use]
    pub fn tokens_issued(&self) -> Vec<String> {
        self.stand_in.with(|org| org.tokens.issued().to_vec())
    }

    /// Sets the number of calls of the last 24 hours, those of the customer's other apps included.
    pub fn set_daily_usage(&self, calls: u64) {
        self.stand_in.with(|org| org.limits.set(calls));
    }

    /// Returns the number of calls of the last 24 hours.
    #[must_use]
    pub fn daily_usage(&self) -> u64 {
        self.stand_in.with(|org| org.limits.used())
    }

    /// Returns the contacts that are neither deleted nor merged into another one, oldest first.
    #[must_use]
    pub fn contacts(&self) -> Vec<SalesforceRecord> {
        self.records(SalesforceObject::Contact)
    }

    /// Returns the leads that are neither deleted nor merged into another one, converted ones included, oldest first.
    #[must_use]
    pub fn leads(&self) -> Vec<SalesforceRecord> {
        self.records(SalesforceObject::Lead)
    }

    /// Returns the tasks that aren't deleted, oldest first.
    #[must_use]
    pub fn tasks(&self) -> Vec<SalesforceRecord> {
        self.records(SalesforceObject::Task)
    }

    /// Returns the users, inactive ones included, oldest first. The first one is the app's own.
    #[must_use]
    pub fn users(&self) -> Vec<SalesforceRecord> {
        self.records(SalesforceObject::User)
    }

    /// Returns the id of the user as whom the app acts.
    #[must_use]
    pub fn run_as_user(&self) -> String {
        self.stand_in.with(|org| org.run_as.clone())
    }

    fn records(&self, object: SalesforceObject) -> Vec<SalesforceRecord> {
        self.stand_in.with(|org| org.live(object).map(record::Record::seen_by_tests).collect())
    }

    /// Returns the ids of the tasks that stand on nobody's timeline.
    #[must_use]
    pub fn orphans(&self) -> Vec<String> {
        let orphans = self.tasks().into_iter().filter(|task| task.who().is_empty());
        orphans.map(|task| task.id).collect()
    }

    /// Returns the newest million requests, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<ApiRequest> {
        self.stand_in.requests()
    }

    /// Returns how many requests named this call, in any version.
    #[must_use]
    pub fn requests_to(&self, endpoint: SalesforceEndpoint) -> usize {
        self.stand_in.requests_to(endpoint.into())
    }

    pub fn clear_requests(&self) {
        self.stand_in.clear_requests();
    }

    /// Returns the requests that a correct client would not have sent; a test asserts that there are none. What only
    /// the org's set-up is to blame for is none: a field that is missing or hidden, a value that another record has.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.stand_in.violations()
    }
}
