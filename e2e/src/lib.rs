//! Support for tests of the built binaries. It builds and finds the binaries, runs them in their own directories, kills
//! them, posts webhooks as a sender does, and accounts for every event by its id. The sandbox of the TextUs API runs in
//! the test's process, so that it outlives a `kill -9` of ours.
//!
//! Everything starts on port 0 and in a temporary directory, so tests can run side by side. Every process is killed
//! when its handle is dropped. Tests wait for a condition with a deadline, never for a fixed time.

mod accounts;
mod all_in_one;
mod binaries;
mod commands;
#[cfg(feature = "testing")]
mod deployment;
#[cfg(feature = "testing")]
mod people;
mod preload;
mod process;
mod proxy;
mod sender;
mod wait;

pub use accounts::{Accounts, HANDLERS, KEYWORD_HANDLERS, STATES, handlers_of};
pub use all_in_one::{ACCOUNT, AllInOne, Running, SECOND_ACCOUNT, SECRET, TOKEN};
pub use binaries::{HOOKLINE, HOOKLINE_INGEST, HOOKLINE_WORKER, binary};
#[cfg(feature = "testing")]
pub use deployment::{Deployment, Half, Load, Part, Tally, send_all};
#[cfg(feature = "testing")]
pub use people::People;
pub use preload::preload;
pub use process::{Process, Ran, run};
pub use proxy::{Direction, Proxy, Toxics};
pub use sender::{Answer, Sender};
pub use wait::{DEADLINE, eventually};
