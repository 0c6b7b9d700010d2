//! Resources of the TextUs API, as far as Hookline reads them. Unknown fields are ignored, missing ones are `None`
//! (<https://apidocs.next.textus.com/types/Message/>, <https://apidocs.next.textus.com/types/Conversation/>).

use hookline_common::note_text::Media;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use serde::Deserialize;

use super::links::{Collection, Link, MOST_OF_CODE, text, text_or_number};
pub use super::people::{CONTACTS, Contact, ContactPhone, NamedContact, NotASegment, Numbers, PhonesRef};
use crate::destinations::redact::debug_by_id;
use crate::destinations::segment::Segment;

pub const MESSAGES: &str = "/messages/";
pub const ACCOUNTS: &str = "/accounts/";

/// The direction of a text message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

impl Direction {
    /// Reads both vocabularies: the examples use `in` and `out`, the type page says incoming and outgoing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "in" | "incoming" | "inbound" => Some(Self::In),
            "out" | "outgoing" | "outbound" => Some(Self::Out),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// A text message. The contact and the phone number belong to its conversation.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The id as `/messages/…`.
    pub id: String,
    #[serde(default, deserialize_with = "text")]
    direction: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub body: Option<String>,
    #[serde(default, deserialize_with = "text")]
    display_timestamp: Option<String>,
    #[serde(default, deserialize_with = "text")]
    timeline_position: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub delivery_state: Option<String>,
    #[serde(default, deserialize_with = "text")]
    status: Option<String>,
    #[serde(default)]
    sender: Link<User>,
    #[serde(default)]
    attachments: Link<Collection<Link<Attachment>>>,
}

/// A user of TextUs, as messages embed them. Beside the name, the documentation shows no field of it, so the usual ones
/// are read.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    first_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    last_name: Option<String>,
    #[serde(default, deserialize_with = "text", alias = "emailAddress")]
    email: Option<String>,
}

/// Who wrote an outbound message.
#[derive(Clone, PartialEq, Eq)]
pub struct Author {
    /// The name or, if there is none, the user's path.
    pub name: Option<String>,
    pub email: Option<String>,
}

impl User {
    fn author(&self) -> Author {
        let filled =
            |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let parts: Vec<String> = [&self.first_name, &self.last_name].into_iter().filter_map(filled).collect();
        let name = filled(&self.name).or_else(|| (!parts.is_empty()).then(|| parts.join(" ")));
        Author {
            name: name.or_else(|| filled(&self.id)),
            email: filled(&self.email).filter(|email| email.contains('@')),
        }
    }
}

/// A picture or another file. The vendor documents no fields of it, so the usual names are read.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attachment {
    #[serde(default, deserialize_with = "text", alias = "mediaType", alias = "mimeType")]
    content_type: Option<String>,
    #[serde(default, deserialize_with = "text", alias = "contentUrl", alias = "mediaUrl", alias = "href")]
    url: Option<String>,
}

impl Attachment {
    fn media(link: &Link<Self>) -> Media {
        // A path of the API is no link that a reader could follow.
        let https = |url: &String| url.starts_with("https://") && !url.contains(char::is_whitespace);
        let (media_type, url) = match link {
            Link::Absent => (None, None),
            Link::Path(path) => (None, Some(path.clone())),
            Link::Here(attachment) => (attachment.content_type.clone(), attachment.url.clone()),
        };
        Media { media_type, url: url.filter(https) }
    }
}

impl Message {
    /// Returns the id as a segment; `None` if it names no message.
    #[must_use]
    pub fn segment(&self) -> Option<Segment> {
        Segment::from_path(MESSAGES, &self.id)
    }

    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        self.direction.as_deref().and_then(Direction::parse)
    }

    #[must_use]
    pub fn occurred_at(&self) -> Option<Timestamp> {
        let read = |text: &Option<String>| text.as_deref().and_then(Timestamp::parse);
        read(&self.display_timestamp).or_else(|| read(&self.timeline_position))
    }

    /// Returns the author. If there is only a link, that is the name.
    #[must_use]
    pub fn user(&self) -> Option<Author> {
        let author = match &self.sender {
            Link::Absent => return None,
            Link::Path(path) => Author { name: Some(path.clone()), email: None },
            Link::Here(user) => user.author(),
        };
        (author.name.is_some() || author.email.is_some()).then_some(author)
    }

    /// Returns the pictures and other files.
    #[must_use]
    pub fn media(&self) -> Vec<Media> {
        let members = self.attachments.here().map(|attachments| attachments.members.as_slice());
        members.unwrap_or_default().iter().map(Attachment::media).collect()
    }

    /// Returns `deliveryState`, which older answers call `status`.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.delivery_state.as_deref().or(self.status.as_deref())
    }
}

/// The conversation between one business number and one person's number.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    #[serde(default, deserialize_with = "text")]
    pub id: Option<String>,
    #[serde(default)]
    account: Link<Account>,
    #[serde(default, deserialize_with = "text_or_number")]
    phone_number: Option<String>,
    #[serde(default, deserialize_with = "text")]
    account_phone_number: Option<String>,
    #[serde(default)]
    assigned_contact: Link<Contact>,
    #[serde(default)]
    associated_contacts: Link<Collection<Link<Contact>>>,
}

debug_by_id!(Message.id, Conversation.id);

/// An embedded account.
#[derive(Clone, Debug, Deserialize)]
pub struct Account {
    pub id: String,
}

impl Conversation {
    /// Returns the account's slug, if the conversation names an account.
    ///
    /// # Errors
    /// [`NotASegment`] if the account's id could steer a call.
    pub fn account(&self) -> Result<Option<Segment>, NotASegment> {
        account_slug(&self.account)
    }

