//! The report: the document of `--json`, whose keys are stable, and the data of the tables.

use serde::Serialize;

pub use crate::cost::ProcessCost;
pub use crate::figures::{Figures, Spread};
pub use crate::ingest::{Comparison, IngestMeasurement, IngestReport};
pub use crate::isolation::{IsolationPhase, IsolationReport, IsolationRun};
pub use crate::machine::Machine;
pub use crate::opt_outs::{CallsBefore, OptOutsMeasurement, OptOutsReport};
pub use crate::pacing::{PacingMeasurement, PacingReport, PacingRun};
pub use crate::targets::Target;
pub use crate::worker::{WorkerMeasurement, WorkerReport, WorkerRun};

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub hookline: Build,
    pub machine: Machine,
    /// When the benchmark began, in RFC 3339.
    pub measured_at: String,
    pub seconds: u32,
    pub runs: u32,
    /// `None` if RabbitMQ was not measured or does not announce its version (TLS).
    pub rabbitmq_version: Option<String>,
    pub ingest: Option<IngestReport>,
    pub worker: Option<WorkerReport>,
    pub pacing: Option<PacingReport>,
    pub opt_outs: Option<OptOutsReport>,
    pub isolation: Option<IsolationReport>,
    pub cost: Vec<ProcessCost>,
    pub targets: Vec<Target>,
    /// Parts that were not measured, and how to have them measured.
    pub left_out: Vec<String>,
    /// Reasons to doubt these figures.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Build {
    pub version: &'static str,
    /// Set at build time by `HOOKLINE_COMMIT`.
    pub commit: &'static str,
    pub release: bool,
}

impl Build {
    pub(crate) const THIS: Self = Self {
        version: env!("CARGO_PKG_VERSION"),
        commit: match option_env!("HOOKLINE_COMMIT") {
            Some(commit) => commit,
            None => "unknown",
        },
        release: !cfg!(debug_assertions),
    };
}
