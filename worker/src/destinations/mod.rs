//! REST APIs that Hookline calls. A destination knows no queue. It makes one call through its gate, says what the
//! answer means, and leaves retries, acknowledgements and records to others.

pub mod error;
pub(crate) mod error_text;
pub mod limits;
pub(crate) mod pause_reason;
pub mod priority;
pub mod redact;
pub(crate) mod retry_after;
pub mod segment;
pub(crate) mod standing;
pub mod status;
