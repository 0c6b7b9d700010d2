//! Conversations and messages. <https://apidocs.next.textus.com/docs/conversations/get>,
//! <https://apidocs.next.textus.com/docs/messages/get>

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::model::{Contact, Conversation, Message};
use crate::options::{MessageForm, Related};
use crate::phone;
use crate::shapes::{self, ContactForm};
use crate::state::{Call, State};

/// `GET /{account}/conversations/{phone}`. <https://apidocs.next.textus.com/docs/accounts/conversation/>
pub(super) fn with_phone(state: &State, call: &Call<'_>) -> Answer {
    // A bare plus in a path is valid, but the vendor asks for it encoded, and some servers read it as a blank.
    if !phone::is_e164(&call.route.parameter) || call.route.raw_parameter.starts_with('+') {
        return Answer::improper(422, "a phone number in this path is E.164 with %2B");
    }
    let found = state.world.conversation_with(call.account(), &call.route.parameter);
    found.map_or_else(Answer::absent, |found| Answer::resource(200, conversation(state, found)))
}

pub(super) fn get(state: &State, call: &Call<'_>) -> Answer {
    let found = state.world.conversation(&call.route.parameter);
    found.map_or_else(Answer::absent, |found| Answer::resource(200, conversation(state, found)))
}

pub(super) fn of_contact(state: &State, call: &Call<'_>) -> Answer {
    let Some(contact) = state.world.contact(&call.route.parameter) else { return Answer::absent() };
    let members = state.world.conversations_of(contact).into_iter().map(|one| conversation(state, one)).collect();
    let id = format!("/contacts/{}/conversations", contact.slug);
    Answer::resource(200, shapes::collection("ConversationCollection", &id, members))
}

pub(super) fn message(state: &State, call: &Call<'_>) -> Answer {
    let id = call.route.parameter.as_str();
    let by_contact = || state.world.contact(id).and_then(|contact| state.world.newest_message_of(contact));
    let found: Option<&Message> = match state.options.message_form {
        MessageForm::ByMessageId => state.world.message(id),
        MessageForm::ByContactId => by_contact(),
        MessageForm::Both => state.world.message(id).or_else(by_contact),
    };
    found.map_or_else(Answer::absent, |message| Answer::resource(200, shapes::message(message)))
}

fn conversation(state: &State, conversation: &Conversation) -> Value {
    let world = &state.world;
    let mut value = shapes::conversation(conversation);
    value["requestingUserInfo"] = json!(format!("/conversations/{}/user_info", conversation.slug));
    value["latestPreviewableItem"] = world.newest_message(conversation).map_or(Value::Null, shapes::message);
    if state.options.related == Related::Embedded {
        let contacts: Vec<&Contact> = world.contacts_with_phone(&conversation.account, &conversation.phone);
        value["associatedContacts"] = shapes::associated_contacts(conversation, &contacts);
        let assigned = conversation.assigned_contact.as_ref().and_then(|slug| world.contact(slug));
        value["assignedContact"] =
            assigned.map_or(Value::Null, |contact| shapes::contact(contact, ContactForm::Related));
    }
    value
}
