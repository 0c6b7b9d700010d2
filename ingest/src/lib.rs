//! Hookline's HTTP edge: verify, make durable, acknowledge. It knows sources and the broker, and calls no API.
//!
//! A request's way: `routes::webhooks` (limits, raw body) → [`sources`] (are these bytes theirs, what do they
//! say) → the broker, until durable → 200. Everything that is not durable is answered 503 with `Retry-After`
//! (docs/reference.md, "HTTP: webhooks").

pub mod app;
pub mod service;
pub mod sources;
pub mod spool;

mod connection;
mod durable;
mod error;
mod log_throttle;
mod open_files;
mod request_id;
mod routes;
mod tls;
