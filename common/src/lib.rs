//! What the two sides of the queue must agree on, and nothing that one of them owns alone: the event, the
//! broker, the settings, telemetry. Names neither actix-web nor reqwest.

pub mod backoff;
pub mod event;
pub mod json;
pub mod keywords;
pub mod names;
pub mod phone;
pub mod secret;
pub mod service;
pub mod settings;
pub mod subjects;
pub mod testing;
pub mod time;
pub mod written;
