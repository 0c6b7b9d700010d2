//! The consuming half of Hookline: consumes each handler's queue, makes the API calls and settles every delivery once.
//!
//! A delivery passes four steps. `delivery::consume` takes it from the queue. `store.begin` says whether it still has
//! to be done. The handler looks up, decides, writes and returns how the attempt ended. `delivery::settle` records that
//! and only then answers the broker. A crash at any line repeats a delivery and never loses one. Effects are keyed, so
//! a repeat changes nothing.

pub mod app;
pub mod back_fill;
pub mod background;
pub mod calls;
pub mod delivery;
pub mod destinations;
pub mod gate;
mod handlers;
mod on_drop;
pub mod open;
pub mod records;
pub mod service;
pub mod textus;
