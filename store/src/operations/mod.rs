//! What operators and running workers ask of the store: gates, workers, erasure, its audit, which world it is of.

pub(crate) mod audit;
pub(crate) mod erasure;
pub(crate) mod gates;
pub(crate) mod kind;
pub(crate) mod model;
pub(crate) mod workers;
