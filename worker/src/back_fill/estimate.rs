//! How long calls take at what the destination allows. Pure.

use std::time::Duration;

use hookline_common::names::Destination;
use hookline_store::model::GateRow;

use crate::records::Cost;

/// Returns how long calls and searches take, spread evenly; `None` if nothing says how fast they may be made.
pub(super) fn time_for(calls: u64, searches: u64, cost: Cost, gates: &[GateRow]) -> Option<Duration> {
    let minute = Duration::from_secs(60);
    let gate = gates.iter().find(|gate| gate.destination == Destination::SystemOfRecord);
    let reported = gate.and_then(|gate| gate.standing.per_minute).and_then(|calls| u64::try_from(calls).ok());
    let pace = reported.filter(|calls| *calls > 0).map(|calls| (calls, minute)).or(cost.calls);
    let by_calls = pace.map(|pace| at(calls, pace));
    let by_searches = cost.searches.map(|pace| at(searches, pace));
    by_calls.max(by_searches)
}

fn at(calls: u64, (allowed, window): (u64, Duration)) -> Duration {
    let millis = u128::from(calls) * window.as_millis() / u128::from(allowed.max(1));
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use hookline_store::model::GateStanding;

    use super::*;

    #[test]
    fn the_slower_of_calls_and_searches_counts_and_what_was_reported_before_what_is_documented() {
        let gate = |per_minute| GateRow {
            destination: Destination::SystemOfRecord,
            paused: false,
            reason: None,
            closed_until: None,
            standing: GateStanding { limit: None, remaining: None, per_minute, failing: Vec::new() },
            policy: None,
        };
        let (second, ten) = (Duration::from_secs(1), Duration::from_secs(10));
        let cost = Cost { calls: Some((100, ten)), searches: Some((2, second)), ..Cost::default() };

        assert_eq!(time_for(1_000, 0, cost, &[]), Some(Duration::from_secs(100)));
        assert_eq!(time_for(1_000, 400, cost, &[]), Some(Duration::from_secs(200)));
        assert_eq!(time_for(1_000, 0, cost, &[gate(Some(1_200))]), Some(Duration::from_secs(50)));
        assert_eq!(time_for(1_000, 9, Cost::default(), &[gate(None)]), None);
    }
}
