//! What HubSpot's failures mean, by status and by the closed words of their body: `category` and `policyName`
//! (<https://developers.hubspot.com/docs/api-reference/error-handling>). Nothing is guessed from messages.

use std::time::Duration;

use hookline_common::names::Destination;
use serde::Deserialize;

use crate::calls::http::Refusal;
use crate::delivery::handler::HandlerError;
use crate::destinations::error::DestinationError;
use crate::destinations::limits::{Limits, MAX_WAIT};
use crate::destinations::redact::redact;

/// The waits that HubSpot's own client keeps (<https://github.com/HubSpot/hubspot-api-nodejs>).
const SECOND: Duration = Duration::from_secs(1);
const TEN_SECONDS: Duration = Duration::from_secs(10);
/// A locked record is free again after at least this long.
const LOCKED: Duration = Duration::from_secs(2);
/// HubSpot's status for an account that moves to another data centre.
const MIGRATING: u16 = 477;

/// The parts of the error envelope that decide. HubSpot may leave out any of them.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Envelope {
    category: Option<String>,
    policy_name: Option<String>,
}

/// Reads what a failure says beyond its status.
pub(super) fn read_refusal(status: u16, body: &[u8], limits: &mut Limits) -> Refusal {
    let envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
    match status {
        403 if envelope.category.as_deref() == Some("MISSING_SCOPES") => Refusal::MissingScope,
        429 => {
            let wait = match envelope.policy_name.as_deref() {
                Some("SECONDLY") => SECOND,
                // Midnight in the account's time zone is not known here, so another call is tried now and then.
                Some("DAILY") => MAX_WAIT,
                Some(_) | None => TEN_SECONDS,
            };
            limits.retry_after = limits.retry_after.or(Some(wait));
            // The answer to this very call counts, not what a window had left.
            limits.window_end = None;
            Refusal::AsItsStatus
        }
        423 => {
            limits.retry_after = limits.retry_after.or(Some(LOCKED));
            Refusal::AsItsStatus
        }
        MIGRATING => {
            limits.retry_after = limits.retry_after.or(Some(TEN_SECONDS));
            Refusal::Away("calls to system_of_record are held: HubSpot moves this account to another data centre (477)")
        }
        _ => Refusal::AsItsStatus,
    }
}

/// One member of `errors` of a batch that was answered 200, 201 or 207.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct BatchError {
    category: Option<String>,
    message: Option<String>,
}

impl BatchError {
    pub(super) fn is_absence(&self) -> bool {
        self.category.as_deref() == Some("OBJECT_NOT_FOUND")
    }

    /// Returns the error as if its input had been sent alone.
    pub(super) fn as_failure(&self) -> DestinationError {
        let detail = redact(self.message.as_deref().unwrap_or_default());
        match self.category.as_deref() {
            Some("VALIDATION_ERROR") => DestinationError::Rejected { status: 400, detail },
            Some("CONFLICT" | "OBJECT_ALREADY_EXISTS") => DestinationError::Rejected { status: 409, detail },
            Some("OBJECT_NOT_FOUND") => DestinationError::NotFound { detail },
            Some(_) | None => DestinationError::Failed { status: 207, retry_after: None, detail },
        }
    }
}

pub(super) fn failed(error: DestinationError) -> HandlerError {
    HandlerError::Destination { destination: Destination::SystemOfRecord, error }
}

/// Returns whether HubSpot refused a call for what was in it.
pub(super) fn is_refusal(error: &DestinationError) -> bool {
    matches!(error, DestinationError::Rejected { .. } | DestinationError::NotFound { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_read_by_its_closed_words() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (status, body, refusal, wait) in [
            (429, r#"{"policyName":"SECONDLY"}"#, Refusal::AsItsStatus, seconds(1)),
            (429, r#"{"policyName":"TEN_SECONDLY_ROLLING"}"#, Refusal::AsItsStatus, seconds(10)),
            (429, r#"{"policyName":"DAILY"}"#, Refusal::AsItsStatus, seconds(900)),
            (429, r#"{"category":"RATE_LIMITS"}"#, Refusal::AsItsStatus, seconds(10)),
            (429, "<html>", Refusal::AsItsStatus, seconds(10)),
            (423, r#"{"category":"LOCKED"}"#, Refusal::AsItsStatus, seconds(2)),
            (403, r#"{"category":"MISSING_SCOPES"}"#, Refusal::MissingScope, None),
            (403, r#"{"message":"MISSING_SCOPES"}"#, Refusal::AsItsStatus, None),
            (400, r#"{"category":"VALIDATION_ERROR"}"#, Refusal::AsItsStatus, None),
            (503, "", Refusal::AsItsStatus, None),
        ] {
            let mut limits = Limits::default();
            assert_eq!(read_refusal(status, body.as_bytes(), &mut limits), refusal, "{status} {body}");
            assert_eq!(limits.retry_after, wait, "{status} {body}");
        }
        let mut limits = Limits { retry_after: seconds(40), ..Limits::default() };
        assert!(matches!(read_refusal(477, b"", &mut limits), Refusal::Away(_)));
        assert_eq!(limits.retry_after, seconds(40));
    }
}
