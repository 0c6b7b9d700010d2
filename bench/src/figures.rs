//! Rates and latencies of one measurement, and how several measurements are summarised.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Maximum latency that is recorded: a minute, in microseconds. Nothing that is measured takes longer.
const MAX_MICROS: u64 = 60_000_000;

/// The figures of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// The number of good answers behind the figures.
    pub answered: u64,
    /// User and system time of the answering process per 1,000 good answers; the load of other processes is not in it.
    /// `None` if there is no such process.
    pub cpu_seconds_per_1000: Option<f64>,
    /// The number of other answers and broken connections. They are not in the figures; above 0, the figures can't be
    /// trusted.
    pub failed: u64,
}

impl Figures {
    /// Returns the median of each figure; the numbers of answers and failures are summed.
    #[must_use]
    pub fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure));
        Self {
            per_second: of(|run| run.per_second),
            p50_ms: of(|run| run.p50_ms),
            p99_ms: of(|run| run.p99_ms),
            cpu_seconds_per_1000: Some(median(runs.iter().filter_map(|run| run.cpu_seconds_per_1000)))
                .filter(|seconds| !seconds.is_nan()),
            answered: runs.iter().map(|run| run.answered).sum(),
            failed: runs.iter().map(|run| run.failed).sum(),
        }
    }
}

/// Returns the median of the values, or NaN without values.
#[must_use]
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The distribution of values. Without values all are NaN, which is `null` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    // Nearest rank: the smallest value that `percent` of all values do not exceed.
    let at = |percent: usize| values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    let or_nan = |value: Option<f64>| value.unwrap_or(f64::NAN);
    Spread { p50: or_nan(at(50)), p90: or_nan(at(90)), p99: or_nan(at(99)), max: or_nan(values.last().copied()) }
}

/// Counts answers and keeps their latencies.
pub(crate) struct Tally {
    latencies: Histogram<u64>,
    outside: u64,
    failed: u64,
}

impl Tally {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_max(MAX_MICROS, 3).context("making a histogram")?;
        Ok(Self { latencies, outside: 0, failed: 0 })
    }

    pub(crate) fn answered(&mut self, took: Duration) {
        self.latencies.saturating_record(u64::try_from(took.as_micros()).unwrap_or(MAX_MICROS));
    }

    /// Counts a good answer before or after the window, which is in no figure.
    pub(crate) fn answered_outside(&mut self) {
        self.outside += 1;
    }

    /// Returns the number of all good answers, inside and outside the window.
    pub(crate) fn all(&self) -> u64 {
        self.latencies.len() + self.outside
    }

    pub(crate) fn failed(&mut self) {
        self.failed += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.failed += other.failed;
        self.outside += other.outside;
        self.latencies.add(&other.latencies).context("adding histograms")
    }

    pub(crate) fn figures(&self, window: Duration) -> Figures {
        let millis = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1000.0;
        Figures {
            per_second: self.latencies.len() as f64 / window.as_secs_f64(),
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
            answered: self.latencies.len(),
            cpu_seconds_per_1000: None,
            failed: self.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_middles() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_spread_is_made_of_values_that_were_there() {
        let hundred = spread((1..=100).rev().map(f64::from));
        assert_eq!(hundred, Spread { p50: 50.0, p90: 90.0, p99: 99.0, max: 100.0 });

        let three = spread([3.0, 1.0, 2.0]);
        assert_eq!(three, Spread { p50: 2.0, p90: 3.0, p99: 3.0, max: 3.0 });
        assert!(spread([]).p99.is_nan());
    }

    #[test]
    fn figures_count_good_answers_only() {
        let mut tally = Tally::new().unwrap();
        for millis in 1..=100 {
            tally.answered(Duration::from_millis(millis));
        }
        tally.failed();

        let figures = tally.figures(Duration::from_secs(2));

        assert_eq!((figures.per_second, figures.answered, figures.failed), (50.0, 100, 1));
        assert!((figures.p50_ms - 50.0).abs() < 0.1, "{figures:?}");
        assert!((figures.p99_ms - 99.0).abs() < 0.1, "{figures:?}");
    }
}
