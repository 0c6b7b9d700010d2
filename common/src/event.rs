//! The envelope that crosses the queue: a fact that a source reported, with the sender's exact bytes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::time::Timestamp;

/// Event types that TextUs documents (<https://apidocs.next.textus.com/overview/webhooks/webhooks-overview>), in
/// normalised spelling.
pub const KNOWN_TYPES: &[&str] = &[
    "message.received",
    "message.delivered",
    "message.failed",
    "message.unknown",
    "phone_call.completed",
    "contact.opted_out",
    "contact.opted_in",
    "contact.created",
];

/// The type of a signed body in which no event type can be read, as `events list` shows it.
pub const UNPARSED: &str = "unparsed";

/// AMQP short strings hold at most 255 bytes. A longer type is cut for display; the body has the whole type.
const MAX_TYPE_BYTES: usize = 255;
/// Events with a longer type get the routing key `<source>.unknown` (docs/reference.md, "RabbitMQ").
const MAX_ROUTED_TYPE_BYTES: usize = 128;
/// The type of texts, and the routing words of a text that is only a keyword. A sender's own type never gets those
/// words.
pub const TEXT_RECEIVED: &str = "message.received";
pub const STOP_RECEIVED: &str = "message.received.stop";
pub const START_RECEIVED: &str = "message.received.start";

/// `evt_` and 32 hexadecimal digits: a function of the source and the sender's own id for the post, so that a repeat
/// gets the same id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct EventId(Arc<str>);

impl EventId {
    /// Derives the id from the sender's id for the post, or from the body if there is none.
    #[must_use]
    pub fn derive(source: &SourceName, source_event_id: Option<&str>, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(source.as_str().as_bytes());
        match source_event_id {
            // The tags prevent a collision between a body and another post's id with the same bytes.
            Some(id) => {
                hash.update(b"\0id\0");
                hash.update(id.as_bytes());
            }
            None => {
                hash.update(b"\0body\0");
                hash.update(body);
            }
        }
        let digest = hash.finalize();
        Self(format!("evt_{}", hex::encode(&digest[..16])).into())
    }

    /// Reads an id that was printed before.
    ///
    /// # Errors
    /// If the text is not an id; the error describes what an id looks like.
    pub fn parse(text: &str) -> Result<Self, NotAnEventId> {
        let digits = text.strip_prefix("evt_").ok_or(NotAnEventId)?;
        let well_formed =
            digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if well_formed { Ok(Self(text.into())) } else { Err(NotAnEventId) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event id is `evt_` and 32 hexadecimal digits, as `hookline events list` prints it")]
pub struct NotAnEventId;

/// The name of a configured source: `[a-z0-9_-]`, no dot, because the name is one word of a routing key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// `None` if the name is empty, longer than 64 bytes, or has a character outside `[a-z0-9_-]`.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        (!name.is_empty() && name.len() <= 64 && name.bytes().all(allowed)).then(|| Self(name.into()))
    }

    /// Names what no source sent.
    #[must_use]
    pub fn of_store() -> Self {
        Self("store".into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The meaning of a text that is only a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keyword {
    /// The person wants no more texts: an opt-out.
    Stop,
    /// The person wants texts again. No API can opt a person in, so this changes no state.
    Start,
}

impl Keyword {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
        }
    }

    /// `None` for a keyword that only a newer version knows.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Stop, Self::Start].into_iter().find(|keyword| keyword.as_str() == text)
    }
}

/// The kind of an event, dotted past tense: `message.received`. Known types are normalised (`-` becomes `_`); an
/// unknown type is kept as sent (cut at 255 bytes). A text that is only a keyword has the same type as every text,
/// because other handlers take it too; the keyword is kept beside the type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType {
    name: Arc<str>,
    keyword: Option<Keyword>,
}

impl serde::Serialize for EventType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl EventType {
    #[must_use]
    pub fn new(sent: &str) -> Self {
        let normalised = sent.replace('-', "_");
        if KNOWN_TYPES.contains(&normalised.as_str()) {
            return Self::named(&normalised);
        }
        let mut end = sent.len().min(MAX_TYPE_BYTES);
        while !sent.is_char_boundary(end) {
            end -= 1;
        }
        Self::named(&sent[..end])
    }

    /// The type of a signed body in which no type can be read.
    #[must_use]
    pub fn unparsed() -> Self {
        Self::named(UNPARSED)
    }

    fn named(name: &str) -> Self {
        Self { name: name.into(), keyword: None }
    }

    /// Adds the keyword if this is the type of texts; any other type stays as it is.
    #[must_use]
    pub fn with_keyword(self, keyword: Option<Keyword>) -> Self {
        let keyword = keyword.filter(|_| self.as_str() == TEXT_RECEIVED);
        Self { keyword, ..self }
    }

