//! What Hookline reports about itself: logs, metrics and the progress feed. They never hold a payload, a phone number,
//! a name or a secret (docs/guarantees.md, 8).

pub mod log_writer;
pub mod logging;
pub mod metrics;
pub mod progress;
