//! The memory that a process costs.

use serde::Serialize;

/// The memory of one of our processes.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessCost {
    /// `ingest` or `worker`.
    pub process: &'static str,
    pub broker: &'static str,
    /// `None` for ingest, which has no store.
    pub store: Option<&'static str>,
    /// Resident set five seconds after the start, while idle.
    pub idle_mib: f64,
    /// The largest resident set, for a worker over all measurements at concurrency 100 or less, for ingest over all.
    pub loaded_mib: f64,
}
