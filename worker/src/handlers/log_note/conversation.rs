//! The contact of a message's conversation, looked up at most once per attempt.

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::whom::Whom;
use crate::delivery::handler::{Attempt, HandlerError};
use crate::handlers::contact_lookup::{self, Found};
use crate::handlers::message_lookup::ContactOfMessage;
use crate::textus::client::TextUs;
use crate::textus::payload::Segment;

pub(crate) struct ConversationContact<'a> {
    /// `None` where no call is made at all (`message_lookup = "none"`).
    textus: Option<&'a TextUs>,
    default_account: &'a str,
    whom: &'a Whom,
    found: OnceCell<Found>,
}

impl<'a> ConversationContact<'a> {
    pub(super) fn new(textus: Option<&'a TextUs>, default_account: &'a str, whom: &'a Whom) -> Self {
        Self { textus, default_account, whom, found: OnceCell::new() }
    }

    pub(super) async fn found(&self, attempt: &Attempt<'_>) -> Result<Found, HandlerError> {
        let Some((textus, phone)) = self.textus.zip(self.whom.phone.as_ref()) else { return Ok(Found::Nobody) };
        let account = self.whom.account.as_deref().unwrap_or(self.default_account);
        let found = self
            .found
            .get_or_try_init(|| contact_lookup::by_phone(textus, attempt.calls, account, phone))
            .await
            .map_err(HandlerError::textus)?;
        Ok(found.clone())
    }
}

#[async_trait]
impl ContactOfMessage for ConversationContact<'_> {
    async fn contact_id(&self, attempt: &Attempt<'_>) -> Result<Option<Segment>, HandlerError> {
        if let Some(segment) = &self.whom.contact {
            return Ok(Some(segment.clone()));
        }
        Ok(self.found(attempt).await?.one().and_then(|(id, _)| Segment::from_path("/contacts/", &id)))
    }
}
