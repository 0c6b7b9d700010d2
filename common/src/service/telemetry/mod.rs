//! Logs, metrics and the progress feed: what Hookline tells about itself. Nothing here ever holds a payload, a
//! phone number, a name or a secret (docs/guarantees.md, 8).

pub mod logging;
pub mod metrics;
pub mod progress;
