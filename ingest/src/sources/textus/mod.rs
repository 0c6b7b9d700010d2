//! TextUs as a source: `X-TextUs-Signature` over the raw body, and JSON-LD-like payloads dispatched on `action`.

pub mod payload;
pub mod signature;
