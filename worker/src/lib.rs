//! Queue in, API calls out: consumes each handler's queue, makes the calls, settles every delivery once.
//!
//! The way of a delivery: `delivery::consume` takes it, `store.begin` says whether it is still to be done, the handler looks
//! up, decides, writes and says how it ended, `delivery::settle` records that and only then answers the broker. Dying at any
//! line repeats a delivery and never loses one; effects are keyed, so that a repeat changes nothing.

pub mod app;
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
