//! A stand-in for the HubSpot API, as far as a pipeline for texts needs it: contacts, communications, notes, their
//! properties and associations. It is as strict as the vendor's pages, and where these leave something open it behaves
//! in the way that is hardest on a client. <https://developers.hubspot.com/docs/api-reference>
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use hookline_sandbox::hubspot::{self, HubSpot, HubSpotEndpoint, HubSpotObject, HubSpotOptions};
//! use hookline_sandbox::{Fault, FaultRule};
//!
//! let crm = HubSpot::start(HubSpotOptions::default()).await?;
//! let sam = crm.add_contact(&[("lastname", "Doe"), ("phone", "(415) 555-0123")]);
//! let create = HubSpotEndpoint::Create(HubSpotObject::Communication);
//! crm.fault(FaultRule::new(Fault::EffectThenReset).on(create).times(1));
//! crm.fault(FaultRule::new(hubspot::throttled("TEN_SECONDLY_ROLLING")).on(create).times(2));
//! // ... point a client at crm.base_url() ...
//! assert!(crm.communications().iter().all(|text| text.contacts == [sam.clone()]));
//! assert!(crm.violations().is_empty() && crm.orphans().is_empty());
//! # Ok(())
//! # }
//! ```

mod account;
mod api;
mod associations;
mod batch;
mod error;
mod limits;
mod object;
mod objects;
mod options;
mod owners;
mod phones;
mod properties;
mod record;
mod route;
mod schema;
mod search;
mod write;

use std::net::SocketAddr;

use crate::fault_rule::FaultRule;
use crate::ledger::Violation;
use crate::sandbox::FaultId;
use crate::stand_in::{ApiRequest, StandIn};
use account::Account;
use schema::Kind;

pub use error::{migrating, status, throttled, validation_rule};
pub use object::{HubSpotEndpoint, HubSpotObject};
pub use options::{HubSpotOptions, MergedIds};
pub use record::HubSpotRecord;

/// A running stand-in for HubSpot. It ends with [`HubSpot::stop`], or when it is dropped.
pub struct HubSpot {
    stand_in: StandIn<Account>,
}

impl HubSpot {
    /// Listens and serves on the caller's tokio runtime.
    ///
    /// # Errors
    /// Fails when the address cannot be bound.
    pub async fn start(options: HubSpotOptions) -> anyhow::Result<Self> {
        let stand_in = StandIn::start(options.listen, Account::new(options)).await?;
        Ok(Self { stand_in })
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.stand_in.addr()
    }

    /// Returns `http://127.0.0.1:{port}`, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Closes the listener and every connection, and waits until all are gone.
    pub async fn stop(&self) {
        self.stand_in.stop().await;
    }

    /// Changes how the stand-in behaves from the next request on; the address stays.
    pub fn configure(&self, change: impl FnOnce(&mut HubSpotOptions)) {
        self.stand_in.with(|account| change(&mut account.options));
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

    /// Adds a contact as if made by hand, and returns its id. Any property that the account has may be set; none is
    /// required. The contact is in the search index at once.
    ///
    /// # Panics
    /// If the account has no such property, or the value is none of its kind.
    pub fn add_contact(&self, properties: &[(&str, &str)]) -> String {
        self.stand_in.with(|account| account.seed(HubSpotObject::Contact, properties, &[]).to_string())
    }

    /// Adds a communication to these contacts' timelines, as if made by hand, and returns its id.
    ///
    /// # Panics
    /// Like [`Self::add_contact`].
    pub fn add_communication(&self, properties: &[(&str, &str)], contacts: &[&str]) -> String {
        self.stand_in.with(|account| account.seed(HubSpotObject::Communication, properties, contacts).to_string())
    }

    /// Adds a note to these contacts' timelines, as if made by hand, and returns its id.
    ///
    /// # Panics
    /// Like [`Self::add_contact`].
    pub fn add_note(&self, properties: &[(&str, &str)], contacts: &[&str]) -> String {
        self.stand_in.with(|account| account.seed(HubSpotObject::Note, properties, contacts).to_string())
    }

    /// Changes a contact as if by hand; an empty text clears a property. The change is in the search index at once.
    ///
    /// # Panics
    /// Like [`Self::add_contact`], and if there is no such contact.
    pub fn change_contact(&self, id: &str, properties: &[(&str, &str)]) {
        self.stand_in.with(|account| account.change_by_hand(id, properties));
    }

    /// Deletes a contact by hand. Its communications and notes stay, on nobody's timeline.
    ///
    /// # Panics
    /// If there is no such contact.
    pub fn delete_contact(&self, id: &str) {
        self.stand_in.with(|account| account.delete_by_hand(id));
    }

    /// Deletes a communication or a note by hand.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn delete_note(&self, id: &str) {
        self.stand_in.with(|account| account.delete_note_by_hand(id));
    }

