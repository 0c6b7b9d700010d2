//! What the two sides of the queue must agree on, and nothing that one of them owns alone: the event, the
//! broker, the settings, telemetry. Names neither actix-web nor reqwest.

pub mod admin;
pub mod backoff;
pub mod broker;
pub mod event;
pub mod json;
pub mod keywords;
pub mod names;
pub mod phone;
pub mod reload;
pub mod secret;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod subjects;
pub mod telemetry;
pub mod testing;
pub mod time;
pub mod topology;
pub mod written;
