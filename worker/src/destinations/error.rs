//! Why a call to a destination failed, with one variant for each reaction. Errors are classified once, here; no code
//! guesses from message texts. No variant holds a URL, a payload, a phone number or a secret.

use std::time::Duration;

use hookline_common::names::DeadReason;
use hookline_common::time::Timestamp;

use super::redact::cut;
use super::{error_text, status};

/// Longest detail that goes into a header or a row.
const MAX_DETAIL_BYTES: usize = 512;

/// A failed call. `detail` is redacted text: the destination's own, or ours about the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// No connection, so the call surely had no effect.
    #[error("could not connect: {detail}")]
    NotSent { detail: String },
    /// The call was sent and no usable answer came, so its effect is unknown.
    #[error("no usable answer: {detail}")]
    NoAnswer { detail: String },
    /// A status that isn't known to be final, such as 5xx or 3xx: a passing fault of the destination. A write's effect
    /// is unknown, except for the statuses which say that nothing was done.
    #[error("failed with {status}{}", after_colon(detail))]
    Failed { status: u16, retry_after: Option<Duration>, detail: String },
    /// 429. The gate is closed until then.
    #[error("rate limit reached")]
    Throttled { until: Timestamp },
    /// The fault is in our credentials, not in the event. The gate is paused, and the delivery looks again at `until`.
    #[error("credentials refused with {status}")]
    CredentialsRefused { status: u16, until: Timestamp },
    /// 403 with valid credentials: they may not see or change this one resource.
    #[error("forbidden with 403: the token is good, and may not do this{}", after_colon(detail))]
    Forbidden { detail: String },
    /// No call was made.
    #[error("{why}")]
    GateClosed { until: Timestamp, why: String, is_paused: bool },
    #[error("not found{}", after_colon(detail))]
    NotFound { detail: String },
    /// Another final status: 400, 409, 410, 413, 414, 415, 422. Status 0 means that we refused before making a call.
    #[error("rejected with {status}{}", after_colon(detail))]
    Rejected { status: u16, detail: String },
    /// The call was a probe, made to see whether the destination works again, and failed with `failure`. The next probe
    /// is due at `until`.
    #[error("{failure}")]
    ProbeFailed { until: Timestamp, failure: Box<DestinationError> },
}

/// What to do about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Try again after the larger of the back-off and `after`.
    Retry {
        after: Option<Duration>,
    },
    /// Try again at `until` without spending an attempt, because the call was a probe.
    RetryAfterProbe {
        until: Timestamp,
    },
    /// Wait until `until` without spending an attempt.
    Hold {
        until: Timestamp,
        why: String,
    },
    DeadLetter {
        reason: DeadReason,
    },
}

impl DestinationError {
    /// Returns what to do about this failure. The match has no `_` arm, so that a new variant must be handled.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::NotSent { .. } | Self::NoAnswer { .. } => Disposition::Retry { after: None },
            Self::Failed { retry_after, .. } => Disposition::Retry { after: *retry_after },
            Self::Throttled { until } | Self::CredentialsRefused { until, .. } | Self::GateClosed { until, .. } => {
                Disposition::Hold { until: *until, why: self.detail() }
            }
            Self::NotFound { .. } => Disposition::DeadLetter { reason: DeadReason::NotFound },
            Self::Rejected { .. } | Self::Forbidden { .. } => Disposition::DeadLetter { reason: DeadReason::Rejected },
            Self::ProbeFailed { until, .. } => Disposition::RetryAfterProbe { until: *until },
        }
    }

    /// Returns this failure as a probe's, with the next probe due at `until`. Failures that a retry doesn't cure stay
    /// as they are.
    #[must_use]
    pub(crate) fn of_probe(self, until: Timestamp) -> Self {
        match self.disposition() {
            Disposition::Retry { .. } => Self::ProbeFailed { until, failure: Box::new(self) },
            Disposition::RetryAfterProbe { .. } | Disposition::Hold { .. } | Disposition::DeadLetter { .. } => self,
        }
    }

    /// Returns whether a failed write may have taken effect. If so, look before writing again.
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Failed { status, .. } => !status::nothing_was_done(*status),
            Self::ProbeFailed { failure, .. } => failure.may_have_taken_effect(),
            Self::NotSent { .. }
            | Self::Throttled { .. }
            | Self::CredentialsRefused { .. }
            | Self::Forbidden { .. }
            | Self::GateClosed { .. }
            | Self::NotFound { .. }
            | Self::Rejected { .. } => false,
        }
    }

    /// Returns whether a pause keeps the call from being made, be it an operator's or for refused credentials.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        matches!(self, Self::CredentialsRefused { .. } | Self::GateClosed { is_paused: true, .. })
    }

    /// Names the kind of this failure, for logs: the destination's own words do not belong there.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotSent { .. } => "not_sent",
            Self::NoAnswer { .. } => "no_answer",
            Self::Failed { .. } => "failed",
            Self::Throttled { .. } => "rate_limited",
            Self::CredentialsRefused { .. } => "credentials_refused",
            Self::Forbidden { .. } => "forbidden",
            Self::GateClosed { is_paused: true, .. } => "paused",
            Self::GateClosed { is_paused: false, .. } => "gate_closed",
            Self::NotFound { .. } => "not_found",
            Self::Rejected { .. } => "rejected",
            Self::ProbeFailed { failure, .. } => failure.kind(),
        }
    }

    /// Returns the HTTP status if an answer came.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Failed { status, .. } | Self::CredentialsRefused { status, .. } => Some(*status),
            Self::Rejected { status, .. } => (*status != 0).then_some(*status),
            Self::Throttled { .. } => Some(429),
            Self::NotFound { .. } => Some(404),
            Self::Forbidden { .. } => Some(403),
            Self::ProbeFailed { failure, .. } => failure.status(),
            Self::NotSent { .. } | Self::NoAnswer { .. } | Self::GateClosed { .. } => None,
        }
    }

    /// Masks the destination's own words where they repeat one of these texts.
    #[must_use]
    pub(crate) fn without(self, private: &[String]) -> Self {
        self.map_detail(&|detail| error_text::masked(&detail, private))
    }

    /// Changes the destination's own words.
    #[must_use]
    pub(crate) fn map_detail(self, change: &dyn Fn(String) -> String) -> Self {
        match self {
            Self::Failed { status, retry_after, detail } => {
                Self::Failed { status, retry_after, detail: change(detail) }
            }
            Self::NotFound { detail } => Self::NotFound { detail: change(detail) },
            Self::Forbidden { detail } => Self::Forbidden { detail: change(detail) },
            Self::Rejected { status, detail } => Self::Rejected { status, detail: change(detail) },
            Self::ProbeFailed { until, failure } => {
                Self::ProbeFailed { until, failure: Box::new(failure.map_detail(change)) }
            }
            ours @ (Self::NotSent { .. }
            | Self::NoAnswer { .. }
            | Self::Throttled { .. }
            | Self::CredentialsRefused { .. }
            | Self::GateClosed { .. }) => ours,
        }
    }

    /// Returns the failure as redacted text of at most 512 bytes.
    #[must_use]
    pub fn detail(&self) -> String {
        cut(self.to_string(), MAX_DETAIL_BYTES)
    }
}

