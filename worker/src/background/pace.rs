//! Estimates how many API calls the waiting work needs, and how long they take at a destination's quota. The metrics
//! and `hookline status` use the same numbers. Pure.

use std::time::Duration;

use hookline_broker::QueueDepth;
use hookline_common::names::{Destination, HandlerName, Queue};
use hookline_common::settings::{MessageLookup, Settings};
use hookline_common::time::Timestamp;
use hookline_store::model::{GateRow, Waiting};

/// Requests per window and token if no answer reports a limit. TextUs allows 1,000 requests in 5 minutes per token
/// (<https://apidocs.next.textus.com/overview/rate_limiting>).
const DEFAULT_LIMIT: u64 = 1_000;
const WINDOW: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);

/// Returns the deliveries that each handler still has to do. `known` holds those that the store knows of. RabbitMQ
/// counts only ready messages, so there the larger of the two counts.
#[must_use]
pub fn backlog(depths: &[QueueDepth], known: &[(HandlerName, u64)]) -> Vec<(HandlerName, u64)> {
    let known = |handler| known.iter().find(|(name, _)| *name == handler).map_or(0, |(_, waiting)| *waiting);
    let of = |depth: &QueueDepth| match depth.queue {
        Queue::Work(handler) if counts_only_ready(depth) => Some((handler, depth.messages.max(known(handler)))),
        Queue::Work(handler) => Some((handler, depth.messages)),
        Queue::Dead(_) => None,
    };
    depths.iter().filter_map(of).collect()
}

/// Returns when the oldest event of a queue was received, as far as the broker or else the store knows.
#[must_use]
pub fn oldest(depth: &QueueDepth, waiting: &[Waiting]) -> Option<Timestamp> {
    let of_queue = |of: &&Waiting| depth.queue == Queue::Work(of.handler);
    depth.oldest.or_else(|| waiting.iter().find(of_queue).map(|of| of.oldest))
}

/// Returns whether this depth counts only ready messages: parked and handed-out ones are missing, and so is any age.
#[must_use]
pub fn counts_only_ready(depth: &QueueDepth) -> bool {
    depth.consumers.is_some()
}

/// Returns how long a destination's backlog takes while calls flow, without pauses and outages; `None` if no quota says
/// how fast it goes.
#[must_use]
pub fn to_drain(
    settings: &Settings,
    gates: &[GateRow],
    backlog: &[(HandlerName, u64)],
    of: Destination,
) -> Option<Duration> {
    let work = backlog.iter().copied();
    match of {
        Destination::TextUs => {
            let calls = work.map(|(handler, messages)| messages.saturating_mul(calls(settings, handler))).sum();
            Some(time_for(calls, gates, of))
        }
        // Without a quota, the backlog is known to be over only if nothing waits.
        Destination::SystemOfRecord | Destination::Store => {
            let waits = work.filter(|(handler, _)| destination(*handler) == of).any(|(_, n)| n > 0);
            (!waits).then_some(Duration::ZERO)
        }
    }
}

/// Returns the destination that a handler writes to.
const fn destination(handler: HandlerName) -> Destination {
    match handler {
        HandlerName::RecordOptOut | HandlerName::CreateContact => Destination::TextUs,
        HandlerName::FlagOptOut | HandlerName::LogNote | HandlerName::SyncContact => Destination::SystemOfRecord,
        HandlerName::RecordHistory => Destination::Store,
    }
}

/// Estimates the calls to TextUs that one delivery of this handler makes, without retries.
#[must_use]
pub fn calls(settings: &Settings, handler: HandlerName) -> u64 {
    let handlers = &settings.handlers;
    match handler {
        HandlerName::RecordOptOut => accounts(&handlers.record_opt_out.accounts),
        // Two look-ups, then the POST, for a contact with one number.
        HandlerName::CreateContact => 3 * accounts(&handlers.create_contact.accounts),
        HandlerName::LogNote => u64::from(handlers.log_note.message_lookup != MessageLookup::None),
        HandlerName::FlagOptOut | HandlerName::SyncContact | HandlerName::RecordHistory => 0,
    }
}

/// Counts at least one account: under `hookline dev` none is configured here, yet work may wait for one.
fn accounts(configured: &[String]) -> u64 {
    configured.len().max(1) as u64
}

/// Returns the requests per window from the destination's last answer, or else the documented number.
fn limit(gates: &[GateRow], destination: Destination) -> u64 {
    gates
        .iter()
        .find(|gate| gate.destination == destination)
        .and_then(|gate| gate.standing.limit)
        .and_then(|limit| u64::try_from(limit).ok())
        .filter(|limit| *limit > 0)
        .unwrap_or(DEFAULT_LIMIT)
}

/// Returns how long this many calls take, spread evenly: at the reported pace, or else at `limit` per window.
#[must_use]
pub fn time_for(calls: u64, gates: &[GateRow], destination: Destination) -> Duration {
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
            standing: GateStanding { limit: Some(limit), remaining: Some(7), per_minute, failing: Vec::new() },
            policy: None,
        }
    }

    fn depth(queue: Queue, messages: u64, consumers: Option<u32>) -> QueueDepth {
        QueueDepth { queue, messages, oldest: None, consumers }
    }

    #[test]
    fn what_rabbitmq_does_not_count_is_counted_by_the_store() {
        let (opt_outs, notes) = (HandlerName::RecordOptOut, HandlerName::LogNote);
        let of = |consumers| {
            let depths = [
                depth(Queue::Work(opt_outs), 3, consumers),
                depth(Queue::Dead(opt_outs), 9, consumers),
                depth(Queue::Work(notes), 8, consumers),
            ];
            backlog(&depths, &[(opt_outs, 7), (notes, 7)])
        };

        assert_eq!(of(Some(1)), [(opt_outs, 7), (notes, 8)]);
        assert_eq!(of(None), [(opt_outs, 3), (notes, 8)]);
    }

    #[test]
    fn without_a_quota_only_an_empty_backlog_is_known_to_be_over() {
        let to_drain = |notes| {
            let backlog = [(HandlerName::RecordOptOut, 5), (HandlerName::LogNote, notes)];
            super::to_drain(&Settings::defaults(), &[gate(1_000, None)], &backlog, Destination::SystemOfRecord)
        };

        assert_eq!(to_drain(0), Some(Duration::ZERO));
        assert_eq!(to_drain(1), None);
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
