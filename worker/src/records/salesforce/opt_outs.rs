//! Opt-outs as fields of contacts and leads: a checkbox, the date of each kind of news, and the source. The standard
//! checkboxes are for e-mail, fax and calls, so they stay untouched
//! (<https://developer.salesforce.com/docs/platform/object-reference/references/standard-objects/object-contact.html>).
//!
//! A person has one checkbox for all numbers, and is opted out as long as any of them is. The store knows the state of
//! each number. Salesforce knows more only if its dates are newer than all that the store has of these numbers.

use std::time::Duration;

use hookline_common::names::{Destination, Operation, OperationClass};
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::Request;
use super::errors::failed;
use super::person::{numbers, object_name};
use super::set_up::Verdict;
use super::soql::{Record, long_id, object_of};
use super::{OPT_OUT_SOURCE_FIELD, OPTED_IN_AT, Salesforce};
use crate::calls::http::unreadable;
use crate::calls::log::CallLog;
use crate::delivery::handler::HandlerError;
use crate::destinations::error::DestinationError;
use crate::records::person_flags::{self, FlagDue, PersonFlags};
use crate::records::{FlagWrite, OPT_OUT_SOURCE, OptOutFlag, Person};

impl Salesforce {
    /// Sets or clears the checkbox of the person, and reads it back.
    pub(super) async fn flag(
        &self,
        log: &CallLog,
        person: &Person,
        phone: &Phone,
        flag: &OptOutFlag,
    ) -> Result<FlagWrite, HandlerError> {
        let record = self.flagged_person(log, &person.id.0).await?;
        let present = self.flags(&record);
        let news = (phone, flag);
        let wanted = match person_flags::due(&self.store, present, &numbers(&record), news, whole_second).await? {
            FlagDue::Write(wanted) => wanted,
            FlagDue::Nothing => return Ok(FlagWrite::AsItWas),
            FlagDue::NewerThere => return Ok(FlagWrite::NewerThere),
        };
        self.set_flags(log, &record.id, &wanted).await?;
        let after = self.flags(&self.flagged_person(log, &record.id).await?);
        if after != wanted {
            return Err(failed(unreadable("the opt-out that was written is not what is read back")));
        }
        Ok(FlagWrite::Changed)
    }

    async fn flagged_person(&self, log: &CallLog, id: &str) -> Result<Record, HandlerError> {
        let (Some(id), Some(object)) = (long_id(id), object_of(id)) else {
            let detail = "this person's id is none of a contact or a lead of Salesforce".to_owned();
            return Err(failed(DestinationError::Rejected { status: 0, detail }));
        };
        for _ in 0..2 {
            let own = [&self.fields.opted_out, &self.fields.opted_out_at].map(String::as_str);
            let mut fields = self.person_fields(object);
            fields.extend([own[0], own[1], OPTED_IN_AT, OPT_OUT_SOURCE_FIELD]);
            let path = format!("sobjects/{}/{id}?fields={}", object_name(object), fields.join(","));
            let request = Request::new(Operation::FindPerson, Method::GET, path).in_class(OperationClass::OptOutWrites);
            let began = self.client.gate().now_ms();
            let failure = match self.client.record(log, request).await {
                Ok(Some(record)) if !record.is_set("IsConverted") => return Ok(record),
                Ok(_) => return Err(moved()),
                Err(failure) => failure,
            };
            if let Verdict::Failed(failure) = self.of_set_up(log, began, &[object_name(object)], failure).await {
                return Err(failure.into());
            }
        }
        Err(moved())
    }

    fn flags(&self, record: &Record) -> PersonFlags {
        PersonFlags {
            opted_out: record.is_set(&self.fields.opted_out),
            opted_out_at: record.time(&self.fields.opted_out_at).map(whole_second),
            opted_in_at: record.time(OPTED_IN_AT).map(whole_second),
        }
    }

    async fn set_flags(&self, log: &CallLog, id: &str, flags: &PersonFlags) -> Result<(), HandlerError> {
        let object = object_of(id).map(object_name).unwrap_or_default();
        let date = |at: Option<Timestamp>| at.map_or(Value::Null, |at| json!(at.to_string()));
        let fields = Map::from_iter([
            (self.fields.opted_out.clone(), json!(flags.opted_out)),
            (self.fields.opted_out_at.clone(), date(flags.opted_out_at)),
            (OPTED_IN_AT.to_owned(), date(flags.opted_in_at)),
            (OPT_OUT_SOURCE_FIELD.to_owned(), json!(OPT_OUT_SOURCE)),
        ]);
        let request = Request::new(Operation::SetOptOut, Method::PATCH, format!("sobjects/{object}/{id}"))
            .with_body(fields)
            .allowing_duplicates();
        let began = self.client.gate().now_ms();
        let Err(failure) = self.client.make(log, request).await else { return Ok(()) };
        if failure.is("CANNOT_UPDATE_CONVERTED_LEAD") || matches!(failure.error, DestinationError::NotFound { .. }) {
            return Err(moved());
        }
        match self.of_set_up(log, began, &[object], failure).await {
            Verdict::Again => Err(moved()),
            Verdict::Failed(failure) => Err(failure.into()),
        }
    }
}

fn moved() -> HandlerError {
    HandlerError::TryAgain {
        after: Duration::from_secs(30),
        destination: Destination::SystemOfRecord,
        why: "the person was merged, deleted or converted in Salesforce while the opt-out was written",
    }
}

/// A date and time of Salesforce has whole seconds.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis().div_euclid(1_000) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_cut_to_its_second() {
        for (given, expected) in [(1_999, 1_000), (1_000, 1_000), (0, 0), (-1, -1_000)] {
            assert_eq!(whole_second(Timestamp::from_millis(given)).as_millis(), expected);
        }
    }
}
