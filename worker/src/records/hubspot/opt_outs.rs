//! Opt-outs as properties of contacts: a flag, the date of each kind of news, and the source. HubSpot's own
//! subscriptions are for e-mail only, so they stay untouched
//! (<https://github.com/HubSpot/HubSpot-public-api-spec-collection>).
//!
//! A contact has one flag for up to two numbers, and is opted out as long as any of them is. The store knows the state
//! of each number. HubSpot knows more only if its dates are newer than all that the store has of these numbers.

use std::time::Duration;

use hookline_common::names::{Destination, Operation, OperationClass};
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use reqwest::Method;
use serde_json::json;

use super::client::{Record, Request};
use super::errors::{self, failed};
use super::people::{numbers, segment};
use super::{HubSpot, OPT_OUT_SOURCE_PROPERTY, OPTED_IN_AT};
use crate::calls::http::unreadable;
use crate::calls::log::CallLog;
use crate::delivery::handler::HandlerError;
use crate::records::person_flags::{self, FlagDue, PersonFlags};
use crate::records::{FlagWrite, OPT_OUT_SOURCE, OptOutFlag, Person};

impl HubSpot {
    /// Sets or clears the flag of the person, and reads it back.
    pub(super) async fn flag(
        &self,
        log: &CallLog,
        person: &Person,
        phone: &Phone,
        flag: &OptOutFlag,
    ) -> Result<FlagWrite, HandlerError> {
        let contact = self.flagged_contact(log, person).await?;
        let present = self.flags(&contact);
        let news = (phone, flag);
        let wanted =
            match person_flags::due(&self.store, present, &numbers(&contact), news, std::convert::identity).await? {
                FlagDue::Write(wanted) => wanted,
                FlagDue::Nothing => return Ok(FlagWrite::AsItWas),
                FlagDue::NewerThere => return Ok(FlagWrite::NewerThere),
            };
        self.set(log, &contact.id, &wanted).await?;
        let after = self.flags(&self.flagged_contact(log, person).await?);
        if after != wanted {
            return Err(failed(unreadable("the opt-out that was written is not what is read back")));
        }
        Ok(FlagWrite::Changed)
    }

    async fn flagged_contact(&self, log: &CallLog, person: &Person) -> Result<Record, HandlerError> {
        let names = [&self.properties.opted_out, &self.properties.opted_out_at].map(String::as_str);
        let names = [names[0], names[1], OPTED_IN_AT, OPT_OUT_SOURCE_PROPERTY];
        let request = self.get_contact(&person.id.0, &names).map_err(failed)?.in_class(OperationClass::OptOutWrites);
        let contact = self.contact(log, request).await.map_err(failed)?;
        contact.ok_or(HandlerError::TryAgain {
            after: Duration::from_secs(30),
            destination: Destination::SystemOfRecord,
            why: "the contact was merged or deleted in HubSpot while its opt-out was written",
        })
    }

    fn flags(&self, contact: &Record) -> PersonFlags {
        let date = |name: &str| contact.get(name).and_then(date);
        PersonFlags {
            opted_out: contact.get(&self.properties.opted_out) == Some("true"),
            opted_out_at: date(&self.properties.opted_out_at),
            opted_in_at: date(OPTED_IN_AT),
        }
    }

    async fn set(&self, log: &CallLog, id: &str, flags: &PersonFlags) -> Result<(), HandlerError> {
        let Self { properties, .. } = self;
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
        let body = json!({ "properties": {
            properties.opted_out.as_str(): flags.opted_out.to_string(),
            properties.opted_out_at.as_str(): text(flags.opted_out_at),
            OPTED_IN_AT: text(flags.opted_in_at),
            OPT_OUT_SOURCE_PROPERTY: OPT_OUT_SOURCE,
        }});
        let path = format!("contacts/{}", segment(id).map_err(failed)?);
        let request = Request::of_objects(Operation::SetOptOut, Method::PATCH, &path).with_body(body);
        let began = self.client.gate().now_ms();
        let Err(error) = self.client.make(log, request).await else { return Ok(()) };
        let names = [&properties.opted_out, &properties.opted_out_at];
        let names = [names[0].as_str(), names[1].as_str(), OPTED_IN_AT, OPT_OUT_SOURCE_PROPERTY];
        Err(errors::failed(self.of_set_up(log, began, &names, error).await))
    }
}

/// Reads a date as HubSpot answers it: ISO 8601, or milliseconds since 1970.
fn date(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|| text.parse().ok().map(Timestamp::from_millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_both_forms() {
        let at = Timestamp::parse("2026-11-02T15:04:05Z");
        assert_eq!(date("2026-11-02T15:04:05.000Z"), at);
        assert_eq!(date("1793631845000"), at);
        assert_eq!(date("yesterday"), None);
    }
}
