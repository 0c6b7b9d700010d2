//! A user's own endpoint for the http connector. It verifies Standard Webhooks signatures, takes exactly the documents
//! that the connector is documented to send, deduplicates them by id, and upserts threads by `thread_id`.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use hookline_sandbox::receiver::{DocumentType, Receiver, ReceiverOptions};
//! use hookline_sandbox::{Fault, FaultRule};
//!
//! let receiver = Receiver::start(ReceiverOptions::default()).await?;
//! receiver.fault(FaultRule::new(Fault::EffectThenReset).on(DocumentType::ThreadWritten).times(1));
//! // ... point a client at receiver.url(), with the secret receiver::SECRET ...
//! assert_eq!(receiver.threads().len(), 1);
//! assert!(receiver.violations().is_empty());
//! # Ok(())
//! # }
//! ```

mod document;
mod inbox;
mod options;
mod signature;

use std::net::SocketAddr;

use crate::fault_rule::FaultRule;
use crate::ledger::Violation;
use crate::sandbox::FaultId;
use crate::stand_in::{ApiRequest, StandIn};
use inbox::Inbox;

pub use document::{Document, DocumentType};
pub use inbox::{OptOutState, Person, Thread};
pub use options::{ReceiverOptions, SECRET};
pub use signature::sign;

/// A running receiver. It ends with [`Receiver::stop`], or when it is dropped.
pub struct Receiver {
    stand_in: StandIn<Inbox>,
}

impl Receiver {
    /// Listens and serves on the caller's tokio runtime.
    ///
    /// # Errors
    /// Fails when the address cannot be bound.
    pub async fn start(options: ReceiverOptions) -> anyhow::Result<Self> {
        let stand_in = StandIn::start(options.listen, Inbox::new(options)).await?;
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

    /// Returns the address that takes documents.
    #[must_use]
    pub fn url(&self) -> String {
        self.base_url() + &self.stand_in.with(|inbox| inbox.options.path.clone())
    }

    /// Closes the listener and every connection, and waits until all are gone.
    pub async fn stop(&self) {
        self.stand_in.stop().await;
    }

    /// Changes how the receiver behaves from the next request on; the address stays.
    pub fn configure(&self, change: impl FnOnce(&mut ReceiverOptions)) {
        self.stand_in.with(|inbox| change(&mut inbox.options));
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

    /// Adds a person as if known from elsewhere.
    pub fn add_person(&self, person: Person) {
        self.stand_in.with(|inbox| inbox.people.push(person));
    }

    /// Removes a person, if there is one with this id.
    pub fn remove_person(&self, id: &str) {
        self.stand_in.with(|inbox| inbox.people.retain(|person| person.id != id));
    }

    /// Returns the threads, ordered by `thread_id`.
    #[must_use]
    pub fn threads(&self) -> Vec<Thread> {
        self.stand_in.with(|inbox| inbox.threads.values().cloned().collect())
    }

    /// Returns the people, oldest first.
    #[must_use]
    pub fn people(&self) -> Vec<Person> {
        self.stand_in.with(|inbox| inbox.people.clone())
    }

    /// Returns the newest news about each number, in order of arrival.
    #[must_use]
    pub fn opt_outs(&self) -> Vec<OptOutState> {
        self.stand_in.with(|inbox| inbox.opt_outs.clone())
    }

    /// Returns every document that was taken, once each, in order of arrival.
    #[must_use]
    pub fn documents(&self) -> Vec<Document> {
        self.stand_in.with(|inbox| inbox.documents.clone())
    }

    /// Returns the newest million requests, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<ApiRequest> {
        self.stand_in.requests()
    }

    /// Returns how many requests had a document of this type.
    #[must_use]
    pub fn requests_to(&self, kind: DocumentType) -> usize {
        self.stand_in.requests_to(kind.into())
    }

    pub fn clear_requests(&self) {
        self.stand_in.clear_requests();
    }

    /// Returns the requests that a correct client would not have sent; a test asserts that there are none.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.stand_in.violations()
    }
}
