//! HubSpot as the system of record: people are contacts, and a thread's note is a communication of the channel SMS, or a
//! note, on the contact's timeline. docs/systems-of-record/hubspot.md describes it for users.
//!
//! How idempotent it is: a contact is created by a batch upsert of a unique property, so a repeat changes the same
//! contact. A note is written the same way where the account has a unique property for it. Otherwise it is created
//! together with its association, carries its key as its last line, and is looked for on the contact's own records after
//! an unknown outcome. Everything else changes a record by its id.

mod client;
mod errors;
mod limits;
mod notes;
mod opt_outs;
mod owners;
mod people;
pub mod set_up;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::{Destination, Operation};
use hookline_common::phone::Phone;
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::{HubSpotObject, HubSpotSettings, Settings};
use hookline_store::Store;
use hookline_store::model::PersonFacts;
use reqwest::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::client::{Client, Request};
pub(super) use self::notes::LIMIT as NOTE_LIMIT;
use self::notes::NotesByKey;
use self::owners::RefusedOwners;
use super::person_fields::PersonFields;
use super::{Cost, FlagWrite, Notes, OptOutFlag, Person, SystemOfRecord, Upserted};
use crate::calls::log::CallLog;
use crate::delivery::handler::{Attempt, HandlerError};
use crate::destinations::error::DestinationError;
use crate::gate::{CheckResult, Gate, searches_of_back_fill};

/// A call without an answer may still take effect for this long.
const SETTLE_AFTER: Duration = Duration::from_secs(30);
/// A fresh contact is in the search index after a minute at most, by what others measured
/// (<https://help.okta.com/wf/en-us/content/Topics/Workflows/connector-reference/hubspotcrm/actions/searchcontacts.htm>).
const SEARCH_AGAIN_AFTER: &[Duration] = &[Duration::from_mins(1), Duration::from_mins(10)];
/// How often a process looks whether refused credentials must be checked.
const LOOK: Duration = Duration::from_millis(200);
/// No contact has this id.
const NOBODY: &str = "0";

/// Returns kind and instance. HubSpot tells the account only to a token that may ask for it, so all accounts have one
/// name.
pub(super) fn name(settings: &HubSpotSettings) -> String {
    let host = settings.base_url.host_str().unwrap_or_default();
    let port = settings.base_url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("hubspot {host}{port}")
}

pub struct HubSpot {
    name: String,
    client: Client,
    store: Store,
    properties: Properties,
    object: HubSpotObject,
    notes_by_key: NotesByKey,
    fields: PersonFields,
    refused_owners: RefusedOwners,
}

/// The names of the account's own properties.
struct Properties {
    /// On communications or notes; unique.
    thread_key: String,
    /// On contacts; unique.
    contact_key: String,
    opted_out: String,
    opted_out_at: String,
}

/// The names of these two don't follow that of the flag, so that one list of contacts shows all systems alike.
const OPTED_IN_AT: &str = "sms_opted_in_at";
const OPT_OUT_SOURCE_PROPERTY: &str = "sms_opt_out_source";

impl HubSpot {
    /// # Errors
    /// When the token is missing or cannot be sent, or the TLS set-up fails.
    pub fn new(settings: &HubSpotSettings, store: Store, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let rules = limits::rules(settings);
        let gate = Gate::new(Destination::SystemOfRecord, store.clone(), Arc::clone(metrics), rules);
        Ok(Self {
            name: name(settings),
            client: Client::new(settings, Arc::new(gate), Arc::clone(metrics))?,
            store,
            properties: Properties {
                thread_key: settings.key_property.clone(),
                contact_key: settings.contact_key_property.clone(),
                opted_out: settings.opted_out_property.clone(),
                opted_out_at: format!("{}_at", settings.opted_out_property),
            },
            object: settings.object,
            notes_by_key: NotesByKey::default(),
            fields: PersonFields::default(),
            refused_owners: RefusedOwners::default(),
        })
    }

    /// Fills these properties of a contact who is created, by the templates of `[system_of_record.templates] person`.
    #[must_use]
    pub fn filling(self, templates: &BTreeMap<String, String>) -> Self {
        Self { fields: PersonFields::new(templates), ..self }
    }

