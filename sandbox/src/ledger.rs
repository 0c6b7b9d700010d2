//! Records which requests arrived and which writes took effect, as the tests' oracle. Nothing here influences an
//! answer.

use std::collections::VecDeque;

use hyper::Method;
use jiff::Timestamp;

use crate::route::Endpoint;

/// One write that took effect, whether or not its answer arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub at: Timestamp,
    pub method: Method,
    /// The path as it was sent: percent-encoded, with the query.
    pub path: String,
    pub account: String,
    pub kind: EffectKind,
    /// The subject of the write. For opt-outs the phone in E.164. For created contacts the first phone in E.164, or the
    /// name if there is no phone. For updated contacts the contact's id. For notes the contact's id, a blank and the
    /// content. For integrations the id.
    pub key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EffectKind {
    /// Every PUT of an opt-out counts, including a repeat that changed nothing.
    OptOutPut,
    ContactCreated,
    ContactUpdated,
    NoteCreated,
    IntegrationCreated,
    IntegrationUpdated,
}

/// One request that reached the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRequest {
    /// When the request's head was read.
    pub at: Timestamp,
    pub method: Method,
    /// The path as it was sent: percent-encoded, with the query.
    pub path: String,
    /// `None` if no such endpoint exists.
    pub endpoint: Option<Endpoint>,
    /// The account in the path, or that of the message, conversation or contact that the path names.
    pub account: Option<String>,
    /// The number that the path or the query is about, in E.164 and in its most likely reading.
    pub phone: Option<String>,
    /// Whether the request was carried out as a write, whatever was answered.
    pub effect: bool,
    /// The status that was sent. `None` while there is no answer, and if a fault prevented it or the client
    /// disconnected.
    pub status: Option<u16>,
    /// When the status was sent.
    pub answered_at: Option<Timestamp>,
    /// Whether the answer was the API's own and complete: no fault made it or changed its body.
    pub genuine: bool,
    /// Whether the answer was marked as the sandbox's; `false` while there is none.
    pub marked: bool,
    /// The value of the `Idempotency-Key` header, which TextUs itself ignores.
    pub idempotency_key: Option<String>,
}

/// A request that a correct client would not have sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub at: Timestamp,
    pub method: Method,
    pub path: String,
    pub what: String,
}

/// Maximum number of requests that are kept. The number suffices for any test and bounds the memory of `hookline dev`,
/// which may run for weeks.
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
    /// Records a request and returns the number by which [`Self::answered`] finds it.
    pub(crate) fn record(&mut self, request: RecordedRequest) -> u64 {
        if self.requests.len() == MAX_REQUESTS {
            self.requests.pop_front();
            self.first += 1;
        }
        self.requests.push_back(request);
        self.first + self.requests.len() as u64 - 1
    }

    /// Records a request's answer. This function and the next ignore a request that was cleared meanwhile.
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
