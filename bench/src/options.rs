//! What the benchmark is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use hookline_common::secret::Secret;

/// What is measured.
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
    /// RabbitMQ, in a virtual host that is the benchmark's own. Empty: the embedded broker only.
    pub broker_urls: Vec<Secret>,
    /// PostgreSQL, a database that is the benchmark's own. `None`: SQLite only.
    pub store_url: Option<Secret>,
    /// Requests or calls in flight. Empty: 1, 16, 64, 256 for ingest, 10, 100, 1000 for the worker.
    pub concurrencies: Vec<u16>,
    /// Length of one measurement.
    pub seconds: u32,
    pub runs: u32,
    /// Where embedded brokers and SQLite files are made, and removed: the disk that is measured. It must be there.
    pub data_dir: PathBuf,
    /// The executable whose `process KIND` calls [`crate::process::run`].
    pub executable: PathBuf,
}

impl Options {
    pub(crate) fn concurrencies_or(&self, defaults: &[u16]) -> Vec<u16> {
        if self.concurrencies.is_empty() { defaults.to_vec() } else { self.concurrencies.clone() }
    }

    /// Too short for any figure: it is seen that everything can be measured.
    pub(crate) fn is_brief(&self) -> bool {
        self.seconds < 2
    }

    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds))
    }
}

/// Told how far the benchmark is.
pub trait Progress: Sync {
    /// How many steps there will be.
    fn steps(&self, count: u64);
    /// A step begins.
    fn begin(&self, step: &str);
}
