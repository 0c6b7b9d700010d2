//! A stand-in for Salesforce with a connector, its gate and a store of its own.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_common::event::Event;
use hookline_common::note_text::MessageOutcome;
use hookline_common::phone::Phone;
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::settings::{SalesforceObject as Kind, Settings, SystemOfRecordSettings};
use hookline_common::testing::events::an_event;
use hookline_common::time::Timestamp;
use hookline_sandbox::salesforce::{Salesforce as StandIn, SalesforceEndpoint, SalesforceOptions, SalesforceRecord};
use hookline_sandbox::{Fault, FaultRule};
use hookline_store::model::{PersonFacts, Thread, ThreadMessage};
use hookline_store::{Location, Store, StoreOptions};
use hookline_worker::calls::log::CallLog;
use hookline_worker::delivery::handler::{Attempt, HandlerError};
use hookline_worker::destinations::error::DestinationError;
use hookline_worker::records::salesforce::Salesforce;
use hookline_worker::records::{
    FlagWrite, NoteError, NotePart, OptOutFlag, Person, PersonId, SystemOfRecord as _, Upserted,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) const PHONE: &str = "+14155550123";
pub(crate) const OTHER_PHONE: &str = "+14155550188";
pub(crate) const CONTACT: &str = "/contacts/Bn3RkQ8";
const TIMEOUT: Duration = Duration::from_millis(1500);

pub(crate) struct TestCrm {
    pub(crate) crm: StandIn,
    pub(crate) salesforce: Arc<Salesforce>,
    pub(crate) store: Store,
    settings: SystemOfRecordSettings,
    event: Event,
    calls: CallLog,
    _store_dir: TempDir,
    shutdown: CancellationToken,
}

/// Adds every field that the connector needs, as the metadata package does.
pub(crate) fn install(crm: &StandIn) {
    crm.add_hookline_fields("TextUs_Thread_Key__c", "TextUs_Contact_Id__c", "SMS_Opted_Out__c");
}

impl TestCrm {
    /// Starts an org with every field.
    pub(crate) async fn start() -> Self {
        Self::with(|_options| {}, |_settings| {}).await
    }

    pub(crate) async fn with(
        change: impl FnOnce(&mut SalesforceOptions),
        set: impl FnOnce(&mut SystemOfRecordSettings),
    ) -> Self {
        let mut options = SalesforceOptions::default();
        change(&mut options);
        let (id, secret) = (options.client_id.clone(), options.client_secret.clone());
        let crm = StandIn::start(options).await.expect("the stand-in starts");
        install(&crm);
        let store_dir = tempfile::tempdir().expect("a directory");
        let mut settings = Settings::defaults().system_of_record;
        let own = &mut settings.salesforce;
        own.base_url = Some(crm.base_url().parse().expect("a URL"));
        own.client_id = Some(Secret::new(id));
        own.client_secret = Some(Secret::new(secret));
        own.timeout = TIMEOUT;
        own.objects = vec![Kind::Contact, Kind::Lead];
        set(&mut settings);
        let shutdown = CancellationToken::new();
        let (salesforce, store) = process(&settings, &store_dir, &shutdown).await;
        let (event, calls) = (an_event("message.received"), CallLog::default());
        Self { crm, salesforce, store, settings, event, calls, _store_dir: store_dir, shutdown }
    }

    pub(crate) fn settings_with_secret(&self, secret: &str) -> Settings {
        let mut settings = Settings::defaults();
        settings.system_of_record = self.settings.clone();
        settings.system_of_record.salesforce.client_secret = Some(Secret::new(secret));
        settings
    }

    pub(crate) fn attempt(&self) -> Attempt<'_> {
        Attempt { event: &self.event, owner: "test", calls: &self.calls, first_claim: None }
    }

    pub(crate) fn log(&self) -> &CallLog {
        &self.calls
    }

    pub(crate) async fn find(
        &self,
        contact_id: Option<&str>,
        number: Option<&str>,
    ) -> Result<Vec<Person>, HandlerError> {
        let phone = number.map(phone);
        self.salesforce.find_people(&self.attempt(), contact_id, phone.as_ref()).await
    }

    pub(crate) async fn find_ids(&self, contact_id: Option<&str>, number: Option<&str>) -> Vec<String> {
        let found = self.find(contact_id, number).await.expect("Salesforce answers");
        found.into_iter().map(|person| person.id.0).collect()
    }

    pub(crate) async fn upsert(&self, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        self.salesforce.upsert_person(&self.attempt(), facts).await
    }

    pub(crate) async fn write(&self, person: &str, part: &Part) -> Result<String, NoteError> {
        self.salesforce.notes().write(&self.attempt(), &a_person(person), &part.part()).await
    }

    pub(crate) async fn flag(&self, person: &str, number: &str, flag: &OptOutFlag) -> Result<FlagWrite, HandlerError> {
        self.salesforce.set_opt_out(&self.attempt(), &a_person(person), &phone(number), flag).await
    }

    pub(crate) fn fail_once(&self, on: SalesforceEndpoint, fault: Fault) {
        self.crm.fault(FaultRule::new(fault).on(on).times(1));
    }

    /// Checks that the connector did nothing that Salesforce would not have wanted.
    pub(crate) fn check(&self) {
        assert_eq!(self.crm.violations(), [], "violations");
        assert_eq!(self.crm.orphans(), [""; 0], "orphans");
    }

    /// Returns a contact or a lead.
    pub(crate) fn person(&self, id: &str) -> SalesforceRecord {
        let people = self.crm.contacts().into_iter().chain(self.crm.leads());
        people.into_iter().find(|person| person.id == id).expect("a person")
    }

    pub(crate) fn only_task(&self) -> SalesforceRecord {
        let mut tasks = self.crm.tasks();
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks.pop().expect("one")
    }

    /// Returns the calls that were made, without those for the token, the versions and the status.
    pub(crate) fn calls(&self) -> Vec<String> {
        let requests = self.crm.requests().into_iter().map(|request| format!("{} {}", request.method, request.path));
        requests.filter(|call| !call.contains("oauth2") && !call.ends_with("/services/data/")).collect()
    }
}

