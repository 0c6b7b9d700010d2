//! JSON of the vendor's resources, key for key as its pages show them. Only this module knows these shapes; it writes
//! both the API's answers and the webhooks. <https://apidocs.next.textus.com/types/Message/>,
//! <https://apidocs.next.textus.com/types/Conversation/>

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::{Contact, ContactPhone, Conversation, Direction, Message, Note, OptOut};
use crate::options::Related;
use crate::phone;

/// Formats as `2025-03-04T15:22:41.307Z`.
pub(crate) fn millis(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Formats as `2025-03-05T09:01:35.118204Z`.
pub(crate) fn micros(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Formats as `2025-03-05T09:01:33.482910+00:00`.
pub(crate) fn micros_with_offset(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

pub(crate) fn context(name: &str) -> String {
    format!("/contexts/{name}.jsonld")
}

/// A collection that is answered as a whole, and thus has no `view`.
pub(crate) fn collection(kind: &str, id: &str, members: Vec<Value>) -> Value {
    json!({
        "@type": kind,
        "id": id,
        "@context": context("hydra:Collection"),
        "totalItems": members.len(),
        "members": members,
    })
}

/// How much of a contact is written in which place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContactForm {
    /// In the answer to a write or a `GET` of one contact: phones and notes embedded.
    Whole,
    /// Inside a conversation or a webhook: phones embedded, notes as a link.
    Related,
    /// Inside a phone search: both as links.
    Item,
}

pub(crate) fn contact(contact: &Contact, form: ContactForm) -> Value {
    let id = format!("/contacts/{}", contact.slug);
    let (first, last) = split_name(contact.name.as_deref());
    let mut value = json!({
        "@type": if form == ContactForm::Item { "ContactItem" } else { "Contact" },
        "id": id,
        "@context": context("Contact"),
        "name": contact.name,
        "firstName": first,
        "lastName": last,
        "phones": if form == ContactForm::Item { json!(format!("{id}/phones")) } else { phones(contact) },
        "notes": if form == ContactForm::Whole { notes(contact) } else { json!(format!("{id}/notes")) },
        "data": contact.data,
        "conversations": format!("{id}/conversations"),
        "createdAt": millis(contact.created_at),
    });
    if form == ContactForm::Related {
        value["formattedData"] = json!({});
    }
    value
}

/// The answer to `GET /contacts/{slug}/phones`, and `phones` where embedded.
pub(crate) fn phones(contact: &Contact) -> Value {
    let members = contact.phones.iter().map(|phone| contact_phone(contact, phone)).collect();
    collection("hydra:Collection", &format!("/contacts/{}/phones", contact.slug), members)
}

/// The answer to `GET /contacts/{slug}/notes`, and `notes` where embedded.
pub(crate) fn notes(contact: &Contact) -> Value {
    let members = contact.notes.iter().map(|one| note(contact, one)).collect();
    collection("hydra:Collection", &format!("/contacts/{}/notes", contact.slug), members)
}

fn contact_phone(contact: &Contact, phone: &ContactPhone) -> Value {
    json!({
        "@type": "ContactPhone",
        "id": format!("/contact_phones/{}", phone.slug),
        "@context": context("ContactPhone"),
        "phoneNumber": phone.number,
        "formattedPhoneNumber": phone::formatted(&phone.number),
        "extension": phone.extension,
        "type": phone.kind,
        "deliverabilityStatus": "unknown",
        "contact": format!("/contacts/{}", contact.slug),
    })
}

/// A member of `GET /{account}/contact_phones`.
pub(crate) fn recipient_contact_phone(of: &Contact, phone: &ContactPhone, related: Related) -> Value {
    let mut value = contact_phone(of, phone);
    value["@type"] = json!("RecipientContactPhone");
    value["@context"] = json!(context("RecipientContactPhone"));
    if related == Related::Embedded {
        value["contact"] = contact(of, ContactForm::Item);
    }
    value
}

pub(crate) fn note(contact: &Contact, note: &Note) -> Value {
    json!({
        "@type": "ContactNote",
        "id": format!("/contact_notes/{}", note.slug),
        "@context": context("ContactNote"),
        "content": note.content,
        "createdAt": millis(note.created_at),
        "updatedAt": millis(note.created_at),
        "user": user(),
        "contact": format!("/contacts/{}", contact.slug),
    })
}

/// The keys that a conversation has both in an API answer and in a webhook.
pub(crate) fn conversation(conversation: &Conversation) -> Value {
    let id = format!("/conversations/{}", conversation.slug);
    json!({
        "@type": "Conversation",
        "id": id,
        "@context": context("Conversation"),
        "slug": conversation.slug,
        "currentState": "open",
        "account": format!("/accounts/{}", conversation.account),
        "phoneNumber": conversation.phone,
        "formattedPhoneNumber": phone::formatted(&conversation.phone),
        "assignedContact": conversation.assigned_contact.as_ref().map(|slug| format!("/contacts/{slug}")),
        "associatedContacts": format!("{id}/associated_contacts"),
    })
}

/// `associatedContacts` where embedded.
pub(crate) fn associated_contacts(conversation: &Conversation, contacts: &[&Contact]) -> Value {
    let members = contacts.iter().map(|one| contact(one, ContactForm::Related)).collect();
    collection("ContactCollection", &format!("/conversations/{}/associated_contacts", conversation.slug), members)
}

/// The message as in an API answer; a webhook adds `status`.
pub(crate) fn message(message: &Message) -> Value {
    let id = format!("/messages/{}", message.slug);
    let at = millis(message.at);
    json!({
        "@type": "Message",
        "id": id,
        "@context": context("Message"),
        "direction": match message.direction { Direction::In => "in", Direction::Out => "out" },
        "body": message.body,
        "formattedBody": format!("<div>{}</div>", escaped(&message.body)),
        "displayTimestamp": at,
        "timelinePosition": at,
        "deliveryState": message.state,
        "conversation": format!("/conversations/{}", message.conversation),
        "sender": match message.direction { Direction::In => None, Direction::Out => Some(USER_ID) },
        "attachments": collection("hydra:Collection", &format!("{id}/attachments"), message.attachments.clone()),
        "friendlyStateDescription": match message.state.as_str() {
            "received" => "Inbound Message Received",
            "delivered" => "Message Delivered",
            "failed" => "Message Failed",
            _ => "Delivery Unknown",
        },
        "retryAllowed": false,
        "retry": null,
        "latestEventAt": at,
        "flags": [],
        "source": "textus",
    })
}

/// A member of `attachments`. Its fields are not documented, so these are the most likely ones.
pub(crate) fn attachment(slug: &str) -> Value {
    json!({
        "@type": "Attachment",
        "id": format!("/attachments/{slug}"),
        "@context": context("Attachment"),
        "contentType": "image/jpeg",
        "filename": format!("{slug}.jpg"),
        "url": format!("https://media.example.test/{slug}.jpg"),
    })
}

/// The answer to `PUT /{account}/opt_outs/{phone}`, with microseconds and the user.
pub(crate) fn opt_out_written(opt_out: &OptOut) -> Value {
    let mut value = opt_out_read(opt_out);
    value["createdAt"] = json!(micros(opt_out.created_at));
    value["user"] = user();
    value
}

/// The answer to `GET`, which the vendor's pages show without a user. `id` ends in the number as the request wrote it.
pub(crate) fn opt_out_read(opt_out: &OptOut) -> Value {
    json!({
        "@type": "OptOut",
        "@context": context("OptOut"),
        "id": format!("/{}/opt_outs/{}", opt_out.account, opt_out.slug),
        "createdAt": millis(opt_out.created_at),
        "formattedPhoneNumber": phone::bare_digits(&opt_out.phone),
        "user": null,
        "createdVia": "User",
        "originatingAccount": {
            "@type": "Account",
            "@context": context("Account"),
            "id": format!("/accounts/{}", opt_out.account),
            "name": display_name(&opt_out.account),
        },
    })
}

/// The `OptOut` of a number that the client didn't ask about, always the same.
pub(crate) fn opt_out_of_another(account: &str, phone: &str) -> Value {
    opt_out_written(&OptOut {
        account: account.to_owned(),
        phone: phone.to_owned(),
        slug: phone::bare_digits(phone).to_owned(),
        created_at: Timestamp::from_second(1_741_165_295).expect("a time of 2025"),
    })
}

/// `optOut` of an opt-out or opt-in webhook, which differs from the REST resource.
pub(crate) fn webhook_opt_out(opt_out: &OptOut, kind: &str) -> Value {
    json!({
        "@type": "OptOut",
        "id": format!("/{}/opt_outs/{}", opt_out.account, opt_out.slug),
        "type": kind,
        "phoneNumber": opt_out.phone,
        "formattedPhoneNumber": phone::formatted(&opt_out.phone),
        "account": format!("/accounts/{}", opt_out.account),
    })
}

const USER_ID: &str = "/users/xR5bVk";

/// The fictional user who owns the token.
fn user() -> Value {
    json!({
        "@type": "User",
        "@context": context("User"),
        "id": USER_ID,
        "name": "Odalys Brandvoll",
        "firstName": "Odalys",
        "lastName": "Brandvoll",
        "email": "odalys.brandvoll@example.test",
        "avatar": null,
        "automatedActor": false,
        "hasPassword": false,
        "discarded": false,
        "settings": { "customSettings": {} },
        "memberships": format!("{USER_ID}/memberships"),
    })
}

/// Converts an account's slug to its display name: `harbor_staffing` becomes `Harbor Staffing`.
fn display_name(account: &str) -> String {
    let capitalised = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>())
    };
    account.split(['_', '.', '-']).filter_map(capitalised).collect::<Vec<_>>().join(" ")
}

fn split_name(name: Option<&str>) -> (Option<&str>, Option<&str>) {
    match name.map(str::trim).filter(|name| !name.is_empty()) {
        None => (None, None),
        Some(name) => match name.split_once(' ') {
            Some((first, rest)) => (Some(first), Some(rest.trim_start())),
            None => (Some(name), None),
        },
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
