//! Logs, metrics and the journey feed: what Hookline tells about itself. Nothing here ever holds a payload, a
//! phone number, a name or a secret (docs/guarantees.md, 8).

pub mod journey;
pub mod logging;
pub mod metrics;
