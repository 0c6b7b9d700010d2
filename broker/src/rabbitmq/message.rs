//! Converts an event and its delivery state to an AMQP message and back. The body is the sender's bytes; everything
//! else is in properties and `x-hookline-*` headers.
//!
//! Each publish writes its headers anew, from an allow-list: headers that the broker added (`x-death`,
//! `x-delivery-count` and the like) never go out again. On RabbitMQ 3.10 a redriven message that keeps `x-death` counts
//! as a cycle and never leaves the delay queue. We never set `priority` (it re-orders quorum queues from 4.0 on),
//! `expiration`, `user_id` or `CC`.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::Delivery as Message;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use hookline_common::event::{Event, EventId, EventType, Keyword, SourceName};
use hookline_common::names::{DeadReason, Destination, Queue};
use hookline_common::time::Timestamp;

use crate::{Again, DeadLetterInfo, LastFailure};

/// The format version of most messages.
const VERSION: i64 = 1;
/// The format version of an event whose text is only a keyword. A program of the first version would read it as an
/// ordinary text and lose an opt-out.
const KEYWORD_VERSION: i64 = 2;
/// The newest format version that this program can read.
const NEWEST: i64 = KEYWORD_VERSION;
/// The delivery mode of a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;
const APP_ID: &str = concat!("hookline/", env!("CARGO_PKG_VERSION"));
/// The source of a message that is not ours and names no source.
const STRANGER: &str = "unknown";

const HEADER_PREFIX: &str = "x-hookline-";
const H_VERSION: &str = "x-hookline-version";
const H_SOURCE: &str = "x-hookline-source";
const H_SOURCE_EVENT_ID: &str = "x-hookline-source-event-id";
const H_KEYWORD: &str = "x-hookline-keyword";
const H_RECEIVED: &str = "x-hookline-received-ms";
const H_ATTEMPT: &str = "x-hookline-attempt";
const H_FIRST_ATTEMPT: &str = "x-hookline-first-attempt-ms";
const H_RETURNED: &str = "x-hookline-returned";
const H_NOT_BEFORE: &str = "x-hookline-not-before-ms";
const H_LAST_STATUS: &str = "x-hookline-last-status";
const H_LAST_ERROR: &str = "x-hookline-last-error";
const H_COPY: &str = "x-hookline-copy-ms";
const H_REDRIVE: &str = "x-hookline-redrive";
const H_DEAD_REASON: &str = "x-hookline-dead-reason";
const H_DEAD_DESTINATION: &str = "x-hookline-dead-destination";
const H_DEAD_AT: &str = "x-hookline-dead-ms";
const H_TRACEPARENT: &str = "traceparent";
const H_TRACESTATE: &str = "tracestate";
/// The broker's own count of unsettled deliveries (<https://www.rabbitmq.com/docs/quorum-queues>).
const H_DELIVERY_COUNT: &str = "x-delivery-count";

/// The part of a delivery that changes from publish to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeliveryState {
    /// Counted from 1.
    pub(super) attempt: u32,
    /// `None` until the delivery was first handed out.
    pub(super) first_attempt_at: Option<Timestamp>,
    /// How often the delivery was handed out and came back without a settlement. RabbitMQ counts this per message, and a
    /// delivery that is parked continues in another message.
    pub(super) returned: u32,
    /// Until when the delivery must wait, perhaps in several tiers.
    pub(super) not_before: Option<Timestamp>,
    pub(super) last: Option<LastFailure>,
    pub(super) again: Option<Again>,
    /// When the delivery was published anew.
    pub(super) copy: Option<Timestamp>,
    pub(super) dead: Option<DeadLetterInfo>,
}

impl DeliveryState {
    /// The state of a delivery that was never handed out.
    pub(super) const fn new() -> Self {
        Self {
            attempt: 1,
            first_attempt_at: None,
            returned: 0,
            not_before: None,
            last: None,
            again: None,
            copy: None,
            dead: None,
        }
    }
}

/// The content of a delivery's message.
pub(super) struct Read {
    pub(super) event: Event,
    pub(super) state: DeliveryState,
}

