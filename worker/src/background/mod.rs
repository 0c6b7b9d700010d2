//! What a worker does besides its deliveries: moves dead letters, tells of depths,
//! unsent opt-outs and the webhooks' subscription, ends retention, says that it is there.

pub mod dead_letters;
pub(crate) mod housekeeping;
pub mod pace;
pub(crate) mod presence;
pub mod subscription;
pub mod unsent;
