//! The path of a delivery. `consume` takes it from its queue, a handler does the work, and `settle` records the outcome
//! and only then answers the broker. `retry` chooses when a failed delivery comes again. `pauses` republishes
//! deliveries that a pause held, and `undelivered` those that are in no queue any more.

pub(crate) mod consume;
pub(crate) mod erased;
pub mod handler;
pub(crate) mod history_lag;
pub(crate) mod patience;
pub(crate) mod pauses;
pub(crate) mod retry;
pub(crate) mod settle;
pub(crate) mod undelivered;
