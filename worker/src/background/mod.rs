//! What a worker does besides its deliveries: moves dead letters, publishes anew what is in no queue, tells of depths,
//! unsent opt-outs and the webhooks' subscription, ends retention, says that it is there.

pub mod dead_letters;
pub(crate) mod erased;
pub(crate) mod housekeeping;
pub mod pace;
pub(crate) mod pauses;
pub(crate) mod presence;
pub mod subscription;
pub(crate) mod undelivered;
pub mod unsent;
