//! Whose text or thread it is, as far as TextUs says.

use hookline_common::phone::Phone;
use hookline_store::model::Thread;

use crate::textus::payload::{MessagePayload, Segment};

/// What TextUs says about the person of a text, and of every text of one thread.
pub(crate) struct Whom {
    /// Slug of the messaging account.
    pub(super) account: Option<String>,
    pub(super) phone: Option<Phone>,
    pub(super) contact: Option<Segment>,
    /// Whether the sender is a short code or a name.
    pub(super) is_from_code: bool,
}

impl Whom {
    /// Returns the contact's path: `/contacts/…`.
    pub(super) fn contact_id(&self) -> Option<String> {
        self.contact.as_ref().map(|segment| segment.under("/contacts/"))
    }

    pub(super) fn is_nobody(&self) -> bool {
        self.phone.is_none() && self.contact.is_none()
    }
}

impl From<&MessagePayload> for Whom {
    fn from(payload: &MessagePayload) -> Self {
        Self {
            account: payload.account.clone(),
            phone: payload.phone.clone(),
            contact: payload.contact.one().cloned(),
            is_from_code: payload.is_from_code,
        }
    }
}

impl From<&Thread> for Whom {
    fn from(thread: &Thread) -> Self {
        Self {
            account: Some(thread.account.clone()),
            phone: thread.phone.as_deref().and_then(Phone::parse),
            contact: thread.contact_id.as_deref().and_then(|id| Segment::from_path("/contacts/", id)),
            // A thread has a number or a contact.
            is_from_code: false,
        }
    }
}
