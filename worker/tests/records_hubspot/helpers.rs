//! A stand-in for HubSpot with a connector, its gate and a store of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_common::event::Event;
use hookline_common::note_text::MessageOutcome;
use hookline_common::phone::Phone;
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::settings::{HubSpotObject, HubSpotSettings};
use hookline_common::testing::events::an_event;
use hookline_common::time::Timestamp;
use hookline_sandbox::hubspot::{HubSpot as StandIn, HubSpotOptions, HubSpotRecord};
use hookline_sandbox::{Fault, FaultRule};
use hookline_store::model::{PersonFacts, Thread, ThreadMessage};
use hookline_store::{Location, Store, StoreOptions};
use hookline_worker::calls::log::CallLog;
use hookline_worker::delivery::handler::{Attempt, HandlerError};
use hookline_worker::destinations::error::{DestinationError, Disposition};
use hookline_worker::records::hubspot::HubSpot;
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
    pub(crate) hubspot: Arc<HubSpot>,
    pub(crate) store: Store,
    settings: HubSpotSettings,
    templates: BTreeMap<String, String>,
    event: Event,
    calls: CallLog,
    store_dir: TempDir,
    shutdown: CancellationToken,
}

impl TestCrm {
    /// Starts an account that has every property of contacts.
    pub(crate) async fn start() -> Self {
        Self::with(HubSpotObject::Communication, |_options| {}).await
    }

    pub(crate) async fn with(object: HubSpotObject, change: impl FnOnce(&mut HubSpotOptions)) -> Self {
        let test = Self::bare(object, change).await;
        test.crm.add_hookline_properties("textus_contact_id", "sms_opted_out");
        test
    }

    /// Starts an account without a property of its own.
    pub(crate) async fn bare(object: HubSpotObject, change: impl FnOnce(&mut HubSpotOptions)) -> Self {
        let mut options = HubSpotOptions::default();
        change(&mut options);
        let token = options.token.clone();
        let crm = StandIn::start(options).await.expect("the stand-in starts");
        let store_dir = tempfile::tempdir().expect("a directory");
        let settings = HubSpotSettings {
            base_url: crm.base_url().parse().expect("a URL"),
            token: Some(Secret::new(token)),
            timeout: TIMEOUT,
            object,
            key_property: "textus_thread_key".to_owned(),
            contact_key_property: "textus_contact_id".to_owned(),
            opted_out_property: "sms_opted_out".to_owned(),
        };
        let (shutdown, templates) = (CancellationToken::new(), BTreeMap::new());
        let (hubspot, store) = process((&settings, &templates), &store_dir, &shutdown).await;
        let (event, calls) = (an_event("message.received"), CallLog::default());
        Self { crm, hubspot, store, settings, templates, event, calls, store_dir, shutdown }
    }

    /// Starts an account that has every property of contacts, and a process whose templates fill more.
    pub(crate) async fn filling(templates: &[(&str, &str)]) -> Self {
        let mut test = Self::start().await;
        let owned = |(field, text): &(&str, &str)| ((*field).to_owned(), (*text).to_owned());
        test.templates = templates.iter().map(owned).collect();
        test.restart().await;
        test
    }

    /// Goes on as another process with the same store.
    pub(crate) async fn restart(&mut self) {
        self.shutdown.cancel();
        self.shutdown = CancellationToken::new();
        (self.hubspot, self.store) = process((&self.settings, &self.templates), &self.store_dir, &self.shutdown).await;
    }

    /// Starts another process with the same store.
    pub(crate) async fn another_process(&self) -> Arc<HubSpot> {
        process((&self.settings, &self.templates), &self.store_dir, &self.shutdown).await.0
    }

    pub(crate) fn settings_with_token(&self, token: &str) -> hookline_common::settings::Settings {
        let mut settings = hookline_common::settings::Settings::defaults();
        settings.system_of_record.hubspot =
            HubSpotSettings { token: Some(Secret::new(token)), ..self.settings.clone() };
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
        self.hubspot.find_people(&self.attempt(), contact_id, phone.as_ref()).await
    }

    /// Searches again for as long as one search too many is held.
    pub(crate) async fn find_ids(&self, contact_id: Option<&str>, number: Option<&str>) -> Vec<String> {
        loop {
            let error = match self.find(contact_id, number).await {
                Ok(found) => return found.into_iter().map(|person| person.id.0).collect(),
                Err(error) => failure(error),
            };
            let Disposition::Hold { until, .. } = error.disposition() else { panic!("{error:?}") };
            assert!(!error.is_paused(), "{error:?}");
            tokio::time::sleep(until.since(Timestamp::now())).await;
        }
    }

    pub(crate) async fn upsert(&self, facts: &PersonFacts) -> Result<Upserted, HandlerError> {
        self.hubspot.upsert_person(&self.attempt(), facts).await
    }

    pub(crate) async fn write(&self, person: &str, part: &Part) -> Result<String, NoteError> {
        self.hubspot.notes().write(&self.attempt(), &a_person(person), &part.part()).await
    }

    pub(crate) async fn find_note(&self, person: &str, part: &Part) -> Option<String> {
        self.look_for_note(person, part).await.expect("HubSpot answers")
    }

    pub(crate) async fn look_for_note(&self, person: &str, part: &Part) -> Result<Option<String>, NoteError> {
        self.hubspot.notes().find(&self.attempt(), &a_person(person), &part.part()).await
    }

    pub(crate) async fn flag(&self, person: &str, number: &str, flag: &OptOutFlag) -> Result<FlagWrite, HandlerError> {
        self.hubspot.set_opt_out(&self.attempt(), &a_person(person), &phone(number), flag).await
    }

    pub(crate) fn fail_once(&self, on: hookline_sandbox::hubspot::HubSpotEndpoint, fault: Fault) {
        self.crm.fault(FaultRule::new(fault).on(on).times(1));
    }

    /// Checks that the connector did nothing that HubSpot would not have wanted.
    pub(crate) fn check(&self) {
        assert_eq!(self.crm.violations(), [], "violations");
        assert_eq!(self.crm.orphans(), [""; 0], "orphans");
    }

    pub(crate) fn contact(&self, id: &str) -> HubSpotRecord {
        self.crm.contacts().into_iter().find(|contact| contact.id == id).expect("a contact")
    }
}

impl Drop for TestCrm {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn process(
    (settings, templates): (&HubSpotSettings, &BTreeMap<String, String>),
    dir: &TempDir,
    shutdown: &CancellationToken,
) -> (Arc<HubSpot>, Store) {
    let options = StoreOptions {
        location: Location::Sqlite(dir.path().to_owned()),
        ledger_key: Secret::new("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
    };
    let store = Store::open(options).await.expect("the store opens");
    let metrics = Arc::new(Metrics::new(Role::Worker, &["textus"]));
    let hubspot = HubSpot::new(settings, store.clone(), &metrics).expect("a client").filling(templates);
    let hubspot = Arc::new(hubspot);
    let gate = Arc::clone(hubspot.gate().expect("HubSpot has a gate"));
    gate.refresh().await.expect("the store answers");
    tokio::spawn(Arc::clone(&gate).watch(shutdown.clone()));
    let (of_run, ended_by) = (Arc::clone(&hubspot), shutdown.clone());
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
    (hubspot, store)
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

    /// Returns the body that HubSpot has to have.
    pub(crate) fn body(&self) -> String {
        format!("{}<br><br>ref {}", self.text, self.key)
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
