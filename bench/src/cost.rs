//! What a process costs in memory.

use serde::Serialize;

/// One process of ours.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessCost {
    /// `ingest` or `worker`.
    pub process: &'static str,
    pub broker: &'static str,
    /// `None` for ingest, which has none.
    pub store: Option<&'static str>,
    /// Resident set five seconds after its start, nothing to do.
    pub idle_mib: f64,
    /// The largest resident set of all measurements at concurrency 100 or less (worker) or all of them (ingest).
    pub loaded_mib: f64,
}
