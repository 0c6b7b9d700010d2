//! Claims of effects. Times are in milliseconds, phones in E.164.

use hookline_common::event::EventId;
use hookline_common::names::HandlerName;
use hookline_common::time::Timestamp;
use std::time::Duration;

/// Who asks for an effect, and which one.
#[derive(Clone, Debug)]
pub struct ClaimRequest<'a> {
    pub handler: HandlerName,
    /// The account or object that the effect is written to.
    pub target: &'a str,
    /// What the fact is: a message id, an account and phone, an event id.
    pub effect_key: &'a str,
    pub event_id: &'a EventId,
    /// This delivery of this process: a claim belongs to it until it is finished, released or expired.
    pub owner: &'a str,
    /// At least three call time-outs.
    pub lease: Duration,
    /// One call time-out: how long after a claim's end an unknown outcome may still come true.
    pub settle_after: Duration,
}

/// Fencing token of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimToken {
    pub handler: HandlerName,
    pub target: String,
    pub effect_key: String,
    pub owner: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Ours, and nobody tried before: go ahead.
    Fresh(ClaimToken),
    /// Ours, but an earlier call may have taken effect: look before writing. `event_id` is whose call that was, this
    /// event's or another's. `write_again` is set where a person decided (`dead-letters resolve --write-again`) that
    /// it has not.
    AfterUnknown { token: ClaimToken, write_again: bool, event_id: EventId },
    /// Made before, by this event or another; where an effect was found that was in doubt, by the event that was.
    Done { event_id: EventId, remote_id: Option<String> },
    /// Another delivery holds it, or an unknown outcome is too young to look at: come back then, no attempt spent.
    Wait { until: Timestamp },
}
