//! The HTTP routes, and the reading of request bodies.

pub(crate) mod body;
pub(crate) mod buffered;
pub(crate) mod webhooks;
