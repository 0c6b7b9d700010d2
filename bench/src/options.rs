//! The options of the benchmark.

use std::path::PathBuf;
use std::time::Duration;

use hookline_common::secret::Secret;

/// A part that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Ingest,
    Worker,
    Pacing,
    OptOuts,
    Isolation,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub parts: Vec<Part>,
    /// URLs of RabbitMQ, in a virtual host used only by the benchmark. Empty means the embedded broker only.
    pub broker_urls: Vec<Secret>,
    /// URL of PostgreSQL, with a database used only by the benchmark. `None` means SQLite only.
    pub store_url: Option<Secret>,
    /// Numbers of requests or calls in flight. Empty means 1, 16, 64, 256 for ingest and 10, 100, 1000 for the worker.
    pub concurrencies: Vec<u16>,
    /// Length of one measurement, in seconds.
    pub seconds: u32,
    pub runs: u32,
    /// Directory in which embedded brokers and SQLite files are created and removed. Its disk is the one that is
    /// measured, and it must exist.
    pub data_dir: PathBuf,
    /// The executable whose `process KIND` calls [`crate::process::run`].
    pub executable: PathBuf,
}

impl Options {
    pub(crate) fn concurrencies_or(&self, defaults: &[u16]) -> Vec<u16> {
        if self.concurrencies.is_empty() { defaults.to_vec() } else { self.concurrencies.clone() }
    }

    /// Returns whether the measurements are too short for any figure, and only show that everything can be measured.
    pub(crate) fn is_brief(&self) -> bool {
        self.seconds < 2
    }

    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds))
    }
}

/// Receives the progress of the benchmark.
pub trait Progress: Sync {
    /// Announces the number of steps.
    fn steps(&self, count: u64);
    /// Announces that a step begins.
    fn begin(&self, step: &str);
}