    /// Merges a contact into another one by hand. Its communications and notes move to the primary contact, and so do
    /// the values that the primary contact lacks. [`HubSpotOptions::merged_ids`] says what its id is then.
    ///
    /// # Panics
    /// If there is no such contact.
    pub fn merge(&self, primary: &str, secondary: &str) {
        self.stand_in.with(|account| account.merge_by_hand(primary, secondary));
    }

    /// Adds a user who can own records, and returns the owner's id.
    pub fn add_owner(&self, email: &str) -> String {
        self.stand_in.with(|account| account.add_owner(email).to_string())
    }

    /// Deactivates a user. The records that they own stay theirs, and no others can be given to them.
    ///
    /// # Panics
    /// If there is no such owner.
    pub fn archive_owner(&self, id: &str) {
        self.stand_in.with(|account| {
            let owner = account.owners.iter_mut().find(|owner| owner.id.to_string() == id);
            owner.expect("an owner that exists").archived = true;
        });
    }

    /// Adds a text property as if made by hand. This works for unique ones on notes and communications too, whatever
    /// [`HubSpotOptions::unique_properties_on_engagements`] says.
    pub fn add_property(&self, object: HubSpotObject, name: &str, has_unique_value: bool) {
        self.stand_in.with(|account| account.schema_mut(object).add_custom(name, Kind::Text, has_unique_value));
    }

    /// Adds a property of another `type`: `bool`, `datetime`, `date`, `number`.
    ///
    /// # Panics
    /// If HubSpot has no such type.
    pub fn add_typed_property(&self, object: HubSpotObject, name: &str, kind: &str) {
        let kind = Kind::named(kind).expect("a type that HubSpot has");
        self.stand_in.with(|account| account.schema_mut(object).add_custom(name, kind, false));
    }

    /// Adds the properties of contacts that Hookline needs, as `hookline check --connect --create-properties` does. The
    /// arguments are the names that are configured.
    pub fn add_hookline_properties(&self, contact_key: &str, opted_out: &str) {
        self.add_property(HubSpotObject::Contact, contact_key, true);
        self.add_typed_property(HubSpotObject::Contact, opted_out, "bool");
        self.add_typed_property(HubSpotObject::Contact, &format!("{opted_out}_at"), "datetime");
        self.add_typed_property(HubSpotObject::Contact, "sms_opted_in_at", "datetime");
        self.add_property(HubSpotObject::Contact, "sms_opt_out_source", false);
    }

    /// Removes a property of the account, with its values.
    pub fn remove_property(&self, object: HubSpotObject, name: &str) {
        self.stand_in.with(|account| account.remove_property(object, name));
    }

    /// Returns whether the account has this property, and if so whether it is unique.
    #[must_use]
    pub fn property(&self, object: HubSpotObject, name: &str) -> Option<bool> {
        let property = |account: &mut Account| Some(account.schema(object).properties.get(name)?.is_unique);
        self.stand_in.with(property)
    }

    /// Counts searches that the customer's other apps make now; they share the limit per second.
    pub fn spend_searches(&self, count: usize) {
        self.stand_in.with(|account| account.limits.spend_searches(count));
    }

    /// Begins the daily count anew, as at midnight.
    pub fn new_day(&self) {
        self.stand_in.with(|account| account.limits.new_day());
    }

    /// Returns the contacts that are neither archived nor merged into another one, oldest first.
    #[must_use]
    pub fn contacts(&self) -> Vec<HubSpotRecord> {
        self.records(HubSpotObject::Contact)
    }

    /// Returns the communications that aren't archived, oldest first.
    #[must_use]
    pub fn communications(&self) -> Vec<HubSpotRecord> {
        self.records(HubSpotObject::Communication)
    }

    /// Returns the notes that aren't archived, oldest first.
    #[must_use]
    pub fn notes(&self) -> Vec<HubSpotRecord> {
        self.records(HubSpotObject::Note)
    }

    fn records(&self, object: HubSpotObject) -> Vec<HubSpotRecord> {
        self.stand_in.with(|account| account.live(object).map(record::Record::seen_by_tests).collect())
    }

    /// Returns the ids of the communications and notes that a client left on nobody's timeline: it associated them with
    /// nobody, or with a wrong association type, which HubSpot accepts. Archived ones don't count, nor do those whose
    /// contact was deleted.
    #[must_use]
    pub fn orphans(&self) -> Vec<String> {
        self.stand_in.with(|account| account.orphans())
    }

    /// Returns the newest million requests, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<ApiRequest> {
        self.stand_in.requests()
    }

    /// Returns how many requests named this call, in any version.
    #[must_use]
    pub fn requests_to(&self, endpoint: HubSpotEndpoint) -> usize {
        self.stand_in.requests_to(endpoint.into())
    }

    pub fn clear_requests(&self) {
        self.stand_in.clear_requests();
    }

    /// Returns the requests that a correct client would not have sent; a test asserts that there are none. What only
    /// the account's set-up is to blame for is none: a missing scope or property, a value that another record has.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.stand_in.violations()
    }
}
