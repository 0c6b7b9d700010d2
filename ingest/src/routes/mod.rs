//! One file per path.

pub(crate) mod body;
pub(crate) mod health;
pub(crate) mod webhooks;
