//! Queue in, API calls out: consumes each handler's queue, makes the calls, settles every delivery once.
//!
//! The way of a delivery: `consumer` takes it, `store.begin` says whether it is still to be done, the handler looks
//! up, decides, writes and says how it ended, `settle` records that and only then answers the broker. Dying at any
//! line repeats a delivery and never loses one; effects are keyed, so that a repeat changes nothing.

pub mod app;
mod consumer;
pub mod dead_letters;
pub mod destinations;
mod erased;
pub mod gate;
pub mod handler;
mod handlers;
mod history;
mod housekeeping;
mod missing;
mod on_drop;
pub mod open;
pub mod pace;
mod patience;
mod pauses;
pub mod payload;
mod presence;
pub mod records;
mod retry;
pub mod service;
mod settle;
pub mod subscription;
pub mod unsent;
