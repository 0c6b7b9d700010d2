//! Reads webhook bodies (<https://apidocs.next.textus.com/overview/webhooks/webhooks-overview>) into what handlers
//! need. The event type (the body's `action`) decides, never `@type`: opt-out deliveries carry another one.
//!
//! Nothing in a payload steers a call. An id that isn't one segment of a path makes the payload unreadable, and so a
//! dead letter that a person looks at.

use std::fmt;

use hookline_common::event::{Event, Keyword};
use hookline_common::json;
use hookline_common::note_text::Media;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use serde_json::Value;

use crate::destinations::redact::debug_by_id;
pub use crate::destinations::segment::Segment;
use crate::textus::links::Link;
use crate::textus::types::{Account, CONTACTS, Contact, Conversation, MESSAGES, Message, account_slug};
pub use crate::textus::types::{Author, ContactRef, Direction, NamedContact, Numbers, PhonesRef};

/// The content of an event that handlers act on.
#[derive(Clone, Debug)]
pub enum Payload {
    OptOut(OptOutPayload),
    Message(MessagePayload),
    Contact(ContactPayload),
}

/// `contact.opted_out` and `contact.opted_in`, or a text that consists only of a keyword.
#[derive(Clone)]
pub struct OptOutPayload {
    /// Slug of the account that raised the event, if the event names it.
    pub account: Option<String>,
    pub phone: Phone,
    /// The last segment of `optOut.id`: the number in the vendor's own form.
    pub number_in_id: Option<Segment>,
    pub opted_out: bool,
    /// `action` and `optOut.type` contradict each other. The event then counts as opted out.
    pub disagrees: bool,
    pub event_time: Option<Timestamp>,
    /// The keyword, if the event is a text.
    pub keyword: Option<Keyword>,
}

/// What a received text says about opt-outs. This needs neither the message's own id nor a contact.
pub struct Text {
    pub body: Option<String>,
    /// The sender: a number, a short code or a name.
    pub sender: Option<String>,
    /// Whether the sender is a short code or a name.
    pub is_from_code: bool,
    account: Option<String>,
    event_time: Option<Timestamp>,
}

impl Text {
    /// Returns the opt-out; `None` if the sender isn't a telephone number.
    #[must_use]
    pub fn opt_out(&self, keyword: Keyword) -> Option<OptOutPayload> {
        Some(OptOutPayload {
            account: self.account.clone(),
            phone: Phone::parse(self.sender.as_deref()?)?,
            number_in_id: None,
            opted_out: keyword == Keyword::Stop,
            disagrees: false,
            event_time: self.event_time,
            keyword: Some(keyword),
        })
    }
}

/// `message.received`, `.delivered`, `.failed`, `.unknown`.
#[derive(Clone)]
pub struct MessagePayload {
    pub message_id: Segment,
    /// The id as `/messages/…`.
    pub raw_message_id: String,
    pub direction: Option<Direction>,
    pub body: Option<String>,
    pub occurred_at: Option<Timestamp>,
    /// The time of the event, which is later than the message's.
    pub event_time: Option<Timestamp>,
    pub user: Option<Author>,
    pub delivery_state: Option<String>,
    pub media: Vec<Media>,
    /// The person's number; `None` if it isn't a telephone number.
    pub phone: Option<Phone>,
    /// Whether the sender is a short code or a name.
    pub is_from_code: bool,
    /// Slug of the messaging account.
    pub account: Option<String>,
    pub business_number: Option<Phone>,
    pub contact: ContactRef,
}

/// `contact.created`.
#[derive(Clone)]
pub struct ContactPayload {
    pub id: Segment,
    /// The id as `/contacts/…`.
    pub raw_id: String,
    /// The body holds only the contact's path, so only the id is known yet.
    pub is_link: bool,
    pub name: Option<String>,
    pub phones: PhonesRef,
    /// Free-form; `null` if there is none.
    pub data: Value,
}