fn after_colon(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_says_what_it_asks_for() {
        let until = Timestamp::from_millis(5);
        let detail = String::new;
        let after = Some(Duration::from_secs(3));
        let retry = |after| Disposition::Retry { after };
        let dead = |reason| Disposition::DeadLetter { reason };
        for (error, expected, may, status) in [
            (DestinationError::NotSent { detail: detail() }, retry(None), false, None),
            (DestinationError::NoAnswer { detail: detail() }, retry(None), true, None),
            (
                DestinationError::Failed { status: 503, retry_after: after, detail: detail() },
                retry(after),
                true,
                Some(503),
            ),
            (DestinationError::NotFound { detail: detail() }, dead(DeadReason::NotFound), false, Some(404)),
            (
                DestinationError::Rejected { status: 422, detail: detail() },
                dead(DeadReason::Rejected),
                false,
                Some(422),
            ),
            (
                DestinationError::Failed { status: 302, retry_after: None, detail: detail() },
                retry(None),
                true,
                Some(302),
            ),
            (
                DestinationError::Failed { status: 423, retry_after: None, detail: detail() },
                retry(None),
                false,
                Some(423),
            ),
            (DestinationError::Rejected { status: 0, detail: detail() }, dead(DeadReason::Rejected), false, None),
            (DestinationError::Forbidden { detail: detail() }, dead(DeadReason::Rejected), false, Some(403)),
        ] {
            assert_eq!(error.disposition(), expected, "{error}");
            assert_eq!(error.may_have_taken_effect(), may, "{error}");
            assert_eq!(error.status(), status, "{error}");
        }
        for error in [
            DestinationError::Throttled { until },
            DestinationError::CredentialsRefused { status: 401, until },
            DestinationError::GateClosed { until, why: "paused".to_owned(), is_paused: true },
        ] {
            assert!(matches!(error.disposition(), Disposition::Hold { until: at, .. } if at == until), "{error}");
            assert!(!error.may_have_taken_effect());
        }
    }

    #[test]
    fn a_failed_probe_spends_no_attempt_and_tells_of_its_failure() {
        let (until, private) = (Timestamp::from_millis(5), vec!["Ada Lovelace".to_owned()]);
        let failure =
            DestinationError::Failed { status: 503, retry_after: None, detail: "for Ada Lovelace".to_owned() };
        let probe = failure.clone().of_probe(until).without(&private);

        assert_eq!(probe.disposition(), Disposition::RetryAfterProbe { until });
        assert_eq!((probe.status(), probe.may_have_taken_effect()), (Some(503), true));
        assert_eq!(probe.detail(), failure.without(&private).detail());
        assert!(!probe.detail().contains("Ada"), "{probe}");
        let unsent = DestinationError::NotSent { detail: String::new() }.of_probe(until);
        assert_eq!((unsent.status(), unsent.may_have_taken_effect()), (None, false));
        // A failure that a retry doesn't cure has nothing to do with the probe.
        let refused = DestinationError::Rejected { status: 422, detail: String::new() };
        assert_eq!(refused.clone().of_probe(until), refused);
    }

    #[test]
    fn a_detail_fits_a_header() {
        let error = DestinationError::Rejected { status: 422, detail: "é".repeat(400) };

        assert!(error.detail().len() <= 512);
        assert!(error.detail().starts_with("rejected with 422: é"));
    }
}
