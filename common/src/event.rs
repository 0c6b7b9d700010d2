//! The envelope that crosses the queue: a fact that a source told us, with the sender's exact bytes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::time::Timestamp;

/// Event types that TextUs documents (<https://apidocs.next.textus.com/overview/webhooks/webhooks-overview>),
/// in the normalised spelling.
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

/// What `events list` shows for a signed body in which no event type can be read.
pub const UNPARSED: &str = "unparsed";

/// AMQP short strings end at 255 bytes; a longer type is cut for display, the true one is in the body.
const MAX_TYPE_BYTES: usize = 255;
/// Longer types make the routing key `<source>.unknown` (docs/reference.md, "RabbitMQ").
const MAX_ROUTED_TYPE_BYTES: usize = 128;
/// The type whose body may be a keyword alone, and its routing words then. A sender's own type never is one of these.
pub const TEXT_RECEIVED: &str = "message.received";
pub const STOP_RECEIVED: &str = "message.received.stop";
pub const START_RECEIVED: &str = "message.received.start";

/// `evt_` and 32 hexadecimal digits: a function of the source and the sender's own id for the post, so that a
/// repeat gets the same id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct EventId(Arc<str>);

impl EventId {
    /// Derives the id from the sender's id for the post, or from the bytes where it has none.
    #[must_use]
    pub fn derive(source: &SourceName, source_event_id: Option<&str>, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(source.as_str().as_bytes());
        match source_event_id {
            // The tags keep a body that equals another post's id from meeting its event id.
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
    /// Says what an id looks like where the text is none.
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

/// The name of a configured source: `[a-z0-9_-]`, no dot (it is one word of a routing key).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// `None` where the name is empty, over 64 bytes, or holds anything but `[a-z0-9_-]`.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        (!name.is_empty() && name.len() <= 64 && name.bytes().all(allowed)).then(|| Self(name.into()))
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

/// What a text says that is a keyword alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keyword {
    /// No more texts, please: an opt-out.
    Stop,
    /// Texts again, please. No API opts a person in: this changes no state.
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

    /// `None` for what a newer version may have written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Stop, Self::Start].into_iter().find(|keyword| keyword.as_str() == text)
    }
}

/// The kind of an event, dotted past tense: `message.received`. Known types are normalised (`-` becomes `_`), an
/// unknown one is kept as sent (cut at 255 bytes). A text that is a keyword alone has the type of every text, and says
/// so besides: other handlers take it as well.
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

    /// For a signed body in which no type can be read.
    #[must_use]
    pub fn unparsed() -> Self {
        Self::named(UNPARSED)
    }

    fn named(name: &str) -> Self {
        Self { name: name.into(), keyword: None }
    }

    /// The same type, of a text that is this keyword alone; of no other type is that said.
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

    /// The words of the routing key after the source: the normalised type, with the keyword behind it that a text is, or
    /// `unknown` where the type would not fit a key, or would be taken for a keyword.
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

    /// What may stand in a log line: a stranger's text could hold anything, so only known types are shown.
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

/// A fact a source told us; never changes once accepted. `Debug` leaves the body out.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    pub id: EventId,
    pub source: SourceName,
    /// The sender's own id for the post, where it has one.
    pub source_event_id: Option<String>,
    pub event_type: EventType,
    pub received_at: Timestamp,
    pub content_type: Option<String>,
    /// The id of the HTTP request that brought it, for following it through the logs.
    pub request_id: Option<String>,
    /// W3C trace context of the request (<https://www.w3.org/TR/trace-context/>).
    pub traceparent: Option<String>,
    /// The sender's bytes, exactly.
    pub body: Bytes,
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
