//! Deliveries: received events, what each handler did, what waits and where, and what was given up.

pub(crate) mod attempts;
pub(crate) mod dead_letters;
pub(crate) mod delivery;
pub(crate) mod history;
pub(crate) mod model;
pub(crate) mod parked;
pub(crate) mod undelivered;
pub(crate) mod unrouted;
pub(crate) mod waiting;
