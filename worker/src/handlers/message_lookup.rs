//! Fetches a message with a GET. The vendor's documents disagree on what `/messages/{id}` takes: the help centre says
//! the contact's id (<https://docs.textus.com/en/articles/8663304-webhooks-use-cases>), the API reference the message's
//! id (<https://apidocs.next.textus.com/docs/messages/get>). This module finds out which form an account answers, and
//! remembers it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hookline_common::settings::MessageLookup;

use crate::delivery::handler::{Attempt, HandlerError};
use crate::destinations::error::DestinationError;
use crate::textus::client::TextUs;
use crate::textus::payload::{MessagePayload, Segment};
use crate::textus::types::Message;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Contact,
    Message,
}

pub(super) struct MessageFinder {
    textus: TextUs,
    lookup: MessageLookup,
    /// The form that works, by account. Only a form that was answered with the message itself is remembered.
    works: Mutex<HashMap<String, Form>>,
}

/// Resolves the contact id for a message lookup when the payload has none.
#[async_trait::async_trait]
pub(super) trait ContactOfMessage: Send + Sync {
    async fn contact_id(&self, attempt: &Attempt<'_>) -> Result<Option<Segment>, HandlerError>;
}

impl MessageFinder {
    pub(super) fn new(textus: TextUs, lookup: MessageLookup) -> Self {
        Self { textus, lookup, works: Mutex::default() }
    }

    /// Returns whether no call is made because the signed payload is enough.
    pub(super) fn is_off(&self) -> bool {
        self.lookup == MessageLookup::None
    }

    /// Returns the message; `None` if no form finds it (yet).
    pub(super) async fn find(
        &self,
        attempt: &Attempt<'_>,
        payload: &MessagePayload,
        contact: &dyn ContactOfMessage,
    ) -> Result<Option<Message>, HandlerError> {
        let account = payload.account.as_deref().unwrap_or_default();
        let mut failed = None;
        for form in self.order(account, payload) {
            let found = match form {
                Form::Message => self.ask(attempt, &payload.message_id, payload).await,
                Form::Contact => match contact.contact_id(attempt).await? {
                    Some(contact_id) => self.ask(attempt, &contact_id, payload).await,
                    None => Ok(None),
                },
            };
            match found {
                Ok(Some(message)) => {
                    self.remember(account, form);
                    return Ok(Some(message));
                }
                Ok(None) => {}
                // An id of the wrong kind may upset the API, or be one that the token may not see. The right form still
                // answers then. An error that a retry can cure takes precedence over one that it can't.
                Err(error @ (DestinationError::Failed { .. } | DestinationError::ProbeFailed { .. })) => {
                    failed = Some(error)
                }
                Err(error @ DestinationError::Forbidden { .. }) => {
                    failed = failed.or(Some(error));
                }
                Err(error) => return Err(HandlerError::textus(error)),
            }
        }
        failed.map_or(Ok(None), |error| Err(HandlerError::textus(error)))
    }

    fn order(&self, account: &str, payload: &MessagePayload) -> Vec<Form> {
        match self.lookup {
            MessageLookup::None => Vec::new(),
            MessageLookup::Contact => vec![Form::Contact],
            MessageLookup::Message => vec![Form::Message],
            MessageLookup::Auto => {
                let remembered = self.works.lock().unwrap_or_else(PoisonError::into_inner).get(account).copied();
                match remembered {
                    Some(Form::Message) => vec![Form::Message, Form::Contact],
                    Some(Form::Contact) => vec![Form::Contact, Form::Message],
                    None if payload.contact.one().is_some() => vec![Form::Contact, Form::Message],
                    // There is no contact id at hand. Asking for one first would cost a call whichever form is right.
                    None => vec![Form::Message, Form::Contact],
                }
            }
        }
    }

    async fn ask(
        &self,
        attempt: &Attempt<'_>,
        id: &Segment,
        payload: &MessagePayload,
    ) -> Result<Option<Message>, DestinationError> {
        let answered = match self.textus.get_message(attempt.calls, id).await {
            Ok(messages) => messages,
            // For the other form, this path doesn't know the id. Whichever 4xx says so, this isn't the form.
            Err(DestinationError::Rejected { status: 400 | 422, .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        // The id may come with or without `/messages/` in front.
        let is_it =
            |message: &Message| Segment::from_path("/messages/", &message.id).as_ref() == Some(&payload.message_id);
        Ok(answered.into_iter().find(is_it))
    }

    fn remember(&self, account: &str, form: Form) {
        self.works.lock().unwrap_or_else(PoisonError::into_inner).insert(account.to_owned(), form);
    }
}
