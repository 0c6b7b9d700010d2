//! How many API calls work needs at most, and how long they take at a destination's quota.

use std::time::Duration;

use hookline_common::names::{Destination, HandlerName};
use hookline_common::settings::{MessageLookup, Settings};
use hookline_store::model::GateRow;

/// TextUs allows 1,000 requests in 5 minutes per token (<https://apidocs.next.textus.com/overview/rate_limiting>).
const DEFAULT_LIMIT: u64 = 1_000;
const WINDOW: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);

/// The destination that a handler writes to.
pub(crate) const fn destination(handler: HandlerName) -> Destination {
    match handler {
        HandlerName::RecordOptOut | HandlerName::CreateContact => Destination::TextUs,
        HandlerName::FlagOptOut | HandlerName::LogNote | HandlerName::SyncContact => Destination::SystemOfRecord,
        HandlerName::RecordHistory => Destination::Store,
    }
}

/// Calls to TextUs that one delivery of this handler needs at most, without retries.
pub(crate) fn calls(settings: &Settings, handler: HandlerName) -> u64 {
    let handlers = &settings.handlers;
    match handler {
        HandlerName::RecordOptOut => accounts(&handlers.record_opt_out.accounts),
        // Two look-ups, then the POST.
        HandlerName::CreateContact => 3 * accounts(&handlers.create_contact.accounts),
        HandlerName::LogNote => u64::from(handlers.log_note.message_lookup != MessageLookup::None),
        HandlerName::FlagOptOut | HandlerName::SyncContact | HandlerName::RecordHistory => 0,
    }
}

/// With none configured here (under `hookline dev`) there is one all the same where work waits.
fn accounts(configured: &[String]) -> u64 {
    configured.len().max(1) as u64
}

/// Requests per window: as the destination's last answer said, else as documented.
pub(crate) fn limit(gates: &[GateRow], destination: Destination) -> u64 {
    gates
        .iter()
        .find(|gate| gate.destination == destination)
        .and_then(|gate| gate.standing.limit)
        .and_then(|limit| u64::try_from(limit).ok())
        .filter(|limit| *limit > 0)
        .unwrap_or(DEFAULT_LIMIT)
}

/// How long this many calls take, spread evenly: at the pace that was measured, else at `limit` per window.
pub(crate) fn time_for(calls: u64, gates: &[GateRow], destination: Destination) -> Duration {
    let gate = gates.iter().find(|gate| gate.destination == destination);
    let measured = gate.and_then(|gate| gate.standing.per_minute).and_then(|rate| u64::try_from(rate).ok());
    let (limit, window) = match measured.filter(|rate| *rate > 0) {
        Some(per_minute) => (per_minute, MINUTE),
        None => (limit(gates, destination), WINDOW),
    };
    let millis = u128::from(calls) * window.as_millis() / u128::from(limit.max(1));
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use hookline_store::model::GateStanding;

    use super::*;

    fn gate(limit: i64, per_minute: Option<i64>) -> GateRow {
        GateRow {
            destination: Destination::TextUs,
            paused: false,
            reason: None,
            closed_until: None,
            standing: GateStanding { limit: Some(limit), remaining: Some(7), per_minute, failing: false },
        }
    }

    #[test]
    fn a_quota_is_spread_over_its_window() {
        let time_for = |calls, limit| time_for(calls, &[gate(limit, None)], Destination::TextUs);
        assert_eq!(time_for(0, 1_000), Duration::ZERO);
        assert_eq!(time_for(1_000, 1_000), Duration::from_secs(300));
        assert_eq!(time_for(5_000, 1_000), Duration::from_secs(1_500));
        assert_eq!(time_for(10, 100), Duration::from_secs(30));
        assert_eq!(time_for(u64::MAX, 1), Duration::from_millis(u64::MAX));
    }

    #[test]
    fn a_pace_that_was_measured_counts_before_what_is_documented() {
        assert_eq!(time_for(200, &[gate(1_000, Some(100))], Destination::TextUs), Duration::from_secs(120));
        assert_eq!(time_for(1_000, &[], Destination::TextUs), Duration::from_secs(300));
    }

    #[test]
    fn the_limit_is_what_the_destination_said_last() {
        assert_eq!(limit(&[gate(100, None)], Destination::TextUs), 100);
        assert_eq!(limit(&[], Destination::TextUs), 1_000);
    }
}
