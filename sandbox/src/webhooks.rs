//! Envelopes of the webhooks that TextUs posts, and the signature over their bytes.
//! <https://apidocs.next.textus.com/overview/webhooks/webhooks-overview>

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::model::{Contact, Conversation, Message, OptOut, fresh_slug, fresh_uuid};
use crate::shapes::{self, ContactForm};

/// The header that carries the signature. <https://apidocs.next.textus.com/overview/webhooks/>
pub const SIGNATURE_HEADER: &str = "X-TextUs-Signature";

/// The integration that webhooks name as their sender unless another is given.
const INTEGRATION: &str = "/integrations/Lp4Xv9";

/// Returns the lower-case hex HMAC-SHA256 of exactly these bytes, keyed with the secret as literal text.
#[must_use]
pub fn sign(secret: &str, bytes: &[u8]) -> String {
    // HMAC takes keys of any length, so this cannot fail.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(bytes);
    hex::encode(mac.finalize().into_bytes())
}

/// Returns the same webhook with this integration as its sender.
pub(crate) fn sent_by(mut webhook: Value, integration: &str) -> Value {
    for key in ["id", "webHook"] {
        if let Some(rest) = webhook[key].as_str().and_then(|text| text.strip_prefix(INTEGRATION)) {
            webhook[key] = json!(format!("{integration}{rest}"));
        }
    }
    webhook
}

/// The envelope that message, contact and call events share.
pub(crate) fn envelope(kind: &str, action: &str, at: Timestamp) -> Value {
    json!({
        "@type": kind,
        "@context": shapes::context(kind),
        "id": format!("{INTEGRATION}/deliveries/{}", fresh_slug()),
        "timestamp": shapes::millis(at),
        "action": action,
        "webHook": INTEGRATION,
    })
}

/// `contact.opted_out` and `contact.opted_in`: no `webHook`, a UUID as delivery id, and microseconds with an offset.
pub(crate) fn opt_out(action: &str, kind: &str, opt_out: &OptOut, at: Timestamp) -> Value {
    json!({
        "@type": "OptOutWebhookDelivery",
        "@context": shapes::context("OptOutWebhookDelivery"),
        "id": format!("{INTEGRATION}/deliveries/{}", fresh_uuid()),
        "action": action,
        "timestamp": shapes::micros_with_offset(at),
        "optOut": shapes::webhook_opt_out(opt_out, kind),
    })
}

/// `contact.created`. The vendor's page could not be read, so this shape is the most likely one.
pub(crate) fn contact_created(action: &str, contact: &Contact, at: Timestamp) -> Value {
    let mut value = envelope("ContactWebhookDelivery", action, at);
    value["contact"] = shapes::contact(contact, ContactForm::Related);
    value
}

/// Any `message.*` event. `contacts` are embedded if given; otherwise there is a link.
pub(crate) fn message(
    action: &str,
    conversation: &Conversation,
    message: &Message,
    contacts: Option<&[&Contact]>,
    at: Timestamp,
) -> Value {
    let mut value = envelope("WebhookDelivery", action, at);
    value["conversation"] = self::conversation(conversation, contacts);
    let mut text = shapes::message(message);
    text["status"] = json!(message.state);
    value["message"] = text;
    value
}

/// `phone_call.completed`. The vendor's page could not be read; the envelope with `conversation` is likely.
pub(crate) fn phone_call(
    action: &str,
    conversation: &Conversation,
    contacts: Option<&[&Contact]>,
    at: Timestamp,
) -> Value {
    let mut value = envelope("WebhookDelivery", action, at);
    value["conversation"] = self::conversation(conversation, contacts);
    value["phoneCall"] = json!({
        "@type": "PhoneCall",
        "id": format!("/phone_calls/{}", fresh_slug()),
        "@context": shapes::context("PhoneCall"),
        "conversation": format!("/conversations/{}", conversation.slug),
    });
    value
}

fn conversation(conversation: &Conversation, contacts: Option<&[&Contact]>) -> Value {
    let mut value = shapes::conversation(conversation);
    value["accountPhoneNumber"] = json!(conversation.account_phone);
    value["formattedAccountPhoneNumber"] = json!(crate::phone::formatted(&conversation.account_phone));
    if let Some(contacts) = contacts {
        value["associatedContacts"] = shapes::associated_contacts(conversation, contacts);
    }
    value
}
