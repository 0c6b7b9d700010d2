//! Reads the two things ingest needs from a signed TextUs body: the sender's `id` for the post and its `action`
//! (<https://apidocs.next.textus.com/overview/webhooks/webhooks-overview>). Everything else is the worker's.
//!
//! A signed body is never refused. What `serde_json` cannot read as a whole (not JSON, invalid UTF-8, nested deeper
//! than 128, a lone surrogate, nothing at all), what is no object, and what has no usable `action` becomes an
//! event of type `unparsed`, kept for review. Of duplicate keys the last counts, as in Ruby and JavaScript.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use hookline_common::event::{Event, EventId, EventType, SourceName};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::sources::{RequestFacts, Verified};

/// A longer id still makes the event id, but is not carried along: it has to fit headers and indexes.
const MAX_KEPT_ID_BYTES: usize = 512;

/// Makes the event. Its id comes from the sender's `id`, or from the bytes where there is no usable one (absent,
/// no string, blank).
#[must_use]
pub fn read(source: &SourceName, body: Verified<Bytes>, facts: RequestFacts) -> Verified<Event> {
    let bytes = body.get();
    let envelope = Envelope::read(bytes).unwrap_or_default();
    let sent_id = envelope.id.as_deref().filter(|id| !id.trim().is_empty());
    let event_type = envelope.action.as_deref().filter(|action| is_usable(action)).map(EventType::new);

    Verified::vouched_for(Event {
        id: EventId::derive(source, sent_id, bytes),
        source: source.clone(),
        source_event_id: sent_id
            .filter(|id| id.len() <= MAX_KEPT_ID_BYTES && !id.chars().any(char::is_control))
            .map(str::to_owned),
        event_type: event_type.unwrap_or_else(EventType::unparsed),
        received_at: facts.received_at,
        content_type: facts.content_type,
        request_id: facts.request_id,
        traceparent: facts.traceparent,
        body: bytes.clone(),
    })
}

/// A type is shown in tables and stored as text, where control characters do harm (PostgreSQL refuses NUL).
fn is_usable(action: &str) -> bool {
    !action.trim().is_empty() && !action.chars().any(char::is_control)
}

#[derive(Debug, Default, PartialEq)]
struct Envelope<'a> {
    id: Option<Cow<'a, str>>,
    action: Option<Cow<'a, str>>,
}

impl<'a> Envelope<'a> {
    /// One pass, no tree: nothing but the two strings is kept.
    fn read(body: &'a [u8]) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let envelope = json.deserialize_map(EnvelopeVisitor).ok()?;
        json.end().ok()?;
        Some(envelope)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            match key {
                Key::Id => envelope.id = map.next_value_seed(Value { keep: true })?,
                Key::Action => envelope.action = map.next_value_seed(Value { keep: true })?,
                Key::Other => drop(map.next_value_seed(Value { keep: false })?),
            }
        }
        Ok(envelope)
    }
}

enum Key {
    Id,
    Action,
    Other,
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(match key {
            "id" => Key::Id,
            "action" => Key::Action,
            _ => Key::Other,
        })
    }
}

