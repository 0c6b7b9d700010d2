//! The way of a delivery: `consume` takes it from its queue, a handler does what it asks for, `settle` records how that
//! ended and only then answers the broker; `retry` chooses when a failed one comes again.

pub(crate) mod consume;
pub mod handler;
pub(crate) mod patience;
pub(crate) mod retry;
pub(crate) mod settle;
