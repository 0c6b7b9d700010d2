//! How queues, handlers and events are encoded in the file. The codes never change, because files outlive versions.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use hookline_common::event::{Event, EventId, EventType, Keyword, SourceName};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::time::Timestamp;

use crate::topology::{self};

/// The number of queues: the work and the dead queue of each handler have a slot each.
pub(super) const SLOTS: usize = 2 * HandlerName::ALL.len();

/// The bytes of an event id without its prefix.
pub(super) type IdBytes = [u8; 16];

pub(super) const fn code(handler: HandlerName) -> i64 {
    match handler {
        HandlerName::RecordOptOut => 0,
        HandlerName::FlagOptOut => 1,
        HandlerName::LogNote => 2,
        HandlerName::CreateContact => 3,
        HandlerName::SyncContact => 4,
        HandlerName::RecordHistory => 5,
    }
}

/// Decodes a handler; `None` for a handler of a newer version.
pub(super) fn handler(of: i64) -> Option<HandlerName> {
    HandlerName::ALL.iter().copied().find(|handler| code(*handler) == of)
}

pub(super) fn slot(queue: Queue) -> usize {
    let work = 2 * usize::try_from(code(queue.handler())).unwrap_or_default();
    match queue {
        Queue::Work(_) => work,
        Queue::Dead(_) => work + 1,
    }
}

pub(super) fn queue(handler: HandlerName, dead: bool) -> Queue {
    if dead { Queue::Dead(handler) } else { Queue::Work(handler) }
}

/// One piece of SQL per queue, in the order of the slots.
pub(super) fn each_slot(sql: impl Fn(usize, i64, u8) -> String) -> Vec<String> {
    let mut pieces = vec![String::new(); SLOTS];
    for handler in HandlerName::ALL {
        for dead in [false, true] {
            let slot = slot(queue(*handler, dead));
            pieces[slot] = sql(slot, code(*handler), u8::from(dead));
        }
    }
    pieces
}

/// The message of a queue row, whose id is `seq * 16 + handler`.
pub(super) const fn message_of_row(id: i64) -> i64 {
    id >> 4
}

/// The enabled handlers that take an event, one bit each.
pub(super) fn routed(enabled: &[HandlerName], event_type: &EventType) -> i64 {
    let taking = enabled.iter().filter(|handler| topology::takes(**handler, event_type));
    taking.fold(0, |mask, handler| mask | 1 << code(*handler))
}

pub(super) fn handlers_in(mask: i64) -> Vec<HandlerName> {
    HandlerName::ALL.iter().copied().filter(|handler| mask >> code(*handler) & 1 == 1).collect()
}

pub(super) fn id_bytes(id: &EventId) -> IdBytes {
    let mut bytes = [0; 16];
    let digits = id.as_str().strip_prefix("evt_").unwrap_or_default();
    // An `EventId` has 32 hexadecimal digits by construction.
    let decoded = hex::decode_to_slice(digits, &mut bytes);
    debug_assert!(decoded.is_ok());
    bytes
}

/// The event without id, time and body, as JSON, so that there is one value to bind instead of six. Fields of a newer
/// version are ignored.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    source: std::borrow::Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    event_type: std::borrow::Cow<'a, str>,
    #[serde(rename = "kw", borrow, default, skip_serializing_if = "Option::is_none")]
    keyword: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "sid", default, skip_serializing_if = "Option::is_none")]
    source_event_id: Option<String>,
    #[serde(rename = "ct", default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(rename = "rid", default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(rename = "tp", default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

/// An event as a row of `messages`.
pub(super) struct MessageRow {
    pub(super) event_id: IdBytes,
    pub(super) received_ms: i64,
    pub(super) routed: i64,
    pub(super) head: String,
    pub(super) body: Bytes,
}

impl MessageRow {
    pub(super) fn new(event: &Event, enabled: &[HandlerName]) -> Self {
        let head = Head {
            source: event.source.as_str().into(),
            event_type: event.event_type.as_str().into(),
            keyword: event.event_type.keyword().map(|keyword| keyword.as_str().into()),
            source_event_id: event.source_event_id.clone(),
            content_type: event.content_type.clone(),
            request_id: event.request_id.clone(),
            traceparent: event.traceparent.clone(),
        };
        Self {
            event_id: id_bytes(&event.id),
            received_ms: event.received_at.as_millis(),
            routed: routed(enabled, &event.event_type),
            // Serialising cannot fail: a struct of strings always has a JSON form.
            head: serde_json::to_string(&head).unwrap_or_default(),
            body: event.body.clone(),
        }
    }
}

/// Reads `seq, event_id, received_ms, routed, head, body`.
pub(super) fn event(row: &SqliteRow) -> Result<(i64, i64, Event), sqlx::Error> {
    let seq = row.try_get(0)?;
    let event_id: &[u8] = row.try_get(1)?;
    // The error must not quote the value, which may be a sender's text: it stays out of the logs.
    let unreadable = |what: &'static str| sqlx::Error::Decode(what.into());
    let head: &str = row.try_get(4)?;
    let head: Head<'_> = serde_json::from_str(head).map_err(|_| unreadable("event head"))?;
    let event = Event {
        id: EventId::parse(&format!("evt_{}", hex::encode(event_id))).map_err(|_| unreadable("event id"))?,
        source: SourceName::new(&head.source).ok_or_else(|| unreadable("source"))?,
        event_type: EventType::new(&head.event_type).with_keyword(head.keyword.as_deref().and_then(Keyword::parse)),
        source_event_id: head.source_event_id,
        received_at: Timestamp::from_millis(row.try_get(2)?),
        content_type: head.content_type,
        request_id: head.request_id,
        traceparent: head.traceparent,
        body: Bytes::from(row.try_get::<Vec<u8>, _>(5)?),
    };
    Ok((seq, row.try_get(3)?, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_handler_has_a_code_of_its_own_that_fits_a_row_id() {
        let mut codes: Vec<i64> = HandlerName::ALL.iter().map(|handler| code(*handler)).collect();
        codes.sort_unstable();
        codes.dedup();

        assert_eq!(codes.len(), HandlerName::ALL.len());
        assert!(codes.iter().all(|code| (0..16).contains(code)));
        for handler_name in HandlerName::ALL {
            assert_eq!(handler(code(*handler_name)), Some(*handler_name));
            assert!(slot(Queue::Dead(*handler_name)) < SLOTS);
        }
    }
}
