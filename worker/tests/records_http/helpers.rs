//! A receiver with a connector, its gate and its store.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_common::event::Event;
use hookline_common::note_text::{Media, MessageOutcome};
use hookline_common::phone::Phone;
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::settings::HttpRecordSettings;
use hookline_common::testing::events::an_event;
use hookline_common::time::Timestamp;
use hookline_sandbox::receiver::SECRET;
use hookline_sandbox::{DocumentType, Fault, FaultRule, Receiver, ReceiverOptions};
use hookline_store::model::{PersonFacts, Thread, ThreadMessage};
use hookline_store::{Location, Store, StoreOptions};
use hookline_worker::calls::log::CallLog;
use hookline_worker::delivery::handler::{Attempt, HandlerError};
use hookline_worker::destinations::error::DestinationError;
use hookline_worker::gate::Gate;
use hookline_worker::records::http::HttpRecords;
use hookline_worker::records::{
    FlagWrite, NoteError, NotePart, Notes as _, OptOutFlag, Person, PersonId, SystemOfRecord as _,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) const PHONE: &str = "+12025550147";
pub(crate) const CONTACT: &str = "/contacts/Bn3RkQ8";
pub(crate) const NAME: &str = "Marisol Ektberg";
pub(crate) const TEXT: &str = "Texts with +12025550147, 2026-11-02\n\n15:04 Marisol: Lilac wallpaper";
/// Long for a loopback call on a busy machine, short for a test that waits for it to pass.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(4);

pub(crate) struct TestRecords {
    pub(crate) receiver: Receiver,
    pub(crate) connector: Connector,
    pub(crate) store_dir: TempDir,
}

/// Everything of one worker process that the connector needs.
pub(crate) struct Connector {
    pub(crate) records: Arc<HttpRecords>,
    pub(crate) store: Store,
    pub(crate) log: CallLog,
    pub(crate) metrics: Arc<Metrics>,
    event: Event,
    shutdown: CancellationToken,
}

impl TestRecords {
    pub(crate) async fn start() -> Self {
        Self::with(|_receiver| {}, |_settings| {}).await
    }

    pub(crate) async fn with(
        receiver: impl FnOnce(&mut ReceiverOptions),
        settings: impl FnOnce(&mut HttpRecordSettings),
    ) -> Self {
        let mut options = ReceiverOptions::default();
        receiver(&mut options);
        let receiver = Receiver::start(options).await.expect("a loopback port");
        let mut own = http_settings(&receiver.url());
        settings(&mut own);
        let store_dir = tempfile::tempdir().expect("a directory");
        let connector = Connector::start(&own, &store_dir).await;
        Self { receiver, connector, store_dir }
    }

    pub(crate) fn fail_once(&self, fault: Fault) {
        self.receiver.fault(FaultRule::new(fault).times(1));
    }

    pub(crate) fn answer_once(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.fail_once(Fault::Status { status, headers, body: Some(body.to_owned()) });
    }

    pub(crate) fn asked(&self) -> usize {
        self.receiver.requests().len()
    }

    /// Asserts that every request was as documented.
    pub(crate) fn assert_proper(&self) {
        let violations: Vec<String> = self.receiver.violations().into_iter().map(|violation| violation.what).collect();
        assert_eq!(violations, Vec::<String>::new());
    }

    pub(crate) fn requests_to(&self, kind: DocumentType) -> usize {
        self.receiver.requests_to(kind)
    }
}

impl Connector {
    pub(crate) async fn start(settings: &HttpRecordSettings, store_dir: &TempDir) -> Self {
        let location = Location::Sqlite(store_dir.path().to_owned());
        let ledger_key = Secret::new("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
        let store = Store::open(StoreOptions { location, ledger_key }).await.expect("the store opens");
        let metrics = Arc::new(Metrics::new(Role::Worker, &[]));
        let records = Arc::new(HttpRecords::new(settings, &store, &metrics).expect("a connector"));
        let gate = Arc::clone(records.gate().expect("the connector has a gate"));
        gate.refresh().await.expect("the store answers");
        let shutdown = CancellationToken::new();
        tokio::spawn(Arc::clone(&gate).watch(shutdown.clone()));
        tokio::spawn(follow(store.clone(), gate, shutdown.clone()));
        let (watched, until) = (Arc::clone(&records), shutdown.clone());
        tokio::spawn(async move { watched.watch(until).await });
        Self { records, store, log: CallLog::default(), metrics, event: an_event("message.received"), shutdown }
    }

    /// Makes all calls from now on for another event.
    pub(crate) fn with_event(&mut self, event: Event) {
        self.event = event;
    }

    pub(crate) fn attempt(&self) -> Attempt<'_> {
        Attempt { event: &self.event, owner: "test", calls: &self.log, first_claim: None }
    }