/// Reads any value to its end, with every rule that the worker's reading will apply; `serde`'s `IgnoredAny` would
/// skip UTF-8, surrogates and the limit of nesting. Returns the text where the value is a string to `keep`.
#[derive(Clone, Copy)]
struct Value {
    keep: bool,
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(self.keep.then_some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.keep.then(|| Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element_seed(Self { keep: false })?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_key_seed(KeySeed)?.is_some() {
            map.next_value_seed(Self { keep: false })?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use hookline_common::time::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn event(body: &[u8]) -> Event {
        let facts = RequestFacts {
            received_at: Timestamp::from_millis(1),
            content_type: None,
            request_id: None,
            traceparent: None,
        };
        let source = SourceName::new("textus").unwrap();
        read(&source, Verified::vouched_for(Bytes::copy_from_slice(body)), facts).get().clone()
    }

    fn id_from_bytes(body: &[u8]) -> EventId {
        EventId::derive(&SourceName::new("textus").unwrap(), None, body)
    }

    #[test]
    fn id_and_action_are_read_and_the_bytes_are_kept() {
        let body = br#"{"x":[1,-2,3.5e3,{"id":"inner","action":"inner"}],"id":"/d/1","action":"contact.opted-out"}"#;

        let event = event(body);

        assert_eq!(event.source_event_id.as_deref(), Some("/d/1"));
        assert_eq!(event.event_type.as_str(), "contact.opted_out");
        assert_eq!(&event.body[..], body);
        assert_eq!(event.id, EventId::derive(&event.source, Some("/d/1"), b""));
    }

    #[test]
    fn what_cannot_be_read_is_kept_as_unparsed_under_the_hash_of_its_bytes() {
        let deep = format!(r#"{{"id":"x","action":"contact.created","a":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        let bodies: [&[u8]; 13] = [
            b"",
            b" ",
            b"hello",
            b"[]",
            b"null",
            b"\"action\"",
            br#"{"id":"x","action":"contact.created""#,
            br#"{"id":"x","action":"contact.created"} trailing"#,
            br#"{"id":"x","action":"contact.created",}"#,
            b"{\"id\":\"x\",\"action\":\"contact.created\",\"a\":\"\xff\"}",
            br#"{"id":"x","action":"contact.created","a":"\ud800"}"#,
            b"\xef\xbb\xbf{\"id\":\"x\",\"action\":\"contact.created\"}",
            deep.as_bytes(),
        ];
        for body in bodies {
            let event = event(body);

            let shown = String::from_utf8_lossy(body);
            assert_eq!(event.event_type, EventType::unparsed(), "{shown}");
            assert_eq!((event.id, event.source_event_id), (id_from_bytes(body), None), "{shown}");
        }
    }

    #[test]
    fn a_body_with_an_id_but_no_usable_action_is_unparsed_under_its_id() {
        for action in ["5", "null", "[\"contact.created\"]", "{}", "true", "\"\"", "\"  \"", r#""a\u0000b""#] {
            let body = format!(r#"{{"id":"/d/1","action":{action}}}"#);

            let event = event(body.as_bytes());

            assert_eq!(event.event_type, EventType::unparsed(), "{action}");
            assert_eq!(event.source_event_id.as_deref(), Some("/d/1"), "{action}");
        }
    }

    #[test]
    fn an_unusable_id_leaves_the_id_to_the_bytes() {
        for id in ["5", "null", "\"\"", "\" \"", "{\"id\":\"x\"}"] {
            let body = format!(r#"{{"id":{id},"action":"contact.created"}}"#);

            let event = event(body.as_bytes());

            assert_eq!(event.event_type.as_str(), "contact.created", "{id}");
            assert_eq!((event.id, event.source_event_id), (id_from_bytes(body.as_bytes()), None), "{id}");
        }
    }

    #[test]
    fn of_duplicate_keys_the_last_counts() {
        let twice = event(br#"{"id":"a","action":"contact.created","id":"b","action":"contact.opted_in"}"#);
        assert_eq!(twice.source_event_id.as_deref(), Some("b"));
        assert_eq!(twice.event_type.as_str(), "contact.opted_in");

        let undone = event(br#"{"id":"a","action":"contact.created","id":1,"action":null}"#);
        assert_eq!((undone.event_type, undone.source_event_id), (EventType::unparsed(), None));

        let escaped = event(br#"{"id":"a","\u0069d":"b","action":"contact.created"}"#);
        assert_eq!(escaped.source_event_id.as_deref(), Some("b"));
    }

    #[test]
    fn an_id_that_does_not_fit_headers_makes_the_event_id_but_is_not_carried() {
        let long = "x".repeat(MAX_KEPT_ID_BYTES + 1);
        for id in [long.as_str(), "a\\u0000b"] {
            let first = event(format!(r#"{{"id":"{id}","action":"contact.created"}}"#).as_bytes());
            let repeat = event(format!(r#"{{"action":"contact.created","id":"{id}"}}"#).as_bytes());

            assert_eq!(first.id, repeat.id);
            assert_eq!(first.source_event_id, None);
        }
    }

    /// JSON-like text, so that most of the cases come near to being valid.
    fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: &[&[u8]] = &[
            b"{",
            b"}",
            b"[",
            b"]",
            b":",
            b",",
            b" ",
            b"null",
            b"-0",
            b"1e999",
            b"18446744073709551616",
            b"\"id\"",
            b"\"action\"",
            b"\"x\"",
            b"\"\\u0041\"",
            b"\"\\ud83d\"",
            b"\"\xc3\"",
            b"{\"id\":",
            b"{\"id\":[",
            b"{\"id\":\"a\",\"action\":",
            b"\"b\"}",
        ];
        let piece = prop::sample::select(PIECES);
        prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn reading_in_one_pass_agrees_with_reading_the_whole_tree(body in nearly_json()) {
            let text = |tree: &serde_json::Value, key: &str| {
                tree.get(key).and_then(|value| value.as_str()).map(|text| Cow::Owned(text.to_owned()))
            };
            let tree = serde_json::from_slice::<serde_json::Value>(&body).ok().filter(serde_json::Value::is_object);
            let expected = tree.map(|tree| Envelope { id: text(&tree, "id"), action: text(&tree, "action") });

            prop_assert_eq!(Envelope::read(&body), expected);
        }
    }
}
