//! Requests of operators and running workers: gates, workers, erasure and its audit, the kind of the store.

pub(crate) mod audit;
pub(crate) mod erasure;
pub(crate) mod gates;
pub(crate) mod kind;
pub(crate) mod model;
pub(crate) mod workers;
