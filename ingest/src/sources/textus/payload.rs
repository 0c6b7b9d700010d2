//! Reads what ingest needs from a signed TextUs body: the post's `id`, its `action`
//! (<https://apidocs.next.textus.com/overview/webhooks/webhooks-overview>), and, for a received text, whether it
//! consists of a keyword alone. The worker reads everything else.
//!
//! A signed body is never refused. Three kinds of body become an event of type `unparsed`, which is kept for review: a
//! body that cannot be read even after mending (not JSON, nested deeper than 128, empty), a body that is no object, and
//! a body without a usable `action`. The last of several duplicate keys counts, as in Ruby and JavaScript.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use hookline_common::event::{Event, EventId, EventType, SourceName, TEXT_RECEIVED};
use hookline_common::json;
use hookline_common::keywords::Keywords;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::sources::{RequestFacts, Verified};

/// Maximum length of an id that is kept as the source's event id, which has to fit headers and indexes. A longer id
/// still determines the event id.
const MAX_KEPT_ID_BYTES: usize = 512;
/// Replaces what was mended in a body.
const MENDED: char = '\u{fffd}';

/// Makes the event. Its id is derived from the sender's `id`, or from the bytes if there is no usable `id` (absent, no
/// string, blank, or no valid text as it was sent).
#[must_use]
pub fn read(source: &SourceName, keywords: &Keywords, body: Verified<Bytes>, facts: RequestFacts) -> Verified<Event> {
    let bytes = body.get();
    let mended;
    let envelope = match Envelope::read(bytes) {
        Some(envelope) => envelope,
        None => {
            mended = json::mended(bytes);
            Envelope::read(mended.as_bytes()).unwrap_or_default().with_id_as_sent()
        }
    };
    let sent_id = envelope.id.as_deref().filter(|id| !id.trim().is_empty());
    let event_type = envelope.action.as_deref().filter(|action| is_usable(action)).map(EventType::new);
    let event_type = event_type.unwrap_or_else(EventType::unparsed);
    let text = envelope.text.as_deref().filter(|_| event_type.as_str() == TEXT_RECEIVED && !envelope.is_outbound());

    Verified::vouched_for(Event {
        id: EventId::derive(source, sent_id, bytes),
        source: source.clone(),
        source_event_id: sent_id
            .filter(|id| id.len() <= MAX_KEPT_ID_BYTES && !id.chars().any(char::is_control))
            .map(str::to_owned),
        event_type: event_type.with_keyword(text.and_then(|text| keywords.read(text))),
        received_at: facts.received_at,
        content_type: facts.content_type,
        request_id: facts.request_id,
        traceparent: facts.traceparent,
        body: bytes.clone(),
    })
}

/// Returns whether an action can be an event type. Types are shown in tables and stored as text, where control
/// characters do harm (PostgreSQL refuses NUL).
fn is_usable(action: &str) -> bool {
    !action.trim().is_empty() && !action.chars().any(|c| c.is_control() || c == MENDED)
}

#[derive(Debug, Default, PartialEq)]
struct Envelope<'a> {
    id: Option<Cow<'a, str>>,
    action: Option<Cow<'a, str>>,
    /// `message.body`.
    text: Option<Cow<'a, str>>,
    /// `message.direction`.
    direction: Option<Cow<'a, str>>,
}

impl<'a> Envelope<'a> {
    /// Reads the body in one pass and keeps only these strings; it builds no tree.
    fn read(body: &'a [u8]) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let envelope = json.deserialize_map(EnvelopeVisitor).ok()?;
        json.end().ok()?;
        Some(envelope)
    }

    /// Drops an `id` that was mended: two different unreadable ids may look the same after mending.
    fn with_id_as_sent(self) -> Self {
        Self { id: self.id.filter(|id| !id.contains(MENDED)), ..self }
    }

    /// Returns whether our own users wrote the message; their texts are not the contact's consent or objection. Without
    /// a direction the action alone decides.
    fn is_outbound(&self) -> bool {
        let direction = self.direction.as_deref().map(|direction| direction.trim().to_ascii_lowercase());
        matches!(direction.as_deref(), Some("out" | "outgoing" | "outbound"))
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
        while let Some(key) = map.next_key_seed(Key)? {
            match &*key {
                "id" => envelope.id = map.next_value_seed(Value::KEPT)?.text(),
                "action" => envelope.action = map.next_value_seed(Value::KEPT)?.text(),
                "message" => {
                    let said = map.next_value_seed(Value::MESSAGE)?;
                    (envelope.text, envelope.direction) = (said.body, said.direction);
                }
                _ => drop(map.next_value_seed(Value::PASSED_OVER)?),
            }
        }
        Ok(envelope)
    }
}

/// Reads a key, without copying it unless it contains an escape.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// The parts of a value that are kept.
#[derive(Default)]
struct Kept<'a> {
    /// The value, if it is a string.
    text: Option<Cow<'a, str>>,
    /// The `body` and `direction`, if the value is a message.
    body: Option<Cow<'a, str>>,
    direction: Option<Cow<'a, str>>,
}

impl<'a> Kept<'a> {
    fn of_text(text: Cow<'a, str>) -> Self {
        Self { text: Some(text), ..Self::default() }
    }

    fn text(self) -> Option<Cow<'a, str>> {
        self.text
    }
}

/// Reads any value to its end by the same rules as the worker's reader. `serde`'s `IgnoredAny` would skip the checks of
/// UTF-8, surrogates and nesting depth.
#[derive(Clone, Copy)]
struct Value {
    keep_text: bool,
    is_message: bool,
}

