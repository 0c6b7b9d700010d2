//! What was asked and what took effect: the oracle of tests. Nothing here influences an answer.

use std::collections::VecDeque;

use hyper::Method;
use jiff::Timestamp;

use crate::route::Endpoint;

/// One write that took effect, whether or not its answer arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub at: Timestamp,
    pub method: Method,
    /// As sent: percent-encoded, with the query.
    pub path: String,
    pub account: String,
    pub kind: EffectKind,
    /// What the write is about. Opt-outs: the phone in E.164. Created contacts: the first phone in E.164, or the
    /// name where there is none. Updated contacts: the contact's id. Notes: the contact's id, a blank, the content. Integrations: the id.
    pub key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EffectKind {
    /// Also a repeat that changed nothing: each counts.
    OptOutPut,
    ContactCreated,
    ContactUpdated,
    NoteCreated,
    IntegrationCreated,
    IntegrationUpdated,
}

/// One request that reached the stand-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRequest {
    /// When its head was read.
    pub at: Timestamp,
    pub method: Method,
    /// As sent: percent-encoded, with the query.
    pub path: String,
    /// `None`: no such endpoint.
    pub endpoint: Option<Endpoint>,
    /// In the path, or that of the message, conversation or contact which the path names.
    pub account: Option<String>,
    /// The number that the path or the query is about, E.164, in the likeliest reading.
    pub phone: Option<String>,
    /// Whether it was carried out as a write, whatever was answered.
    pub effect: bool,
    /// The status that was sent; `None` while there is no answer, and where a fault or the client's leaving lost it.
    pub status: Option<u16>,
    /// When the status was sent.
    pub answered_at: Option<Timestamp>,
    /// Whether the answer was the API's own and whole: no fault made it, or changed its body.
    pub genuine: bool,
    /// Whether the answer said that it is the sandbox's; `false` while there is none.
    pub marked: bool,
    /// The value of the `Idempotency-Key` header, which TextUs itself ignores.
    pub idempotency_key: Option<String>,
}

/// Something that a correct client would not have sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub at: Timestamp,
    pub method: Method,
    pub path: String,
    pub what: String,
}

/// Requests that are remembered. Enough for any test; a bound, as `hookline dev` may run for weeks.
const MAX_REQUESTS: usize = 1_000_000;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) effects: Vec<Effect>,
    pub(crate) violations: Vec<Violation>,
    requests: VecDeque<RecordedRequest>,
    /// The number of the oldest request that is still in `requests`.
    first: u64,
}

impl Ledger {
    /// Records a request and gives the number by which [`Self::answered`] finds it.
    pub(crate) fn record(&mut self, request: RecordedRequest) -> u64 {
        if self.requests.len() == MAX_REQUESTS {
            self.requests.pop_front();
            self.first += 1;
        }
        self.requests.push_back(request);
        self.first + self.requests.len() as u64 - 1
    }

    /// A request that was cleared meanwhile is left alone, here and below.
    pub(crate) fn answered(&mut self, number: u64, status: u16, (genuine, marked): (bool, bool)) {
        if let Some(request) = self.request(number) {
            request.status = Some(status);
            request.answered_at = Some(Timestamp::now());
            (request.genuine, request.marked) = (genuine, marked);
        }
    }

    pub(crate) fn had_effect(&mut self, number: u64) {
        if let Some(request) = self.request(number) {
            request.effect = true;
        }
    }

    fn request(&mut self, number: u64) -> Option<&mut RecordedRequest> {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.requests.get_mut(index))
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.requests.iter().cloned().collect()
    }

    pub(crate) fn clear_requests(&mut self) {
        self.first += self.requests.len() as u64;
        self.requests.clear();
    }
}