    #[must_use]
    pub fn keyword(&self) -> Option<Keyword> {
        self.keyword
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn is_known(&self) -> bool {
        KNOWN_TYPES.contains(&self.as_str())
    }

    #[must_use]
    pub fn is_unparsed(&self) -> bool {
        self.as_str() == UNPARSED
    }

    /// The words of the routing key after the source: the normalised type, followed by the keyword if the text is only
    /// a keyword. `unknown` if the type does not fit a routing key, or would be mistaken for a keyword.
    #[must_use]
    pub fn routing_words(&self) -> Cow<'_, str> {
        match self.keyword {
            Some(Keyword::Stop) => return STOP_RECEIVED.into(),
            Some(Keyword::Start) => return START_RECEIVED.into(),
            None => {}
        }
        let normalised: Cow<'_, str> =
            if self.name.contains('-') { self.name.replace('-', "_").into() } else { Cow::Borrowed(&*self.name) };
        let fits = !normalised.is_empty()
            && normalised.len() <= MAX_ROUTED_TYPE_BYTES
            && ![STOP_RECEIVED, START_RECEIVED].contains(&&*normalised)
            && normalised
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'.');
        if fits { normalised } else { "unknown".into() }
    }

    /// The type as it may appear in a log line. A sender's text may hold anything, so only known types are shown.
    #[must_use]
    pub fn log_label(&self) -> &str {
        if self.is_known() || self.is_unparsed() { self.as_str() } else { "unknown" }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

/// A fact that a source reported; never changes once accepted. `Debug` omits the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    pub id: EventId,
    pub source: SourceName,
    /// The sender's own id for the post, if there is one.
    pub source_event_id: Option<String>,
    pub event_type: EventType,
    pub received_at: Timestamp,
    pub content_type: Option<String>,
    /// The id of the HTTP request that brought the event, to follow it through the logs.
    pub request_id: Option<String>,
    /// W3C trace context of the request (<https://www.w3.org/TR/trace-context/>).
    pub traceparent: Option<String>,
    /// The sender's exact bytes.
    pub body: Bytes,
}

impl Event {
    /// Returns an event that no source sent. It stands for facts that the store has.
    #[must_use]
    pub fn of_store(id: EventId, event_type: EventType, at: Timestamp, body: Bytes) -> Self {
        Self {
            id,
            source: SourceName::of_store(),
            source_event_id: None,
            event_type,
            received_at: at,
            content_type: None,
            request_id: None,
            traceparent: None,
            body,
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id.as_str())
            .field("source", &self.source.as_str())
            .field("event_type", &self.event_type.log_label())
            .field("received_at", &self.received_at)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn textus() -> SourceName {
        SourceName::new("textus").expect("a name")
    }

    #[test]
    fn a_repeat_gets_the_same_id_and_another_post_another() {
        let first = EventId::derive(&textus(), Some("/integrations/a/deliveries/b"), b"{}");

        assert_eq!(first, EventId::derive(&textus(), Some("/integrations/a/deliveries/b"), b"{ }"));
        assert_ne!(first, EventId::derive(&textus(), Some("/integrations/a/deliveries/c"), b"{}"));
        assert_ne!(EventId::derive(&textus(), None, b"abc"), EventId::derive(&textus(), Some("abc"), b"abc"),);
        assert_eq!(EventId::parse(first.as_str()), Ok(first));
    }

    #[test]
    fn both_spellings_of_an_opt_out_are_one_type() {
        assert_eq!(EventType::new("contact.opted-out").as_str(), "contact.opted_out");
        assert_eq!(EventType::new("contact.opted_out").as_str(), "contact.opted_out");
        assert_eq!(EventType::new("contact.merged-in").as_str(), "contact.merged-in");
    }

    #[test]
    fn a_type_that_fits_no_routing_key_is_routed_as_unknown() {
        let long = "x".repeat(300);
        for sent in ["", "Hello World", "naïve.type", long.as_str()] {
            assert_eq!(EventType::new(sent).routing_words(), "unknown", "{sent}");
        }
        assert_eq!(EventType::new(&long).as_str().len(), 255);
        assert_eq!(EventType::new("deal.won-twice").routing_words(), "deal.won_twice");
    }

    #[test]
    fn only_a_received_text_has_a_keyword_and_no_type_passes_for_one() {
        for (sent, keyword, words) in [
            ("message.received", None, "message.received"),
            ("message.received", Some(Keyword::Stop), "message.received.stop"),
            ("message-received", Some(Keyword::Start), "message_received"),
            ("message.received", Some(Keyword::Start), "message.received.start"),
            ("message.delivered", Some(Keyword::Stop), "message.delivered"),
            ("message.received.stop", None, "unknown"),
            ("message.received.start", Some(Keyword::Start), "unknown"),
        ] {
            let event_type = EventType::new(sent).with_keyword(keyword);
            assert_eq!((event_type.as_str(), &*event_type.routing_words()), (sent, words), "{keyword:?}");
        }
        for keyword in [Keyword::Stop, Keyword::Start] {
            assert_eq!(Keyword::parse(keyword.as_str()), Some(keyword));
        }
    }
}
