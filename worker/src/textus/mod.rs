//! The TextUs REST API (<https://apidocs.next.textus.com/overview/making_requests/>): what we call (`client`), what it
//! answers (`types`), what proves an opt-out (`opt_outs`), and how its resources refer to each other (`links`).

pub mod client;
pub mod integrations;
pub mod limits;
pub mod links;
pub mod opt_outs;
mod paths;
pub mod payload;
mod people;
mod token;
pub mod types;
