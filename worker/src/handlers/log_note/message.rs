//! Reads a text message into what its thread keeps.

use hookline_common::event::{Event, Keyword};
use hookline_common::note_text::MessageOutcome;
use hookline_common::settings::{NoteForm, Settings};
use hookline_common::time_zone::TimeZone;
use hookline_store::model::{ThreadFacts, ThreadMessage};

use crate::textus::payload::{Direction, MessagePayload};
use crate::textus::types::Message;

pub(super) const FAILED: &str = "message.failed";

/// Says which thread a message belongs to.
pub(super) struct Threads {
    default_account: String,
    form: NoteForm,
    time_zone: TimeZone,
}

impl Threads {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            default_account: settings.textus.account.clone(),
            form: settings.system_of_record.notes,
            time_zone: settings.system_of_record.time_zone.clone(),
        }
    }

    pub(super) fn of(&self, payload: &MessagePayload, message: &ThreadMessage) -> ThreadFacts {
        ThreadFacts {
            account: payload.account.clone().unwrap_or_else(|| self.default_account.clone()),
            phone: payload.phone.as_ref().map(|phone| phone.as_e164().to_owned()),
            contact_id: payload.contact.one().map(|segment| segment.under("/contacts/")),
            business_number: payload.business_number.as_ref().map(|phone| phone.as_e164().to_owned()),
            day: self.time_zone.day(message.occurred_at),
            only_message: (self.form == NoteForm::Message).then(|| payload.raw_message_id.clone()),
        }
    }
}

/// Returns the effect key of a message: the message and its outcome, not the event, because two webhooks about one text
/// must meet the same note.
pub(super) fn effect_key(event: &Event, payload: &MessagePayload) -> String {
    let id = &payload.raw_message_id;
    if event.event_type.as_str() == FAILED { format!("{id} failed") } else { id.clone() }
}

pub(super) fn thread_message(event: &Event, payload: &MessagePayload, fetched: Option<&Message>) -> ThreadMessage {
    let body = fetched.and_then(|message| message.body.clone()).or_else(|| payload.body.clone()).unwrap_or_default();
    let event_type = event.event_type.as_str();
    let direction = fetched.and_then(Message::direction).or(payload.direction);
    let is_inbound = direction.map_or(event_type == "message.received", |direction| direction == Direction::In);
    let received_at = event.received_at;
    let media = fetched.map(Message::media).filter(|media| !media.is_empty());
    let user = fetched.and_then(Message::user).or_else(|| payload.user.clone()).filter(|_| !is_inbound);
    let (author, author_email) = user.map(|user| (user.name, user.email)).unwrap_or_default();
    ThreadMessage {
        message_id: payload.raw_message_id.clone(),
        event_id: event.id.clone(),
        event_time: payload.event_time.unwrap_or(received_at),
        is_inbound,
        outcome: match event_type {
            FAILED => MessageOutcome::Failed,
            _ if is_inbound => MessageOutcome::Received,
            _ => MessageOutcome::Delivered,
        },
        body,
        author,
        author_email,
        media: media.unwrap_or_else(|| payload.media.clone()),
        is_stop: event.event_type.keyword() == Some(Keyword::Stop),
        occurred_at: fetched.and_then(Message::occurred_at).or(payload.occurred_at).unwrap_or(received_at),
    }
}