impl Value {
    const PASSED_OVER: Self = Self { keep_text: false, is_message: false };
    const KEPT: Self = Self { keep_text: true, is_message: false };
    const MESSAGE: Self = Self { keep_text: false, is_message: true };
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Kept<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Kept<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(if self.keep_text { Kept::of_text(Cow::Borrowed(text)) } else { Kept::default() })
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(if self.keep_text { Kept::of_text(Cow::Owned(text.to_owned())) } else { Kept::default() })
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Kept::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Kept::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Kept::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Kept::default())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Kept::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element_seed(Self::PASSED_OVER)?.is_some() {}
        Ok(Kept::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kept = Kept::default();
        while let Some(key) = map.next_key_seed(Key)? {
            match &*key {
                "body" if self.is_message => kept.body = map.next_value_seed(Self::KEPT)?.text(),
                "direction" if self.is_message => kept.direction = map.next_value_seed(Self::KEPT)?.text(),
                _ => drop(map.next_value_seed(Self::PASSED_OVER)?),
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use hookline_common::event::Keyword;
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
        let keywords = Keywords::new(&["STOP".to_owned()]);
        read(&source, &keywords, Verified::vouched_for(Bytes::copy_from_slice(body)), facts).get().clone()
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
        let bodies: [&[u8]; 12] = [
            b"",
            b" ",
            b"hello",
            b"[]",
            b"null",
            b"\"action\"",
            br#"{"id":"x","action":"contact.created""#,
            br#"{"id":"x","action":"contact.created"} trailing"#,
            br#"{"id":"x","action":"contact.created",}"#,
            br#"{"id":"x","action":"contact.created","a":"\x"}"#,
            b"\xff\xfe{\"id\":\"x\"}",
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
    fn what_nobody_needs_keeps_no_event_from_being_read() {
        let bodies: [&[u8]; 6] = [
            br#"{"id":"x","action":"contact.created","a":"See you \ud83d"}"#,
            br#"{"\ud800":1,"id":"x","action":"contact.created"}"#,
            br#"{"id":"x","action":"contact.created","a":"\u0000"}"#,
            b"{\"id\":\"x\",\"action\":\"contact.created\",\"a\":\"\xff\n\"}",
            b"\xef\xbb\xbf{\"id\":\"x\",\"action\":\"contact.created\"}",
            br#"{"id":"x","action":"contact.created","a":-1e999}"#,
        ];
        for body in bodies {
            let event = event(body);

            let shown = String::from_utf8_lossy(body);
            assert_eq!((event.event_type.as_str(), &event.body[..]), ("contact.created", body), "{shown}");
            assert_eq!(event.source_event_id.as_deref(), Some("x"), "{shown}");
        }
    }

    #[test]
    fn what_is_needed_and_cannot_be_read_is_not_guessed() {
        let (one, other) =
            (br#"{"id":"/d/\ud800","action":"contact.created"}"#, br#"{"id":"/d/\ud801","action":"contact.created"}"#);
        assert_eq!((event(one).id, event(other).id), (id_from_bytes(one), id_from_bytes(other)));
        let action = event(br#"{"id":"/d/1","action":"contact.opted_out\ud83d"}"#);
        assert_eq!((action.event_type, action.source_event_id.as_deref()), (EventType::unparsed(), Some("/d/1")));
    }

    #[test]
    fn a_received_text_that_is_a_keyword_alone_says_so() {
        let stop = Some(Keyword::Stop);
        for (action, message, keyword) in [
            ("message.received", r#"{"body":"Stop."}"#, stop),
            ("message.received", r#"{"body":"\u0053TOP","direction":"in"}"#, stop),
            ("message-received", r#"{"body":"STOP"}"#, None),
            ("message.received", r#"{"body":"stop","direction":"incoming","attachments":[{"body":"x"}]}"#, stop),
            ("message.received", r#"{"body":"stop","direction":7}"#, stop),
            ("message.received", r#"{"body":"start","direction":"in"}"#, Some(Keyword::Start)),
            ("message.received", r#"{"body":"hello","body":"STOP"}"#, stop),
            ("message.received", r#"{"body":"STOP","direction":" Outgoing"}"#, None),
            ("message.received", r#"{"body":"STOP \ud83d"}"#, None),
            ("message.received", r#"{"body":"STOP","note":"\ud83d"}"#, stop),
            ("message.received", r#"{"body":"STOP","body":1}"#, None),
            ("message.received", r#"{"body":["STOP"]}"#, None),
            ("message.received", r#"{"inner":{"body":"STOP"}}"#, None),
            ("message.received", r#"["body","STOP"]"#, None),
            ("message.received", r#""STOP""#, None),
            ("message.delivered", r#"{"body":"STOP"}"#, None),
            ("contact.created", r#"{"body":"STOP"}"#, None),
        ] {
            let event = event(format!(r#"{{"message":{message},"id":"x","action":"{action}"}}"#).as_bytes());

            assert_eq!(event.event_type.keyword(), keyword, "{action} {message}");
        }
        let not_the_last = event(br#"{"action":"message.received","message":{"body":"STOP"},"message":null}"#);
        assert_eq!(not_the_last.event_type.keyword(), None);
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

    /// Generates JSON-like text, so that most cases come close to being valid.
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
            b"{\"message\":{",
            b"\"body\":",
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
            let expected = tree.map(|tree| Envelope {
                id: text(&tree, "id"),
                action: text(&tree, "action"),
                text: tree.get("message").and_then(|said| text(said, "body")),
                direction: tree.get("message").and_then(|said| text(said, "direction")),
            });

            prop_assert_eq!(Envelope::read(&body), expected);
        }
    }
}
