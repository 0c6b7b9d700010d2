//! What both sides of the queue must agree on, and nothing that only one of them owns: the event, its names, the
//! settings, and the base of a service. The crate uses neither actix-web nor reqwest nor lapin.

pub mod backoff;
pub mod certificates;
pub mod event;
pub mod held_file;
pub mod json;
pub mod keywords;
pub mod names;
pub mod note_text;
pub mod person_text;
pub mod phone;
pub mod private_address;
pub mod secret;
pub mod service;
pub mod settings;
pub mod signing_key;
pub mod subjects;
pub mod task;
pub mod template;
pub mod testing;
pub mod time;
pub mod time_zone;
pub mod written;
