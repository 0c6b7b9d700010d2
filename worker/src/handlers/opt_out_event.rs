//! Reads the events that both `record_opt_out` and `flag_opt_out` take: opt-outs, opt-ins, and texts that consist only
//! of a keyword.

use hookline_common::event::{Event, TEXT_RECEIVED};
use hookline_common::keywords::Keywords;
use hookline_common::names::{DeadReason, SkipReason};
use hookline_common::settings::Settings;
use hookline_store::model::{OptEvent, OptMethod};

use crate::delivery::handler::{HandlerError, Outcome};
use crate::textus::payload::{self, OptOutPayload, Payload, Unreadable};

/// Reads opt-out events.
pub(super) struct OptOutEvents {
    keywords: Keywords,
    /// The account of an event that names none.
    account: String,
}

impl OptOutEvents {
    pub(super) fn new(settings: &Settings) -> Self {
        let own = &settings.handlers.record_opt_out;
        let account = Some(&settings.textus.account).filter(|account| !account.is_empty());
        Self {
            keywords: Keywords::new(&own.keywords),
            account: account.or(own.accounts.first()).cloned().unwrap_or_default(),
        }
    }

    /// Returns `None` for a keyword from a short code or a name, which can't be opted out.
    pub(super) fn read(&self, event: &Event) -> Result<Option<OptOutPayload>, HandlerError> {
        if event.event_type.as_str() != TEXT_RECEIVED {
            return match payload::read(event)? {
                Payload::OptOut(payload) => Ok(Some(payload)),
                Payload::Message(_) | Payload::Contact(_) => {
                    Err(Unreadable::new("the event is neither an opt-out nor an opt-in").into())
                }
            };
        }
        let text = payload::read_text(event)?;
        // The keyword that ingest read counts. A redrive by an older version leaves it out.
        let by_body = || text.body.as_deref().and_then(|body| self.keywords.read(body));
        let keyword =
            event.event_type.keyword().or_else(by_body).ok_or(Unreadable::new("the text is not a keyword alone"))?;
        match text.opt_out(keyword) {
            Some(payload) => Ok(Some(payload)),
            None if text.is_from_code => Ok(None),
            None => Err(HandlerError::GiveUp {
                reason: DeadReason::UnknownContact,
                destination: None,
                status: None,
                detail: "the text is a keyword alone and names no number that can be read; look in TextUs whose it is"
                    .to_owned(),
            }),
        }
    }

    /// Returns what the ledger records about the event. `targets` are the accounts that opt-outs are PUT to.
    pub(super) fn opt_event<'a>(
        &'a self,
        event: &'a Event,
        payload: &'a OptOutPayload,
        targets: &'a [String],
    ) -> OptEvent<'a> {
        OptEvent {
            event_id: &event.id,
            source_event_id: event.source_event_id.as_deref(),
            account: payload.account.as_deref().unwrap_or(&self.account),
            phone: &payload.phone,
            opted_out: payload.opted_out,
            event_time: payload.event_time,
            received_at: event.received_at,
            method: if payload.keyword.is_some() { OptMethod::Keyword } else { OptMethod::Webhook },
            targets,
        }
    }
}

/// Ends an attempt at a keyword from a short code or a name.
pub(super) fn nobody() -> Outcome {
    let remark = "the text came from a short code or a name, which cannot be opted out".to_owned();
    Outcome::skipped(SkipReason::NoAction).with_remarks([remark])
}

/// Returns a remark about a date that is later than the event's receipt.
pub(super) fn remark_on_date(event: &Event, payload: &OptOutPayload) -> Option<String> {
    let is_ahead = payload.event_time.is_some_and(|stated| stated > event.received_at);
    is_ahead.then(|| "the event is dated ahead of its receipt: it counts as received".to_owned())
}
