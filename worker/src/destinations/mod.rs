//! REST APIs that Hookline calls. A destination knows no queue: it makes one call through its gate, says what the
//! answer means, and leaves retries, acknowledgements and records to others.

pub mod calls;
mod coalesce;
pub mod error;
mod error_text;
mod held;
mod http;
pub mod limits;
pub mod redact;
pub mod segment;
pub(crate) mod standing;
pub mod status;
pub mod textus;
mod world;
