//! Salesforce as the system of record: people are contacts and leads, and a thread's note is a completed Task on the
//! person's timeline. docs/systems-of-record/salesforce.md describes it for users.
//!
//! How idempotent it is: a Task and a person are upserted by an external id, so a repeat changes the same record.
//! Everything else changes a record by its id.

mod client;
mod errors;
mod limits;
mod notes;
mod oauth;
mod opt_outs;
mod people;
mod person;
pub mod set_up;
mod soql;
mod task_status;
mod token;
mod upsert;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::{Destination, Operation};
use hookline_common::phone::Phone;
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::{SalesforceObject, SalesforceSettings, Settings, SystemOfRecordSettings};
use hookline_store::Store;
use hookline_store::model::PersonFacts;
use tokio_util::sync::CancellationToken;

use self::client::Client;
use self::errors::Failure;
use self::person::Hidden;
use self::task_status::DoneStatus;
use super::person_fields::PersonFields;
use super::{Cost, FlagWrite, Notes, OptOutFlag, Person, PersonId, SystemOfRecord, Upserted};
use crate::calls::log::CallLog;
use crate::delivery::handler::{Attempt, HandlerError};
use crate::destinations::error::DestinationError;
use crate::gate::{CheckResult, Gate};

pub(super) use self::notes::LIMIT as NOTE_LIMIT;

/// A call without an answer may still take effect for this long. A write that waits for a locked record waits ten seconds.
const SETTLE_AFTER: Duration = Duration::from_secs(30);
/// The search index was seen to be minutes behind
/// (<https://support.aircall.io/hc/en-gb/articles/23862324493597>).
const SEARCH_AGAIN_AFTER: &[Duration] = &[Duration::from_mins(1), Duration::from_mins(10)];
/// How often a process looks whether refused credentials must be checked.
const LOOK: Duration = Duration::from_millis(200);

/// Returns kind and instance. The My Domain names the org.
pub(super) fn name(settings: &SalesforceSettings) -> String {
    let Some(base) = &settings.base_url else { return "salesforce".to_owned() };
    let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("salesforce {}{port}", base.host_str().unwrap_or_default())
}

pub struct Salesforce {
    name: String,
    client: Client,
    store: Store,
    fields: Fields,
    /// In the order in which people are looked for. The first is created.
    objects: Vec<SalesforceObject>,
    /// The templates of more fields of a person who is created.
    templates: PersonFields,
    hidden: Hidden,
    done_status: DoneStatus,
}

/// The API names of the org's own fields.
struct Fields {
    /// On Task: external id, unique.
    task_key: String,
    /// On contacts and leads: external id, unique.
    person_key: String,
    opted_out: String,
    opted_out_at: String,
}

/// The names of these two don't follow that of the checkbox, so that one list of people shows all systems alike.
const OPTED_IN_AT: &str = "SMS_Opted_In_At__c";
const OPT_OUT_SOURCE_FIELD: &str = "SMS_Opt_Out_Source__c";

impl Salesforce {
    /// # Errors
    /// When a credential is missing or unusable, or the TLS set-up fails.
    pub fn new(settings: &SystemOfRecordSettings, store: Store, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let own = &settings.salesforce;
        let rules = limits::rules(own);
        let gate = Gate::new(Destination::SystemOfRecord, store.clone(), Arc::clone(metrics), rules);
        Ok(Self {
            name: name(own),
            client: Client::new(own, Arc::new(gate), Arc::clone(metrics))?,
            store,
            fields: Fields {
                task_key: own.task_key_field.clone(),
                person_key: own.person_key_field.clone(),
                opted_out: own.opted_out_field.clone(),
                opted_out_at: opted_out_at(&own.opted_out_field),
            },
            objects: own.objects.clone(),
            templates: PersonFields::new(&settings.templates.person),
            hidden: Hidden::default(),
            done_status: DoneStatus::default(),
        })
    }

    /// Finds out whether Salesforce issues a token and takes it.
    ///
    /// # Errors
    /// Any [`DestinationError`].
    pub async fn check_token(&self, log: &CallLog) -> Result<(), DestinationError> {
        self.client.check(log).await
    }

    /// Checks refused credentials when it is due. The gate knows of the answer to the request for a token.
    async fn check_refused_token(&self) {
        let gate = self.client.gate();
        if !gate.check_due_in().is_some_and(|due| due.is_zero()) {
            return;
        }
        match self.client.check(&CallLog::default()).await {
            Ok(()) => gate.check_ended(CheckResult::Accepted),
            Err(DestinationError::CredentialsRefused { .. } | DestinationError::GateClosed { .. }) => {}
            Err(_) => gate.check_ended(CheckResult::Nothing),
        }
    }
}

/// `SMS_Opted_Out__c` leads to `SMS_Opted_Out_At__c`.
fn opted_out_at(checkbox: &str) -> String {
    match checkbox.strip_suffix("__c") {
        Some(name) => format!("{name}_At__c"),
        None => format!("{checkbox}_At"),
    }
}

#[async_trait]
impl SystemOfRecord for Salesforce {
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
        // Each object is asked by key and by number, and one search asks both. All that is done twice, as somebody may come
        // meanwhile, and the person is written.
        let objects = self.objects.len() as u64;
        Cost { person: 4 * objects + 3, flag: objects + 4, ..Cost::default() }
    }

    async fn check(&self, calls: &CallLog) -> Result<(), HandlerError> {
        self.check_token(calls).await.map_err(errors::failed)
    }

    fn take_credentials(&self, settings: &Settings) -> anyhow::Result<bool> {
        self.client.take_credentials(settings)
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
        let found = self.find(attempt.calls, contact_id, phone).await?;
        Ok(found.iter().map(|person| self.person(person)).collect())
    }

    fn place_of(&self, person: &PersonId) -> usize {
        Self::place_of(self, &person.0)
    }

    fn has_owners(&self) -> bool {
        true
    }

    async fn find_owner(&self, calls: &CallLog, email: &str) -> Result<Option<String>, HandlerError> {
        let conditions = format!("Email = {} AND IsActive = true AND UserType = 'Standard'", soql::literal(email));
        let request = soql::query(Operation::FindOwner, &["Id"], "User", &conditions);
        let found = self.client.query(calls, request.hiding([email.to_owned()])).await?.unwrap_or_default();
        // Several users with one address cannot be told apart.
        Ok(match found.as_slice() {
            [user] => Some(user.id.clone()),
            _ => None,
        })
    }

    async fn upsert_person(&self, attempt: &Attempt<'_>, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        self.upsert(attempt.calls, facts).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_opt_out_is_beside_its_checkbox() {
        assert_eq!(opted_out_at("SMS_Opted_Out__c"), "SMS_Opted_Out_At__c");
        assert_eq!(opted_out_at("acme__No_Texts__c"), "acme__No_Texts_At__c");
    }
}
