//! Summarises the answers to the posts: statuses, distinct events, latencies.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::output;

/// How one post ended.
pub(super) struct Answer {
    /// `None` if no answer came.
    pub(super) status: Option<u16>,
    pub(super) event_id: Option<String>,
    pub(super) took: Duration,
}

#[derive(Default)]
pub(super) struct Summary {
    statuses: BTreeMap<u16, u64>,
    no_answer: u64,
    event_ids: HashSet<String>,
    repeats: u64,
    latencies: Vec<Duration>,
    pub(super) elapsed: Duration,
}

impl Summary {
    pub(super) fn add(&mut self, answer: Answer, repeat: bool) {
        self.repeats += u64::from(repeat);
        match answer.status {
            Some(status) => {
                *self.statuses.entry(status).or_default() += 1;
                self.latencies.push(answer.took);
            }
            None => self.no_answer += 1,
        }
        self.event_ids.extend(answer.event_id);
    }

    /// Adds the figures of another worker.
    pub(super) fn merge(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.no_answer += other.no_answer;
        self.event_ids.extend(other.event_ids);
        self.repeats += other.repeats;
        self.latencies.extend(other.latencies);
    }

    fn sent(&self) -> u64 {
        self.no_answer + self.statuses.values().sum::<u64>()
    }

    /// Returns whether every post was answered 2xx.
    pub(super) fn all_accepted(&self) -> bool {
        self.no_answer == 0 && self.statuses.keys().all(|status| (200..300).contains(status))
    }

    pub(super) fn print(mut self, as_json: bool) -> anyhow::Result<ExitCode> {
        self.latencies.sort_unstable();
        if as_json {
            output::print_json(&self.document())?;
        } else {
            output::print(&self.text())?;
        }
        if self.statuses.contains_key(&401) {
            output::hint("401: signed with another secret than the source has; give its secret with --secret.");
        }
        Ok(if self.all_accepted() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn rate(&self) -> f64 {
        self.sent() as f64 / self.elapsed.as_secs_f64().max(0.001)
    }

    fn document(&self) -> Value {
        let statuses: BTreeMap<String, u64> =
            self.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect();
        let mut event_ids: Vec<&str> = self.event_ids.iter().map(String::as_str).collect();
        event_ids.sort_unstable();
        json!({
            "sent": self.sent(),
            "statuses": statuses,
            "no_answer": self.no_answer,
            "distinct_event_ids": self.event_ids.len(),
            "event_ids": event_ids,
            "duplicates_sent": self.repeats,
            "latency_ms": {
                "p50": millis(percentile(&self.latencies, 50.0)),
                "p95": millis(percentile(&self.latencies, 95.0)),
                "p99": millis(percentile(&self.latencies, 99.0)),
                "max": millis(percentile(&self.latencies, 100.0)),
            },
            "seconds": self.elapsed.as_secs_f64(),
            "rate": self.rate(),
        })
    }

    fn text(&self) -> String {
        let statuses: Vec<String> = self.statuses.iter().map(|(status, count)| format!("{count} × {status}")).collect();
        let mut answers = statuses.join(", ");
        if self.no_answer > 0 {
            let separator = if answers.is_empty() { "" } else { ", " };
            answers.push_str(&format!("{separator}{} × no answer", self.no_answer));
        }
        let mut text = format!("sent       {}\nanswers    {answers}\n", self.sent());
        match (self.event_ids.len(), self.event_ids.iter().next()) {
            (1, Some(id)) => text.push_str(&format!("event      {id}\n")),
            (distinct, _) => text.push_str(&format!("events     {distinct} distinct\n")),
        }
        if self.repeats > 0 {
            text.push_str(&format!("repeats    {} sent on purpose\n", self.repeats));
        }
        let latency =
            |percent| millis(percentile(&self.latencies, percent)).map_or("-".to_owned(), |ms| format!("{ms} ms"));
        text.push_str(&format!(
            "latency    p50 {}, p95 {}, p99 {}, max {}\nrate       {:.0} a second\n",
            latency(50.0),
            latency(95.0),
            latency(99.0),
            latency(100.0),
            self.rate()
        ));
        text
    }
}

/// Converts to milliseconds with two decimals.
fn millis(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| (duration.as_secs_f64() * 100_000.0).round() / 100.0)
}

/// Returns the smallest value that `percent` of all values do not exceed (nearest rank), or `None` without values.
fn percentile(sorted: &[Duration], percent: f64) -> Option<Duration> {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: Option<u16>, id: &str, millis: u64) -> Answer {
        Answer { status, event_id: Some(id.to_owned()), took: Duration::from_millis(millis) }
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();

        for (percent, expected) in [(50.0, 100), (95.0, 190), (99.0, 198), (100.0, 200), (0.0, 1)] {
            assert_eq!(percentile(&values, percent), Some(Duration::from_millis(expected)), "{percent}");
        }
        assert_eq!(percentile(&values[..1], 99.0), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn repeats_count_as_sent_but_not_as_events() {
        let mut summary = Summary::default();
        summary.add(answer(Some(200), "a", 1), false);
        let mut other = Summary::default();
        other.add(answer(Some(200), "a", 3), true);
        summary.merge(other);

        let document = summary.document();

        assert_eq!(document["sent"], 2);
        assert_eq!(document["distinct_event_ids"], 1);
        assert_eq!(document["duplicates_sent"], 1);
        assert_eq!(document["statuses"]["200"], 2);
        assert_eq!(document["latency_ms"]["max"], 3.0);
        assert!(summary.all_accepted());
    }

    #[test]
    fn anything_but_2xx_is_no_success() {
        for status in [None, Some(199), Some(302), Some(401), Some(503)] {
            let mut summary = Summary::default();
            summary.add(answer(Some(200), "a", 1), false);
            summary.add(answer(status, "b", 1), false);
            assert!(!summary.all_accepted(), "{status:?}");
        }
    }
}
