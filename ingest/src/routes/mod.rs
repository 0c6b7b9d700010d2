//! One file per path.

pub(crate) mod body;
pub(crate) mod webhooks;