impl Drop for TestCrm {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn process(
    settings: &SystemOfRecordSettings,
    dir: &TempDir,
    shutdown: &CancellationToken,
) -> (Arc<Salesforce>, Store) {
    let options = StoreOptions {
        location: Location::Sqlite(dir.path().to_owned()),
        ledger_key: Secret::new("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
    };
    let store = Store::open(options).await.expect("the store opens");
    let metrics = Arc::new(Metrics::new(Role::Worker, &["textus"]));
    let salesforce = Arc::new(Salesforce::new(settings, store.clone(), &metrics).expect("a client"));
    let gate = Arc::clone(salesforce.gate().expect("Salesforce has a gate"));
    gate.refresh().await.expect("the store answers");
    tokio::spawn(Arc::clone(&gate).watch(shutdown.clone()));
    let (of_run, ended_by) = (Arc::clone(&salesforce), shutdown.clone());
    tokio::spawn(async move { of_run.watch(ended_by).await });
    let (of_follow, ended_by) = (store.clone(), shutdown.clone());
    tokio::spawn(async move {
        while !ended_by.is_cancelled() {
            if let Ok((_, rows)) = of_follow.look().await {
                gate.follow(&rows);
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    });
    (salesforce, store)
}

/// One part of a thread's note.
pub(crate) struct Part {
    pub(crate) thread: Thread,
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) remote_id: Option<String>,
    pub(crate) owner: Option<String>,
}

impl Part {
    pub(crate) fn new(text: &str) -> Self {
        let event = an_event("message.received");
        let message = ThreadMessage {
            message_id: "/messages/1".to_owned(),
            event_id: event.id,
            event_time: at("2026-11-02T15:04:05Z"),
            is_inbound: true,
            outcome: MessageOutcome::Received,
            body: text.to_owned(),
            author: None,
            author_email: None,
            media: Vec::new(),
            is_stop: false,
            occurred_at: at("2026-11-02T15:04:05Z"),
        };
        let thread = Thread {
            thread_id: "thread_00112233445566778899aabbccddeeff".to_owned(),
            account: "acme".to_owned(),
            phone: Some(PHONE.to_owned()),
            contact_id: Some(CONTACT.to_owned()),
            business_number: None,
            day: "2026-11-02".to_owned(),
            messages: vec![message],
        };
        Self { key: thread.thread_id.clone(), thread, text: text.to_owned(), remote_id: None, owner: None }
    }

    pub(crate) fn second(text: &str) -> Self {
        let part = Self::new(text);
        Self { key: format!("{}-2", part.key), ..part }
    }

    pub(crate) fn again(self, remote_id: &str, text: &str) -> Self {
        Self { remote_id: Some(remote_id.to_owned()), text: text.to_owned(), ..self }
    }

    fn part(&self) -> NotePart<'_> {
        let (key, text, remote_id) = (&self.key, &self.text, self.remote_id.as_deref());
        NotePart { thread: &self.thread, key, text, remote_id, owner: self.owner.as_deref() }
    }

    pub(crate) fn owned_by(self, owner: &str) -> Self {
        Self { owner: Some(owner.to_owned()), ..self }
    }
}

pub(crate) fn a_person(id: &str) -> Person {
    Person {
        id: PersonId(id.to_owned()),
        contact_id: None,
        phones: Vec::new(),
        name: None,
        has_owner: false,
        created_at: None,
    }
}

pub(crate) fn facts(contact_id: Option<&str>, phones: &[&str], name: Option<&str>) -> PersonFacts {
    PersonFacts {
        contact_id: contact_id.map(str::to_owned),
        phones: phones.iter().map(|text| phone(text)).collect(),
        name: name.map(str::to_owned),
    }
}

pub(crate) fn phone(text: &str) -> Phone {
    Phone::parse(text).expect("a phone number")
}

pub(crate) fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

/// Returns the failure of a call.
pub(crate) fn failure(error: HandlerError) -> DestinationError {
    match error {
        HandlerError::Destination { error, .. } => error,
        other @ (HandlerError::Store(_)
        | HandlerError::Wait { .. }
        | HandlerError::TryAgain { .. }
        | HandlerError::GiveUp { .. }) => panic!("{other:?}"),
    }
}

pub(crate) fn note_failure(error: NoteError) -> DestinationError {
    match error {
        NoteError::Failed(error) => failure(error),
        NoteError::PersonIsGone | NoteError::NoteIsGone => panic!("{error:?}"),
    }
}

/// Waits for at most ten seconds until something holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
