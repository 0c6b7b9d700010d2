//! Builders that set only what a test is about. `database.rs` opens the store itself; each of the two test programs has
//! its own.

use std::time::Duration;

use bytes::Bytes;
use hookline_broker::DeadLetterInfo;
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::names::{DeadReason, Destination, HandlerName, Verdict};
use hookline_common::note_text::MessageOutcome;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{AttemptRecord, NewNote, Thread, ThreadMessage};

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

/// Attaches one message to a person, by a thread of its own.
pub(crate) async fn add_note(store: &Store, person_id: &str, note: &NewNote) {
    let message = ThreadMessage {
        message_id: note.message_id.clone(),
        event_id: note.event_id.clone(),
        event_time: note.occurred_at,
        is_inbound: note.direction == "in",
        outcome: MessageOutcome::Received,
        body: note.body.clone(),
        author: note.user.clone(),
        author_email: None,
        media: Vec::new(),
        is_stop: false,
        occurred_at: note.occurred_at,
    };
    let thread = Thread {
        thread_id: format!("thread of {}", note.message_id),
        account: "acme".to_owned(),
        phone: note.phone.clone(),
        contact_id: note.contact_id.clone(),
        business_number: note.business_number.clone(),
        day: "2026-11-02".to_owned(),
        messages: vec![message],
    };
    store.add_thread_notes(person_id, &thread).await.expect("the store answers");
}
