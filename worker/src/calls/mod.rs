//! Makes one call to any destination: through its gate, over HTTP, and into the log of its attempt.

pub(crate) mod coalesce;
pub(crate) mod held;
pub(crate) mod http;
pub mod log;
pub(crate) mod world;