impl fmt::Debug for OptOutPayload {
    /// Leaves out the number in the id, which is in clear.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptOutPayload")
            .field("account", &self.account)
            .field("phone", &self.phone)
            .field("opted_out", &self.opted_out)
            .finish_non_exhaustive()
    }
}

debug_by_id!(MessagePayload.raw_message_id, ContactPayload.raw_id);

/// The body lacks what is needed to act on it. The message says in our own words what is missing, and quotes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload cannot be acted on: {what}")]
pub struct Unreadable {
    what: &'static str,
}

impl Unreadable {
    #[must_use]
    pub const fn new(what: &'static str) -> Self {
        Self { what }
    }
}

/// Reads the body of an event that a handler takes.
///
/// # Errors
/// [`Unreadable`] if the body lacks what every handler of its type needs, or holds an id that could steer a call.
pub fn read(event: &Event) -> Result<Payload, Unreadable> {
    let body = json_of(event)?;
    match event.event_type.as_str() {
        "contact.opted_out" => opt_out(&body, true).map(Payload::OptOut),
        "contact.opted_in" => opt_out(&body, false).map(Payload::OptOut),
        "message.received" => message(&body, Direction::In).map(Payload::Message),
        "message.delivered" | "message.failed" | "message.unknown" => {
            message(&body, Direction::Out).map(Payload::Message)
        }
        "contact.created" => contact(&body).map(Payload::Contact),
        _ => Err(Unreadable::new("no handler knows this event type")),
    }
}

/// Reads what a received text says about opt-outs.
///
/// # Errors
/// [`Unreadable`] if the body isn't JSON.
pub fn read_text(event: &Event) -> Result<Text, Unreadable> {
    let body = json_of(event)?;
    let conversation: Conversation = read_field(&body, "conversation").unwrap_or_default();
    let message = body.get("message");
    let occurred_at = || read_field::<Message>(&body, "message").and_then(|message| message.occurred_at());
    Ok(Text {
        body: message.and_then(|message| message.get("body")).and_then(Value::as_str).map(str::to_owned),
        sender: conversation.sender().map(str::to_owned),
        is_from_code: conversation.is_from_code(),
        // No call's path uses this account, so one that can't be read counts as none.
        account: conversation.account().ok().flatten().map(|account| account.as_str().to_owned()),
        event_time: event_time(&body).or_else(occurred_at),
    })
}

fn json_of(event: &Event) -> Result<Value, Unreadable> {
    json::read(&event.body).ok_or(Unreadable::new("it is not JSON"))
}

fn opt_out(body: &Value, opted_out_by_action: bool) -> Result<OptOutPayload, Unreadable> {
    let said = body.get("optOut").filter(|said| said.is_object()).ok_or(Unreadable::new("it has no `optOut`"))?;
    let phone = said
        .get("phoneNumber")
        .and_then(Value::as_str)
        .and_then(Phone::parse)
        .ok_or(Unreadable::new("`optOut.phoneNumber` is missing or no telephone number"))?;
    let account = opt_out_account(said)?;
    let by_type = said.get("type").and_then(Value::as_str).and_then(opted_out_by_type);
    let disagrees = by_type.is_some_and(|by_type| by_type != opted_out_by_action);
    Ok(OptOutPayload {
        account: account.map(|account| account.as_str().to_owned()),
        phone,
        number_in_id: parts_of_id(said).and_then(|(_account, number)| Segment::new(number)),
        // Texting someone who said stop is the one mistake that can't be undone.
        opted_out: opted_out_by_action || disagrees,
        disagrees,
        event_time: event_time(body),
        keyword: None,
    })
}

