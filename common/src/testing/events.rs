//! Builders of events: each is a new one, and a test sets only what it is about.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::event::{Event, EventId, EventType, SourceName};
use crate::time::Timestamp;

/// An event of this type with a delivery id of its own; the body names both.
///
/// # Panics
/// Never: the source's name is a constant.
#[must_use]
pub fn an_event(event_type: &str) -> Event {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Tests run in several processes against one broker.
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

/// Goes to `record_opt_out`, `flag_opt_out` and `record_history`.
#[must_use]
pub fn an_opt_out() -> Event {
    an_event("contact.opted_out")
}

/// Goes to `log_note` and `record_history`.
#[must_use]
pub fn an_inbound_message() -> Event {
    an_event("message.received")
}
