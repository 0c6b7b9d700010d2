//! Claims of effects. Times are in milliseconds, phones in E.164.

use hookline_common::event::EventId;
use hookline_common::names::HandlerName;
use hookline_common::time::Timestamp;
use std::time::Duration;

/// A request to claim an effect.
#[derive(Clone, Debug)]
pub struct ClaimRequest<'a> {
    pub handler: HandlerName,
    /// The account or object that the effect is written to.
    pub target: &'a str,
    /// The fact behind the effect: a message id, an account and phone, or an event id.
    pub effect_key: &'a str,
    pub event_id: &'a EventId,
    /// Identifies this delivery in this process. The claim belongs to this owner until the effect is done, or the claim
    /// is released or expires.
    pub owner: &'a str,
    /// How long the claim lasts: at least three call time-outs.
    pub lease: Duration,
    /// How long after a claim's end an unknown outcome may still come true: one call time-out.
    pub settle_after: Duration,
}

/// The fencing token of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimToken {
    pub handler: HandlerName,
    pub target: String,
    pub effect_key: String,
    pub owner: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The caller holds the claim, and nobody tried before: go ahead.
    Fresh(ClaimToken),
    /// The caller holds the claim, but an earlier call may have taken effect: look before writing. `event_id` is the
    /// event of that call, this event or another. `write_again` is set if a person decided that the call
    /// had no effect (`dead-letters resolve --write-again`).
    AfterUnknown { token: ClaimToken, write_again: bool, event_id: EventId },
    /// The effect was made before. `event_id` is the event that made it, this one or another; for an effect that was
    /// found after a doubt, it is the event whose call was in doubt.
    Done { event_id: EventId, remote_id: Option<String> },
    /// Another delivery holds the claim, or an unknown outcome is too recent to check. Come back at `until`; no attempt
    /// is spent.
    Wait { until: Timestamp },
}