/// Reads the account from `account` or `originatingAccount`, as the API calls it. If both are missing, reads it from
/// the id: `/{account}/opt_outs/{number}`.
fn opt_out_account(said: &Value) -> Result<Option<Segment>, Unreadable> {
    let named = |field: &str| {
        let account = said.get(field).cloned().unwrap_or_default();
        let link: Link<Account> = serde_json::from_value(account).unwrap_or_default();
        account_slug(&link).map_err(|_bad| Unreadable::new("the account in `optOut` is not one segment of a path"))
    };
    if let Some(account) = named("account")? {
        return Ok(Some(account));
    }
    let from_id = || parts_of_id(said).and_then(|(account, _number)| Segment::new(account));
    Ok(named("originatingAccount")?.or_else(from_id))
}

/// Splits `/{account}/opt_outs/{number}` into account and number.
fn parts_of_id(said: &Value) -> Option<(&str, &str)> {
    said.get("id").and_then(Value::as_str)?.strip_prefix('/')?.split_once("/opt_outs/")
}

fn opted_out_by_type(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().replace('_', "-").as_str() {
        "opt-out" | "opted-out" => Some(true),
        "opt-in" | "opted-in" => Some(false),
        _ => None,
    }
}

fn message(body: &Value, direction_by_action: Direction) -> Result<MessagePayload, Unreadable> {
    let said: Message = read_field(body, "message").ok_or(Unreadable::new("it has no `message` with an id"))?;
    let message_id = said.segment().ok_or(Unreadable::new("`message.id` is not one segment of a path"))?;
    let conversation: Conversation = read_field(body, "conversation").unwrap_or_default();
    let account = conversation
        .account()
        .map_err(|_bad| Unreadable::new("`conversation.account` is not one segment of a path"))?;
    let contact = conversation
        .read_contact()
        .map_err(|_bad| Unreadable::new("a contact's id in `conversation` is not one segment of a path"))?;
    Ok(MessagePayload {
        raw_message_id: message_id.under(MESSAGES),
        message_id,
        direction: said.direction().or(Some(direction_by_action)),
        occurred_at: said.occurred_at().or_else(|| event_time(body)),
        event_time: event_time(body),
        user: said.user(),
        delivery_state: said.state().map(str::to_owned),
        media: said.media(),
        body: said.body,
        phone: conversation.phone(),
        is_from_code: conversation.is_from_code(),
        account: account.map(|account| account.as_str().to_owned()),
        business_number: conversation.account_phone(),
        contact,
    })
}

/// Reads the first of a `contact` object, a `contact` path and the body itself. The documentation of the shape isn't
/// readable.
fn contact(body: &Value) -> Result<ContactPayload, Unreadable> {
    let sent = body.get("contact").cloned().unwrap_or_default();
    let link: Link<Contact> = serde_json::from_value(sent).unwrap_or_default();
    let (id, contact) = match link {
        Link::Here(contact) => (contact.id.clone(), Some(contact)),
        Link::Path(path) => (path, None),
        Link::Absent => {
            let is_contact = body.get("@type").and_then(Value::as_str) == Some("Contact");
            let contact = is_contact.then(|| serde_json::from_value::<Contact>(body.clone()).ok()).flatten();
            let contact = contact.ok_or(Unreadable::new("it names no contact"))?;
            (contact.id.clone(), Some(contact))
        }
    };
    let id =
        Segment::from_path(CONTACTS, &id).ok_or(Unreadable::new("the contact's id is not one segment of a path"))?;
    Ok(ContactPayload {
        raw_id: id.under(CONTACTS),
        id,
        is_link: contact.is_none(),
        phones: contact.as_ref().map_or(PhonesRef::None, Contact::phones),
        name: contact.as_ref().and_then(|contact| contact.name.clone()),
        data: contact.map_or(Value::Null, |contact| contact.data),
    })
}

fn read_field<T: serde::de::DeserializeOwned>(body: &Value, name: &str) -> Option<T> {
    let field = body.get(name).filter(|field| field.is_object())?;
    serde_json::from_value(field.clone()).ok()
}

/// Reads the envelope's `timestamp`.
fn event_time(body: &Value) -> Option<Timestamp> {
    body.get("timestamp").and_then(Value::as_str).and_then(Timestamp::parse)
}
