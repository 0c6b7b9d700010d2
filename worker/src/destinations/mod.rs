//! REST APIs that Hookline calls. A destination knows no queue: it makes one call through its gate, says what the
//! answer means, and leaves retries, acknowledgements and records to others.

pub mod calls;
pub(crate) mod coalesce;
pub mod error;
pub(crate) mod error_text;
pub(crate) mod held;
pub(crate) mod http;
pub mod limits;
pub mod redact;
pub mod segment;
pub(crate) mod standing;
pub mod status;
pub(crate) mod world;
