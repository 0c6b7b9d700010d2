//! Hookline's HTTP edge: verifies webhooks, makes them durable and acknowledges them. The crate knows the sources and
//! the broker, and calls no API.
//!
//! A request passes through `routes::webhooks` (limits, raw body), [`sources`] (signature check and event) and the
//! broker (until the event is durable), and is then answered 200. A request whose event is not durable is answered 503
//! with `Retry-After` (docs/reference.md, "HTTP: webhooks").

pub mod app;
pub mod service;
pub mod sources;
pub mod spool;

mod connection;
mod durable;
mod error;
mod listener;
mod log_throttle;
mod open_files;
mod portions;
mod request_id;
mod routes;
mod tls;
