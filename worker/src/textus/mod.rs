//! The TextUs REST API (<https://apidocs.next.textus.com/overview/making_requests/>): the calls we make (`client`), the
//! answers (`types`), what proves an opt-out (`opt_outs`), and how resources refer to each other (`links`).

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
