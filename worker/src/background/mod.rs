//! A worker's background work: moving dead letters, reporting queue depths, unsent opt-outs and the webhooks'
//! subscription, searching people again, ending retention, and reporting its presence.

pub mod dead_letters;
pub(crate) mod flag_checks;
pub(crate) mod housekeeping;
pub mod pace;
pub(crate) mod presence;
pub mod subscription;
pub mod unsent;