/// The properties of a message that carries `event`.
pub(super) fn properties(event: &Event, state: &DeliveryState) -> BasicProperties {
    let mut headers = Headers::default();
    let keyword = event.event_type.keyword();
    headers.number(H_VERSION, if keyword.is_some() { KEYWORD_VERSION } else { VERSION });
    headers.maybe_text(H_KEYWORD, keyword.map(Keyword::as_str));
    headers.text(H_SOURCE, event.source.as_str());
    headers.maybe_text(H_SOURCE_EVENT_ID, event.source_event_id.as_deref());
    headers.number(H_RECEIVED, event.received_at.as_millis());
    headers.number(H_ATTEMPT, i64::from(state.attempt));
    headers.maybe_number(H_FIRST_ATTEMPT, state.first_attempt_at.map(Timestamp::as_millis));
    headers.maybe_number(H_RETURNED, (state.returned > 0).then_some(state.returned.into()));
    headers.maybe_number(H_NOT_BEFORE, state.not_before.map(Timestamp::as_millis));
    let (mut status, mut words) = match &state.last {
        Some(last) => (last.status, Some(last.detail.as_str())),
        None => (None, None),
    };
    if let Some(dead) = &state.dead {
        (status, words) = (dead.status, Some(dead.detail.as_str()));
        headers.text(H_DEAD_REASON, dead.reason.as_str());
        headers.maybe_text(H_DEAD_DESTINATION, dead.destination.map(Destination::as_str));
        headers.number(H_DEAD_AT, dead.dead_lettered_at.as_millis());
    }
    headers.maybe_number(H_LAST_STATUS, status.map(i64::from));
    headers.maybe_text(H_LAST_ERROR, words);
    headers.maybe_text(H_REDRIVE, state.again.map(again_name));
    headers.maybe_number(H_COPY, state.copy.map(Timestamp::as_millis));
    headers.maybe_text(H_TRACEPARENT, event.traceparent.as_deref());

    let seconds = u64::try_from(event.received_at.as_millis() / 1000).unwrap_or_default();
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_timestamp(seconds)
        .with_app_id(APP_ID.into())
        .with_headers(headers.0);
    // Short strings hold at most 255 bytes, and lapin's `From` panics beyond. Ours are shorter: an event id has 36
    // bytes and a type is cut. We drop a request id or content type that is longer, rather than lose the event.
    if let Ok(id) = ShortString::try_new(event.id.as_str()) {
        properties = properties.with_message_id(id);
    }
    if let Ok(event_type) = ShortString::try_new(event.event_type.as_str()) {
        properties = properties.with_type(event_type);
    }
    if let Some(Ok(request_id)) = event.request_id.as_deref().map(ShortString::try_new) {
        properties = properties.with_correlation_id(request_id);
    }
    if let Some(Ok(content_type)) = event.content_type.as_deref().map(ShortString::try_new) {
        properties = properties.with_content_type(content_type);
    }
    properties
}

/// The properties for another round of the same message in a queue. Keeps only our headers and trace headers.
pub(super) fn again(properties: &BasicProperties) -> BasicProperties {
    let ours = |name: &str| name.starts_with(HEADER_PREFIX) || name == H_TRACEPARENT || name == H_TRACESTATE;
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flatten().filter(|(name, _)| ours(name.as_str())) {
        headers.insert(name.clone(), value.clone());
    }
    let mut copy = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    let kept = properties.clone();
    if let Some(id) = kept.message_id() {
        copy = copy.with_message_id(id.clone());
    }
    if let Some(id) = kept.correlation_id() {
        copy = copy.with_correlation_id(id.clone());
    }
    if let Some(kind) = kept.kind() {
        copy = copy.with_type(kind.clone());
    }
    if let Some(content_type) = kept.content_type() {
        copy = copy.with_content_type(content_type.clone());
    }
    if let Some(app_id) = kept.app_id() {
        copy = copy.with_app_id(app_id.clone());
    }
    if let Some(timestamp) = kept.timestamp() {
        copy = copy.with_timestamp(*timestamp);
    }
    copy
}

/// Whether a newer program wrote the message; then this one must not handle it.
pub(super) fn is_newer(properties: &BasicProperties) -> bool {
    number(properties, H_VERSION).is_some_and(|version| version > NEWEST)
}

/// Until when the message must still wait, if its last tier was shorter than its delay.
pub(super) fn not_before(properties: &BasicProperties) -> Option<Timestamp> {
    number(properties, H_NOT_BEFORE).map(Timestamp::from_millis)
}

/// Reads a delivery. Any content becomes an event: if somebody else put the message there, its handler rejects it, and
/// it ends as a dead letter that an operator can inspect.
pub(super) fn read(message: &mut Message, queue: Queue) -> Read {
    let body = Bytes::from(std::mem::take(&mut message.data));
    let properties = &message.properties;
    let event = event(properties, message.routing_key.as_str(), body);
    let attempt = number(properties, H_ATTEMPT).and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1).max(1);
    let status = number(properties, H_LAST_STATUS).and_then(|status| u16::try_from(status).ok());
    let words = text(properties, H_LAST_ERROR);
    let dead = matches!(queue, Queue::Dead(_)).then(|| dead(properties, attempt, status, words.as_deref()));
    let last = match (status, words) {
        (None, None) => None,
        (status, words) => Some(LastFailure { status, detail: words.unwrap_or_default() }),
    };
    let count = |name| number(properties, name).and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    let of_this_message = count(H_DELIVERY_COUNT).max(u32::from(message.redelivered));
    let state = DeliveryState {
        attempt,
        returned: count(H_RETURNED).saturating_add(of_this_message),
        first_attempt_at: number(properties, H_FIRST_ATTEMPT).map(Timestamp::from_millis),
        not_before: None,
        last,
        again: text(properties, H_REDRIVE).as_deref().and_then(read_again),
        copy: number(properties, H_COPY).map(Timestamp::from_millis),
        dead,
    };
    Read { event, state }
}

