//! The TextUs REST API (<https://apidocs.next.textus.com/overview/making_requests/>): what we call (`client`), what it
//! answers (`types`), and how its resources refer to each other (`links`).

pub mod client;
pub mod limits;
pub mod links;
mod paths;
mod people;
mod token;
pub mod types;
