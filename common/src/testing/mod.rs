//! Test support, behind the feature `testing`. Only the crash points are always there: they stand in real code, and do
//! nothing without the feature.

mod crash;

#[cfg(feature = "testing")]
pub mod events;
#[cfg(feature = "testing")]
pub mod nodes;

pub use crash::crash_point;