    /// Returns the person's address in the network: a number, a short code or a name.
    #[must_use]
    pub fn sender(&self) -> Option<&str> {
        self.phone_number.as_deref().map(str::trim).filter(|sender| !sender.is_empty())
    }

    /// Returns whether the sender is a short code or a name. A text that looks like a number and can't be read is
    /// neither.
    #[must_use]
    pub fn is_from_code(&self) -> bool {
        let is_code = |sender: &str| {
            sender.chars().any(char::is_alphabetic)
                || sender.chars().filter(char::is_ascii_digit).count() <= MOST_OF_CODE
        };
        self.phone().is_none() && self.sender().is_some_and(is_code)
    }

    /// Returns the person's number.
    #[must_use]
    pub fn phone(&self) -> Option<Phone> {
        self.phone_number.as_deref().and_then(Phone::parse)
    }

    /// Returns the business number.
    #[must_use]
    pub fn account_phone(&self) -> Option<Phone> {
        self.account_phone_number.as_deref().and_then(Phone::parse)
    }

    /// Returns the conversation's contact. An unusable id counts as none.
    #[must_use]
    pub fn contact(&self) -> ContactRef {
        self.read_contact().unwrap_or(ContactRef::None)
    }

    /// Returns the assigned contact or, if there is none, the only associated one. Several contacts may share one
    /// number (<https://apidocs.next.textus.com/docs/conversations/assign_contact>), and picking one would be a guess.
    ///
    /// # Errors
    /// [`NotASegment`] if a contact's id could steer a call.
    pub fn read_contact(&self) -> Result<ContactRef, NotASegment> {
        if let Some(contact) = NamedContact::read(&self.assigned_contact)? {
            return Ok(ContactRef::One(contact));
        }
        let Some(associated) = self.associated_contacts.here() else { return Ok(ContactRef::None) };
        match associated.members.as_slice() {
            [] if associated.is_whole() => Ok(ContactRef::None),
            [only] if associated.is_whole() => Ok(NamedContact::read(only)?.map_or(ContactRef::None, ContactRef::One)),
            _ => Ok(ContactRef::Many),
        }
    }
}

/// The conversation's contact, as far as one answer or payload tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContactRef {
    One(NamedContact),
    /// No contact is named.
    None,
    /// Several contacts share the number and none is assigned.
    Many,
}

impl ContactRef {
    #[must_use]
    pub fn one(&self) -> Option<&Segment> {
        match self {
            Self::One(contact) => Some(&contact.id),
            Self::None | Self::Many => None,
        }
    }
}

/// Returns the last segment of `/accounts/{slug}`, from a path or an object.
pub(crate) fn account_slug(account: &Link<Account>) -> Result<Option<Segment>, NotASegment> {
    let id = match account {
        Link::Absent => return Ok(None),
        Link::Path(path) => path,
        Link::Here(account) => &account.id,
    };
    Segment::from_path(ACCOUNTS, id).map(Some).ok_or(NotASegment)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn conversation(assigned: Value, associated: Value) -> Conversation {
        serde_json::from_value(json!({"assignedContact": assigned, "associatedContacts": associated})).unwrap()
    }

    #[test]
    fn the_contact_of_a_conversation_is_never_a_guess() {
        let a = json!({"id": "/contacts/a", "name": "A"});
        let path = json!("/contacts/b");
        for (assigned, associated, one, many) in [
            (a.clone(), json!({"members": [path]}), Some("a"), false),
            (path.clone(), json!(null), Some("b"), false),
            (json!(null), json!({"members": [a], "totalItems": 1}), Some("a"), false),
            (json!(null), json!({"members": [path], "totalItems": 1}), Some("b"), false),
            (json!(null), json!({"members": [a, path], "totalItems": 2}), None, true),
            (json!(null), json!({"members": [a], "totalItems": 2}), None, true),
            (json!(null), json!({"members": [], "totalItems": 0}), None, false),
            (json!(null), json!("/conversations/c/associated_contacts"), None, false),
            (json!(null), json!(null), None, false),
            (json!("/contacts/../users/x"), json!(null), None, false),
        ] {
            let read = conversation(assigned.clone(), associated.clone()).contact();
            assert_eq!(read.one().map(Segment::as_str), one, "{assigned} {associated}");
            assert_eq!(read == ContactRef::Many, many, "{assigned} {associated}");
        }
        assert_eq!(conversation(json!("/contacts/a/b"), json!(null)).read_contact(), Err(NotASegment));
    }

    #[test]
    fn a_message_is_read_in_both_vocabularies() {
        for (sent, direction) in [("in", "in"), ("incoming", "in"), ("out", "out"), ("Outgoing", "out")] {
            let message: Message = serde_json::from_value(json!({"id": "/messages/m", "direction": sent})).unwrap();
            assert_eq!(message.direction().map(Direction::as_str), Some(direction));
        }
        let message: Message = serde_json::from_value(
            json!({"id": "/messages/m", "sender": {"id": "/users/u", "name": "Ana"}, "status": "failed",
                   "displayTimestamp": 7, "timelinePosition": "2025-03-04T15:24:12.083Z", "body": null}),
        )
        .unwrap();
        assert_eq!(message.user().and_then(|author| author.name).as_deref(), Some("Ana"));
        assert_eq!(message.state(), Some("failed"));
        assert_eq!(message.occurred_at(), Timestamp::parse("2025-03-04T15:24:12.083Z"));
        assert_eq!((message.body.as_deref(), message.direction()), (None, None));
    }
}