fn event(properties: &BasicProperties, routing_key: &str, body: Bytes) -> Event {
    let source = text(properties, H_SOURCE).as_deref().and_then(SourceName::new);
    let source = source.or_else(|| SourceName::new(routing_key.split('.').next().unwrap_or_default()));
    let source = source.unwrap_or_else(|| SourceName::new(STRANGER).expect("a constant name"));
    let id = properties.message_id().as_ref().and_then(|id| EventId::parse(id.as_str()).ok());
    let owned = |short: &Option<ShortString>| short.as_ref().map(ToString::to_string);
    let event_type = owned(properties.kind()).map_or_else(EventType::unparsed, |kind| EventType::new(&kind));
    let keyword = text(properties, H_KEYWORD).as_deref().and_then(Keyword::parse);
    Event {
        id: id.unwrap_or_else(|| EventId::derive(&source, None, &body)),
        source,
        source_event_id: text(properties, H_SOURCE_EVENT_ID),
        event_type: event_type.with_keyword(keyword),
        received_at: number(properties, H_RECEIVED).map_or_else(Timestamp::now, Timestamp::from_millis),
        content_type: owned(properties.content_type()),
        request_id: owned(properties.correlation_id()),
        traceparent: text(properties, H_TRACEPARENT),
        body,
    }
}

/// Says why the broker moved a message to the dead letters, by the first entry of `x-death`
/// (<https://www.rabbitmq.com/docs/dlx#effects>).
fn moved_by_the_broker(properties: &BasicProperties) -> String {
    let deaths = properties.headers().as_ref().and_then(|headers| headers.inner().get("x-death"));
    let latest = match deaths {
        Some(AMQPValue::FieldArray(deaths)) => deaths.as_slice().first(),
        _ => None,
    };
    let reason = match latest {
        Some(AMQPValue::FieldTable(death)) => death.inner().get("reason"),
        _ => None,
    };
    match reason {
        Some(AMQPValue::LongString(reason)) if reason.as_bytes() != b"delivery_limit" => {
            format!("RabbitMQ moved it here: x-death says {reason}; look at the policies on hookline.*")
        }
        _ => "handed out too often without being settled: it probably ends the process that handles it".to_owned(),
    }
}

/// Reads why the message is dead. If it has no reason of ours, the broker moved it: it was handed out too often.
fn dead(properties: &BasicProperties, attempts: u32, status: Option<u16>, words: Option<&str>) -> DeadLetterInfo {
    let at = number(properties, H_DEAD_AT).map_or_else(Timestamp::now, Timestamp::from_millis);
    match text(properties, H_DEAD_REASON).and_then(|reason| reason.parse::<DeadReason>().ok()) {
        Some(reason) => DeadLetterInfo {
            reason,
            destination: text(properties, H_DEAD_DESTINATION).and_then(|name| name.parse().ok()),
            status,
            detail: words.unwrap_or_default().to_owned(),
            attempts,
            dead_lettered_at: at,
        },
        None => DeadLetterInfo {
            reason: DeadReason::DeliveryLimit,
            destination: None,
            status: None,
            detail: moved_by_the_broker(properties),
            attempts,
            dead_lettered_at: at,
        },
    }
}

const fn again_name(again: Again) -> &'static str {
    match again {
        Again::Redrive => "redrive",
        Again::Replay => "replay",
    }
}

fn read_again(name: &str) -> Option<Again> {
    [Again::Redrive, Again::Replay].into_iter().find(|again| again_name(*again) == name)
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn text(properties: &BasicProperties, name: &str) -> Option<String> {
    let value = header(properties, name)?;
    value.as_long_string().map(ToString::to_string).or_else(|| value.as_short_string().map(ToString::to_string))
}

fn number(properties: &BasicProperties, name: &str) -> Option<i64> {
    let value = header(properties, name)?;
    // Other clients choose the smallest integer type that fits.
    value
        .as_long_long_int()
        .or_else(|| value.as_long_int().map(i64::from))
        .or_else(|| value.as_long_uint().map(i64::from))
        .or_else(|| value.as_short_int().map(i64::from))
        .or_else(|| value.as_short_short_int().map(i64::from))
}

#[derive(Default)]
struct Headers(FieldTable);

impl Headers {
    fn text(&mut self, name: &'static str, text: &str) {
        self.0.insert(name.into(), AMQPValue::LongString(LongString::from(text)));
    }

    fn number(&mut self, name: &'static str, number: i64) {
        self.0.insert(name.into(), AMQPValue::LongLongInt(number));
    }

    fn maybe_text(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn maybe_number(&mut self, name: &'static str, number: Option<i64>) {
        if let Some(number) = number {
            self.number(name, number);
        }
    }
}