    pub(crate) async fn write(&self, person: &Person, thread: &Thread, text: &str) -> Result<String, DestinationError> {
        let part = NotePart { thread, key: &thread.thread_id, text, remote_id: None, owner: None };
        match self.records.write(&self.attempt(), person, &part).await {
            Ok(id) => Ok(id),
            Err(NoteError::Failed(error)) => Err(of_destination(error)),
            Err(other @ (NoteError::PersonIsGone | NoteError::NoteIsGone)) => panic!("{other:?}"),
        }
    }

    /// Writes the note that tests write if they are not about the note.
    pub(crate) async fn note(&self) -> Result<String, DestinationError> {
        self.write(&sam(), &a_thread(), TEXT).await
    }

    pub(crate) async fn find(
        &self,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<Person>, DestinationError> {
        self.records.find_people(&self.attempt(), contact_id, phone).await.map_err(of_destination)
    }

    /// Tells of a person. Returns their id, and whether anything changed.
    pub(crate) async fn upsert(&self) -> Result<(String, bool), DestinationError> {
        let upserted = self.records.upsert_person(&self.attempt(), &facts()).await.map_err(of_destination)?;
        Ok((upserted.person.id.0, upserted.changed))
    }

    /// Returns whether the receiver took the flag as news.
    pub(crate) async fn opt_out(&self) -> Result<bool, DestinationError> {
        let flagged = self.records.set_opt_out(&self.attempt(), &sam(), &phone(), &an_opt_out()).await;
        flagged.map(|write| write == FlagWrite::Changed).map_err(of_destination)
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        self.records.gate().expect("the connector has a gate")
    }

    pub(crate) fn shows(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|shown| shown == line)
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Follows the store as a worker's single poll does.
async fn follow(store: Store, gate: Arc<Gate>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Ok((_, rows)) = store.look().await {
            gate.follow(&rows);
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

fn of_destination(error: HandlerError) -> DestinationError {
    match error {
        HandlerError::Destination { error, .. } => error,
        other @ (HandlerError::Store(_)
        | HandlerError::Wait { .. }
        | HandlerError::TryAgain { .. }
        | HandlerError::GiveUp { .. }) => panic!("{other}"),
    }
}

pub(crate) fn http_settings(url: &str) -> HttpRecordSettings {
    HttpRecordSettings {
        url: Some(url.parse().expect("a URL")),
        secrets: vec![Secret::new(SECRET)],
        timeout: TIMEOUT,
        allow_private_addresses: false,
        max_per_second: 0,
    }
}

pub(crate) fn phone() -> Phone {
    Phone::parse(PHONE).expect("a phone number")
}

pub(crate) fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

/// A person whom the receiver knows.
pub(crate) fn sam() -> Person {
    Person { id: PersonId("p1".to_owned()), ..textus_own() }
}

/// A person whom only TextUs knows.
pub(crate) fn textus_own() -> Person {
    Person {
        id: PersonId(String::new()),
        contact_id: Some(CONTACT.to_owned()),
        phones: vec![phone()],
        name: None,
        has_owner: false,
        created_at: None,
    }
}

pub(crate) fn facts() -> PersonFacts {
    PersonFacts { contact_id: Some(CONTACT.to_owned()), phones: vec![phone()], name: Some(NAME.to_owned()) }
}

pub(crate) fn an_opt_out() -> OptOutFlag {
    OptOutFlag {
        opted_out: true,
        since: at("2026-11-02T15:04:05Z"),
        opted_out_at: Some(at("2026-11-02T15:04:05Z")),
        opted_in_at: None,
    }
}

/// A thread of one inbound message.
pub(crate) fn a_thread() -> Thread {
    Thread {
        thread_id: "thread_0011".to_owned(),
        account: "acme".to_owned(),
        phone: Some(PHONE.to_owned()),
        contact_id: Some(CONTACT.to_owned()),
        business_number: Some("+12025550100".to_owned()),
        day: "2026-11-02".to_owned(),
        messages: vec![a_message("/messages/a")],
    }
}

pub(crate) fn a_message(message_id: &str) -> ThreadMessage {
    ThreadMessage {
        message_id: message_id.to_owned(),
        event_id: an_event("message.received").id,
        event_time: at("2026-11-02T15:04:06Z"),
        is_inbound: true,
        outcome: MessageOutcome::Received,
        body: "Lilac wallpaper".to_owned(),
        author: None,
        author_email: None,
        media: Vec::new(),
        is_stop: false,
        occurred_at: at("2026-11-02T15:04:05Z"),
    }
}

pub(crate) fn a_picture() -> Media {
    Media { media_type: Some("image/jpeg".to_owned()), url: Some("https://media.example/1.jpg".to_owned()) }
}

/// Waits for at most ten seconds until something holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
