//! Builders that set only what a test is about. `database.rs` opens the store itself; each of the two test programs has
//! its own.

use std::time::Duration;

use bytes::Bytes;
use hookline_broker::DeadLetterInfo;
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::names::{DeadReason, Destination, HandlerName, Verdict};
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::model::AttemptRecord;

pub(crate) use crate::database::TestStore;

pub(crate) fn textus() -> SourceName {
    SourceName::new("textus").expect("a name")
}

pub(crate) fn id_of(name: &str) -> EventId {
    EventId::derive(&textus(), Some(name), b"")
}

pub(crate) fn event(name: &str) -> Event {
    event_at(name, Timestamp::now(), b"{}")
}

pub(crate) fn event_at(name: &str, received_at: Timestamp, body: &[u8]) -> Event {
    Event {
        id: id_of(name),
        source: textus(),
        source_event_id: Some(name.to_owned()),
        event_type: EventType::new("message.received"),
        received_at,
        content_type: Some("application/json".to_owned()),
        request_id: None,
        traceparent: None,
        body: Bytes::copy_from_slice(body),
    }
}

pub(crate) fn phone() -> Phone {
    Phone::parse("+12025550147").expect("a number")
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
}

pub(crate) fn attempt(event: &Event, handler: HandlerName, attempt: u32, verdict: Verdict) -> AttemptRecord {
    AttemptRecord {
        event_id: event.id.clone(),
        handler,
        attempt,
        started_at: Timestamp::now(),
        duration: Duration::from_millis(12),
        verdict,
        detail: None,
        requests: Vec::new(),
    }
}

pub(crate) fn dead(reason: DeadReason, dead_lettered_at: Timestamp) -> DeadLetterInfo {
    DeadLetterInfo {
        reason,
        destination: Some(Destination::TextUs),
        status: Some(422),
        detail: "the number is not textable".to_owned(),
        attempts: 3,
        dead_lettered_at,
    }
}
