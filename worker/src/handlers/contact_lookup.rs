//! Finds the contact of a phone number in a TextUs account. It tries the number's conversation first, then the search
//! by phone (docs/textus-api.md, "The contact of a message").

use hookline_common::phone::Phone;

use crate::calls::log::CallLog;
use crate::destinations::error::DestinationError;
use crate::textus::client::TextUs;
use crate::textus::types::ContactRef;

/// What an account knows about a phone number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nobody,
    /// The contact's path, `/contacts/…`, and its name if the answer held it.
    One {
        contact_id: String,
        name: Option<String>,
    },
    /// Several contacts share the number and none is assigned, or the owner is unclear. Never pick one silently.
    Several,
}

pub(super) async fn by_phone(
    textus: &TextUs,
    calls: &CallLog,
    account: &str,
    phone: &Phone,
) -> Result<Found, DestinationError> {
    if let Some(conversation) = textus.conversation(calls, account, phone).await? {
        match conversation.contact() {
            ContactRef::One(contact) => {
                return Ok(Found::One { contact_id: contact.raw_id(), name: contact.name });
            }
            ContactRef::Many => return Ok(Found::Several),
            ContactRef::None => {}
        }
    }
    let mut found: Option<(String, Option<String>)> = None;
    for entry in textus.contact_phones(calls, account, phone).await? {
        // The number exists, whoever owns it, so nobody may treat it as missing.
        let Some(contact) = entry.contact() else { return Ok(Found::Several) };
        let contact_id = contact.raw_id();
        match &found {
            Some((known, _)) if *known == contact_id => {}
            Some(_) => return Ok(Found::Several),
            None => found = Some((contact_id, contact.name)),
        }
    }
    Ok(found.map_or(Found::Nobody, |(contact_id, name)| Found::One { contact_id, name }))
}

impl Found {
    /// Returns the contact's path and name if there is exactly one.
    pub(super) fn one(self) -> Option<(String, Option<String>)> {
        match self {
            Self::One { contact_id, name } => Some((contact_id, name)),
            Self::Nobody | Self::Several => None,
        }
    }
}