    /// Finds out whether the token is good and may read and change contacts.
    ///
    /// # Errors
    /// Any [`DestinationError`].
    pub async fn check_token(&self, log: &CallLog) -> Result<(), DestinationError> {
        self.may(log, Method::GET).await?;
        self.may(log, Method::PATCH).await
    }

    /// Makes a call about a contact that cannot exist: HubSpot answers 404 if the token may do such a thing, and 403
    /// otherwise.
    async fn may(&self, log: &CallLog, method: Method) -> Result<(), DestinationError> {
        let body = (method == Method::PATCH).then(|| json!({ "properties": {} }));
        let request = Request::of_objects(Operation::CheckToken, method, &format!("contacts/{NOBODY}"));
        let request = match body {
            Some(body) => request.with_body(body),
            None => request,
        };
        match self.client.make(log, request).await {
            Ok(_) => Ok(()),
            Err(error) if errors::is_refusal(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Checks refused credentials when it is due, with one call of the kind that was refused: whatever else the token may
    /// do would end the pause too early.
    async fn check_refused_token(&self) {
        let gate = self.client.gate();
        if !gate.check_due_in().is_some_and(|due| due.is_zero()) {
            return;
        }
        let method = if self.client.is_refused_reads() { Method::GET } else { Method::PATCH };
        match self.may(&CallLog::default(), method).await {
            Ok(()) => gate.check_ended(CheckResult::Accepted),
            // The gate knows of a refusal, and nothing was asked where it held the call.
            Err(DestinationError::CredentialsRefused { status: 401, .. } | DestinationError::GateClosed { .. }) => {}
            Err(_) => gate.check_ended(CheckResult::Nothing),
        }
    }
}

#[async_trait]
impl SystemOfRecord for HubSpot {
    fn name(&self) -> &str {
        &self.name
    }

    fn gate(&self) -> Option<&Arc<Gate>> {
        Some(self.client.gate())
    }

    fn settle_after(&self) -> Duration {
        SETTLE_AFTER.max(self.client.timeout())
    }

    fn search_again_after(&self) -> &'static [Duration] {
        SEARCH_AGAIN_AFTER
    }

    fn notes(&self) -> &dyn Notes {
        self
    }

    fn cost(&self) -> Cost {
        Cost {
            // A note that is written by key is associated by a second call.
            new_note: 2,
            changed_note: 1,
            person: 5,
            person_searches: 2,
            flag: 4,
            calls: Some(limits::DOCUMENTED),
            searches: Some(searches_of_back_fill(limits::SEARCHES)),
        }
    }

    async fn check(&self, calls: &CallLog) -> Result<(), HandlerError> {
        self.check_token(calls).await.map_err(errors::failed)
    }

    fn take_credentials(&self, settings: &Settings) -> anyhow::Result<bool> {
        self.client.take_token(&settings.system_of_record.hubspot)
    }

    async fn watch(&self, shutdown: CancellationToken) {
        loop {
            let due = self.client.gate().check_due_in();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(due.map_or(LOOK, |due| due.min(LOOK))) => {}
            }
            self.check_refused_token().await;
        }
    }

    async fn find_people(
        &self,
        attempt: &Attempt<'_>,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<Person>, HandlerError> {
        let found = self.find(attempt.calls, contact_id, phone).await;
        Ok(found?.iter().map(|contact| self.person(contact)).collect())
    }

    fn has_owners(&self) -> bool {
        true
    }

    async fn find_owner(&self, calls: &CallLog, email: &str) -> Result<Option<String>, HandlerError> {
        self.owner(calls, email).await.map_err(errors::failed)
    }

    async fn upsert_person(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        self.upsert(attempt.calls, facts).await
    }

    async fn create_person(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        self.create(attempt.calls, facts).await
    }

    async fn set_opt_out(
        &self,
        attempt: &Attempt<'_>,
        person: &Person,
        phone: &Phone,
        flag: &OptOutFlag,
    ) -> Result<FlagWrite, HandlerError> {
        self.flag(attempt.calls, person, phone, flag).await
    }
}
