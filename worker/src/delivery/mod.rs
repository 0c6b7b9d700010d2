//! The way of a delivery: `consume` takes it from its queue, a handler does what it asks for, `settle` records how that
//! ended and only then answers the broker; `retry` chooses when a failed one comes again. `pauses` and `undelivered` publish
//! anew what a pause held and what is in no queue any more.

pub(crate) mod consume;
pub(crate) mod erased;
pub mod handler;
pub(crate) mod history_lag;
pub(crate) mod patience;
pub(crate) mod pauses;
pub(crate) mod retry;
pub(crate) mod settle;
pub(crate) mod undelivered;
