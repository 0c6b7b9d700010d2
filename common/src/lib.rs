//! What both sides of the queue must agree on, and nothing that only one of them owns: the event, its names, the
//! settings, and the base of a service. The crate uses neither actix-web nor reqwest nor lapin.

pub mod backoff;
pub mod certificates;
pub mod event;
pub mod held_file;
pub mod json;
pub mod keywords;
pub mod names;
pub mod phone;
pub mod secret;
pub mod service;
pub mod settings;
pub mod subjects;
pub mod task;
pub mod testing;
pub mod time;
pub mod written;
