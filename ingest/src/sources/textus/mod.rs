//! TextUs: `X-TextUs-Signature` over the raw body, JSON-LD-like payloads dispatched on `action`.

pub mod payload;
pub mod signature;
