//! Builders of events. Each call makes a new event, and a test sets only the fields that it is about.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::event::{Event, EventId, EventType, SourceName};
use crate::time::Timestamp;

/// An event of this type with its own delivery id; the body names both.
///
/// # Panics
/// Never, because the source's name is a constant.
#[must_use]
pub fn an_event(event_type: &str) -> Event {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // The id must be unique across processes, because tests run in several against one broker.
    let delivery =
        format!("/integrations/test/deliveries/{}-{:08x}-{number}", std::process::id(), rand::random::<u32>());
    let body = serde_json::json!({ "id": delivery, "action": event_type }).to_string();
    let source = SourceName::new("textus").expect("a valid name");
    Event {
        id: EventId::derive(&source, Some(&delivery), body.as_bytes()),
        source,
        source_event_id: Some(delivery),
        event_type: EventType::new(event_type),
        received_at: Timestamp::now(),
        content_type: Some("application/json".to_owned()),
        request_id: Some(format!("req-{number}")),
        traceparent: None,
        body: Bytes::from(body),
    }
}

/// An event that goes to `record_opt_out`, `flag_opt_out` and `record_history`.
#[must_use]
pub fn an_opt_out() -> Event {
    an_event("contact.opted_out")
}

/// An event that goes to `log_note` and `record_history`.
#[must_use]
pub fn an_inbound_message() -> Event {
    an_event("message.received")
}
